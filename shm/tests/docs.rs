//! The pages of `docs/` that describe the region, compared with the source that they describe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Labels = BTreeSet<String>;

/// What is known of one label: the files that bear it, and the labels that it names as partners.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    files: BTreeSet<String>,
    partners: Labels,
}

/// Goal: a label of the code is explained, an explained label exists, and partners name each other.
#[test]
fn every_memory_ordering_is_explained() {
    let code = labels_of_code();
    let page = labels_of_page(&read(&docs().join("memory-ordering.md")));
    assert!(code.len() > 30, "only {} labels were found in the source", code.len());
    let mut problems = Vec::new();
    for label in code.keys().chain(page.keys()).collect::<BTreeSet<_>>() {
        match (code.get(label), page.get(label)) {
            (Some(code), Some(page)) if code != page => {
                problems.push(format!("{label}\n  code {code:?}\n  page {page:?}"));
            }
            (Some(code), None) => problems.push(format!("{label} is not explained: {code:?}")),
            (None, Some(_)) => problems.push(format!("{label} is explained and in no source")),
            _ => {}
        }
    }
    for (label, facts) in &code {
        if facts.partners.is_empty() {
            problems.push(format!("{label} has no partner"));
        }
        for partner in &facts.partners {
            if !code.get(partner).is_some_and(|other| other.partners.contains(label)) {
                problems.push(format!("{label} names {partner}, which does not name it back"));
            }
        }
    }
    assert!(problems.is_empty(), "docs/memory-ordering.md:\n{}", problems.join("\n"));
}

/// Goal: each field that processes share has a row that says who writes and who reads it.
#[test]
fn every_shared_field_is_explained() {
    let page = read(&docs().join("memory-ordering.md"));
    let (_, tables) = page.split_once("\n## Fields\n").expect("a section about fields");
    let mut explained = BTreeMap::new();
    let mut types: Vec<String> = Vec::new();
    for line in tables.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            types = title.split(", ").map(str::to_owned).collect();
        } else if let Some(row) = line.strip_prefix("| `") {
            let (names, _) = row.split_once(" | ").expect("a row has columns");
            for name in names.split(", ").map(|name| name.trim_matches('`')) {
                explained.entry(name.to_owned()).or_insert_with(Vec::new).extend(types.clone());
            }
        }
    }
    let mut problems = Vec::new();
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    for (owner, field) in shared_fields() {
        if !explained.get(&field).is_some_and(|types| types.contains(&owner)) {
            problems.push(format!("{owner}.{field} is not explained"));
        }
        known.insert((owner, field));
    }
    for (field, types) in &explained {
        if !types.iter().any(|owner| known.contains(&(owner.clone(), field.clone()))) {
            problems
                .push(format!("{field} is explained under {types:?} and exists in none of them"));
        }
    }
    assert!(problems.is_empty(), "docs/memory-ordering.md:\n{}", problems.join("\n"));
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `| `label` | files | order | partners | why |`
fn labels_of_page(page: &str) -> BTreeMap<String, Facts> {
    let (_, table) = page.split_once("\n## Labels\n").expect("a section about labels");
    let table = table.split("\n## ").next().expect("a text has a first part");
    let mut labels = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[label, files, _, partners, why] = columns.as_slice() else {
            panic!("a row of five columns: {line}");
        };
        assert!(!why.is_empty(), "a reason: {line}");
        let list =
            |text: &str| text.split(", ").map(|item| item.trim_matches('`').into()).collect();
        let facts = Facts { files: list(files), partners: list(partners) };
        let label = label.trim_matches('`').to_owned();
        assert!(labels.insert(label, facts).is_none(), "a second row: {line}");
    }
    labels
}

/// `// ORDER label …, pairs with label, label and label…`, over as many comment lines as it takes.
fn labels_of_code() -> BTreeMap<String, Facts> {
    let mut labels: BTreeMap<String, Facts> = BTreeMap::new();
    for path in sources() {
        let file = path.file_name().expect("a file").to_string_lossy().into_owned();
        for comment in comments(&read(&path)) {
            for order in comment.split("ORDER ").skip(1) {
                let (label, rest) = order.split_once([' ', ',', '.']).unwrap_or((order, ""));
                assert!(is_label(label), "{file}: not a label: {order}");
                let facts = labels.entry(label.to_owned()).or_default();
                facts.files.insert(file.clone());
                if let Some((_, named)) = rest.split_once("pairs with ") {
                    facts.partners.extend(leading_labels(named));
                }
            }
        }
    }
    labels
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The text of each comment, its lines joined.
fn comments(source: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in source.lines().map(str::trim) {
        match line.strip_prefix("// ") {
            Some(text) if goes_on => {
                let last = found.last_mut().expect("it goes on");
                last.push(' ');
                last.push_str(text);
            }
            Some(text) => found.push(text.to_owned()),
            None => {}
        }
        goes_on = line.starts_with("//");
    }
    found
}

/// The labels at the beginning of a text: `a/1, b/2 and c/3: because …`.
fn leading_labels(text: &str) -> Labels {
    let words = text.split_whitespace().filter(|word| *word != "and");
    let mut labels = Labels::new();
    for word in words {
        let label = word.trim_end_matches([',', '.', ':', ';', ')']);
        if !is_label(label) {
            break;
        }
        labels.insert(label.to_owned());
        if !word.ends_with(',') && word != label {
            break;
        }
    }
    labels
}

fn is_label(text: &str) -> bool {
    text.split_once('/').is_some_and(|(name, number)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && !number.is_empty()
            && number.chars().all(|c| c.is_ascii_digit())
    })
}

/// Type and name of each field in `layout.rs` that other processes see.
fn shared_fields() -> Vec<(String, String)> {
    let source = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/layout.rs"));
    let mut fields = Vec::new();
    let mut inside: Option<String> = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("pub(crate) struct ") {
            inside = rest.strip_suffix(" {").map(str::to_owned);
        } else if line == "}" {
            inside = None;
        } else if let (Some(owner), Some(field)) = (&inside, line.strip_prefix("    pub(crate) ")) {
            let (name, kind) = field.split_once(": ").expect("a field has a type");
            let ours = ["Atomic", "Line64", "ReclaimLine", "MutexPlace", "Row"];
            if ours.iter().any(|part| kind.contains(part)) {
                fields.push((owner.clone(), name.to_owned()));
            }
        }
    }
    assert!(fields.len() > 50, "only {} shared fields were found", fields.len());
    fields
}

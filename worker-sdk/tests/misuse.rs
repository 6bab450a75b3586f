//! What the compiler refuses: each program in `tests/misuse` is wrong in one place, and right when that is mended.
//!
//! A line that ends with `//~ E0382` is to be an error of that number, of this line, and the only one; without the line the program
//! compiles. `//~ E0277 -> other text` is mended by the other text, and the error may be at any line. In place of a number there may be what
//! the error says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What a line is marked with: what is refused, and what would be right.
struct Mark {
    line: u64,
    refused: String,
    mended: Option<String>,
}

fn marks(source: &str) -> Vec<Mark> {
    let marked = (1..).zip(source.lines());
    let marked = marked.filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1)));
    let mark = |(line, mark): (u64, &str)| match mark.split_once("-> ") {
        Some((refused, mended)) => {
            let mended = Some(mended.to_owned());
            Mark { line, refused: refused.trim().to_owned(), mended }
        }
        None => Mark { line, refused: mark.trim().to_owned(), mended: None },
    };
    marked.map(mark).collect()
}

fn mended(source: &str, marks: &[Mark]) -> String {
    let mut lines: Vec<&str> = source.lines().collect();
    for mark in marks {
        lines[mark.line as usize - 1] = mark.mended.as_deref().unwrap_or("");
    }
    lines.join("\n")
}

/// An error of the compiler.
#[derive(Debug)]
struct Refusal {
    code: String,
    text: String,
    lines: Vec<u64>,
}

fn refusal(message: &serde_json::Value) -> Option<Refusal> {
    let text = message["message"].as_str()?.to_owned();
    // The last line of every compilation that failed has no place.
    let spans = message["spans"].as_array().filter(|spans| !spans.is_empty())?;
    if message["level"] != "error" {
        return None;
    }
    let code = message["code"]["code"].as_str().unwrap_or_default().to_owned();
    let primary = spans.iter().filter(|span| span["is_primary"] == true);
    Some(Refusal { code, text, lines: primary.filter_map(|s| s["line_start"].as_u64()).collect() })
}

/// A package of all programs, each as it is and mended.
fn write_package(place: &Path, cases: &BTreeMap<String, String>) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = format!(
        "[package]\nname = \"misuse\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         hotpair-worker = {{ path = {here:?}, features = [\"derive\"] }}\nzerocopy = {{ version = \"0.8\", features = [\"derive\"] }}\n"
    );
    let _ = fs::remove_dir_all(place.join("src"));
    fs::create_dir_all(place.join("src/bin")).expect("a place for temporary files");
    fs::write(place.join("Cargo.toml"), manifest).expect("a place for temporary files");
    fs::copy(here.join("../Cargo.lock"), place.join("Cargo.lock")).expect("the workspace's");
    for (name, source) in cases {
        let write = |name: &str, text: &str| {
            fs::write(place.join(format!("src/bin/{name}.rs")), text).expect("the same place");
        };
        write(name, source);
        write(&format!("{name}_mended"), &mended(source, &marks(source)));
    }
}

#[test]
fn misuse_does_not_compile() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("misuse");
    let cases: BTreeMap<String, String> = fs::read_dir(here.join("tests/misuse"))
        .expect("the programs")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a program"))
        })
        .collect();
    assert!(cases.len() >= 10, "where are they? {}", cases.len());
    write_package(&place, &cases);
    let mut check = Command::new(env!("CARGO"));
    check.args(["check", "--bins", "--keep-going", "--message-format=json"]).current_dir(&place);
    check.env("CARGO_TARGET_DIR", place.join("target")).env_remove("RUSTFLAGS");
    let output = check.output().expect("cargo");
    let mut refusals: BTreeMap<String, Vec<Refusal>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(said) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let name = said["target"]["name"].as_str().unwrap_or_default().to_owned();
        match said["reason"].as_str() {
            Some("compiler-message") => {
                refusals.entry(name).or_default().extend(refusal(&said["message"]));
            }
            // It compiles.
            Some("compiler-artifact") => drop(refusals.entry(name).or_default()),
            _ => {}
        }
    }
    let said = String::from_utf8_lossy(&output.stderr);
    for (name, source) in &cases {
        let found = refusals.get(name).unwrap_or_else(|| panic!("{name} was not compiled: {said}"));
        let marks = marks(source);
        let mark = marks.first().unwrap_or_else(|| panic!("{name} has no mark"));
        assert!(!found.is_empty(), "{name} compiles");
        for refusal in found {
            let is_meant = refusal.code == mark.refused || refusal.text == mark.refused;
            assert!(
                is_meant,
                "{name} is refused for another reason than {}: {found:#?}",
                mark.refused
            );
            let is_there = mark.mended.is_some() || refusal.lines.contains(&mark.line);
            assert!(is_there, "{name}, line {}: {found:#?}", mark.line);
        }
        let control = format!("{name}_mended");
        let control = refusals.get(&control).unwrap_or_else(|| panic!("{control}: {said}"));
        assert!(control.is_empty(), "{name} does not compile when it is mended: {control:#?}");
    }
}

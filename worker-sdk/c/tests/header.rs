//! `include/hotpair.h` says what the library has.

use std::path::Path;

const PREFACE: &str = "\
/* Workers of hotpair in C. Made from the library's source; the guide is docs/workers-c.md.
 *
 * Functions return 0 or more, or a negative number of errno.h; hotpair_error_text() says the rest in words.
 *
 * A worker's handle belongs to the thread that made it or has adopted it. A call by another thread ends with -EPERM and does
 * nothing; hotpair_stop and hotpair_is_stopped may be called by any. A closed handle is like freed memory.
 *
 * Pointers that are given out lead into the object's own memory; each says until when it is valid. */";

/// The header, made anew.
fn made() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(PREFACE.to_owned()),
        pragma_once: true,
        cpp_compat: true,
        usize_is_size_t: true,
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        documentation_style: cbindgen::DocumentationStyle::C99,
        line_length: 100,
        ..cbindgen::Config::default()
    };
    let files = ["address", "failure", "handle", "worker", "object", "other", "port"];
    let builder =
        files.iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| {
            builder.with_src(source.join(format!("{file}.rs")))
        });
    let mut header = Vec::new();
    builder.generate().expect("source that cbindgen reads").write(&mut header);
    without_safety(&String::from_utf8(header).expect("text"))
}

/// What Rust wants to be told of a pointer goes without saying in C.
fn without_safety(header: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut skips = false;
    for line in header.lines() {
        let comment = line.trim_start().starts_with("//");
        skips = comment && (skips || line.contains("# Safety"));
        if skips {
            while kept.last().is_some_and(|line| line.trim() == "//") {
                kept.pop();
            }
        } else {
            kept.push(line.trim_end());
        }
    }
    kept.join("\n") + "\n"
}

#[test]
fn the_header_is_that_of_the_library() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/hotpair.h");
    let made = made();
    if std::env::var_os("HOTPAIR_BLESS").is_some() {
        std::fs::write(&path, &made).expect("a place for it");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(there.lines()).find(|(made, there)| made != there);
    assert!(
        made == there,
        "include/hotpair.h differs, first in {differs:?}; after a look at why: \
         HOTPAIR_BLESS=1 cargo test -p hotpair-worker-c --test header"
    );
}

//! A sipp scenario with as many re-INVITEs in each call as one likes, out of `storm.xml`.

use std::fs;
use std::path::{Path, PathBuf};

/// Writes the scenario for calls of so many re-INVITEs into `dir`.
pub(crate) fn scenario(dir: &Path, reinvites: u32) -> PathBuf {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sip/storm.xml");
    let template = fs::read_to_string(template).expect("the template is there");
    let (before, rest) = template.split_once("<!-- again -->").expect("it has the mark");
    let (again, after) = rest.split_once("<!-- end -->").expect("it has the other mark");
    let mut text = before.to_owned();
    for number in 1..=reinvites {
        let next = number + 1;
        let block = again.replace("{number}", &number.to_string());
        text.push_str(&block.replace("{next}", &next.to_string()));
    }
    let after = after.replace("{bye}", &(reinvites + 2).to_string());
    text.push_str(&after.replace("{requests}", &(reinvites + 1).to_string()));
    let path = dir.join("storm.xml");
    fs::write(&path, text).expect("it is our directory");
    path
}

//! The file of a run of many benches: JSON lines, first the machine, then a line for each bench and round.
//!
//! ```text
//!   {"v":1,"bench":"all","machine":{…},"rounds":3}
//!   {"v":1,"bench":"claim",…as `hotpair bench claim --json` prints it…,"flags":"","round":1,"noise":{…}}
//!   {"v":1,"bench":"reap","flags":"","round":1,"error":"cannot create the region"}
//! ```
//!
//! Each line is whole by itself, so that a run that was stopped is as good as what it has written; several results of single
//! benches in one file, or in one array, read as a run, too.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::noise::NoiseFigures;
use crate::registry::Measured;

/// Longest file that is read.
const BYTES_MAX: u64 = 64 << 20;

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct RunFile {
    pub(crate) machine: Value,
    pub(crate) results: Vec<Value>,
}

/// A line of it.
#[derive(Debug, Serialize)]
pub struct Line<'m> {
    #[serde(flatten)]
    result: LineResult<'m>,
    flags: &'m str,
    round: u32,
    noise: Option<NoiseFigures>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum LineResult<'m> {
    Measured(&'m Measured),
    Failed { v: u32, bench: &'m str, error: String },
}

impl<'m> Line<'m> {
    /// Of a bench that was run with `flags`.
    pub fn of(measured: &'m Measured, flags: &'m str, round: u32) -> Self {
        let noise = Some(measured.noise.figures());
        Line { result: LineResult::Measured(measured), flags, round, noise }
    }

    /// Of one that failed.
    pub fn failed(bench: &'m str, error: String, flags: &'m str, round: u32) -> Self {
        Line { result: LineResult::Failed { v: 1, bench, error }, flags, round, noise: None }
    }
}

/// Why a file is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFileError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is too long to be one.
    #[error("{} has {bytes} bytes, a run has at most {BYTES_MAX}", .path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// What it has.
        bytes: u64,
    },
    /// A value in it is no JSON.
    #[error("{}: result {number} cannot be read", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It has no result.
    #[error("{} has no result of a bench", .path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
    },
}

impl RunFile {
    /// The first line.
    pub fn head(machine: &Machine, rounds: u32) -> Value {
        json!({"v": 1, "bench": "all", "machine": machine, "rounds": rounds})
    }

    /// Reads a run.
    pub fn read(path: &Path) -> Result<Self, RunFileError> {
        let failed = |source| RunFileError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > BYTES_MAX {
            return Err(RunFileError::Long { path: path.to_owned(), bytes });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let mut run = RunFile::default();
        // Values one after the other, lines or not.
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        for (index, value) in values.enumerate() {
            let json =
                |source| RunFileError::Json { path: path.to_owned(), number: index + 1, source };
            match value.map_err(json)? {
                Value::Array(values) => values.into_iter().for_each(|value| run.add(value)),
                value => run.add(value),
            }
        }
        if run.results.is_empty() {
            return Err(RunFileError::Nothing { path: path.to_owned() });
        }
        Ok(run)
    }

    fn add(&mut self, value: Value) {
        if value["bench"] == "all" {
            self.machine = value["machine"].clone();
        } else if value["bench"].is_string() {
            self.results.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RunFile, RunFileError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("run");
        std::fs::write(&path, text).expect("written");
        RunFile::read(&path)
    }

    #[test]
    fn lines_and_arrays_are_runs() {
        let head = RunFile::head(&Machine::here(), 3);
        let one = r#"{"v":1,"bench":"claim","unit":"ns","p50":3}"#;
        for text in [
            format!("{head}\n{one}\n{one}\n"),
            format!("[{head},{one},{one}]"),
            format!("{head}{one}\n\n{one}"),
        ] {
            let run = read(&text).expect("a run");
            assert_eq!(run.results.len(), 2, "{text}");
            assert!(run.machine["kernel"].is_string(), "{text}");
        }
    }

    #[test]
    fn what_is_no_run_is_said() {
        let cases = [
            ("", "no result"),
            ("{}", "no result"),
            ("[1, 2]", "no result"),
            ("{\"bench\":\"claim\"}\nclaim", "result 2 cannot be read"),
        ];
        for (text, says) in cases {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let missing = RunFile::read(Path::new("/no/such/run")).expect_err("not there");
        assert!(missing.to_string().contains("/no/such/run"), "{missing}");
    }

    #[test]
    fn a_failure_has_a_line_of_its_own() {
        let line = Line::failed("reap", "no room".to_owned(), "", 2);
        let json = serde_json::to_value(&line).expect("plain data");
        assert_eq!(
            json,
            json!({"v": 1, "bench": "reap", "error": "no room", "flags": "", "round": 2, "noise": null})
        );
    }
}

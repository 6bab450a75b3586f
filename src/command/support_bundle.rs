//! `hotpair support-bundle`: what somebody else needs to see what is wrong, and nothing that is secret.
//!
//! Nothing is in it that was not made for it here: no file of the host is copied. Of the configuration only what was
//! understood of it, without comments; of commands their program, of addresses of the arbiter no passwords. No
//! private keys, no certificates, no objects; errors as the handlers have worded them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hotpair_replica::wire::VERSIONS;
use hotpair_shm::{FORMAT_VERSION, Region};
use serde_json::{Value, json};
use toml::{Table, Value as Toml};

use super::events::{error_json, event_json};
use super::{doctor, status};
use crate::config::Config;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data};

/// What stands for what is left out.
const LEFT_OUT: &str = "(left out)";
/// Keys of commands: their arguments may be anything.
const COMMANDS: [&str; 3] = ["command", "on_primary", "on_backup"];

/// Writes the bundle.
pub(crate) fn run(path: &Path, out: Option<&PathBuf>) -> Outcome {
    let config = Config::load(path)?;
    let name = config.region_name();
    let out = out.cloned().unwrap_or_else(|| PathBuf::from(format!("hotpair-{name}.tar")));
    let failed = |error: io::Error| {
        Failure::new(format!("cannot write {}", out.display())).caused_by(&error)
    };
    let files = contents(&config)?;
    let mut tar = tar::Builder::new(File::create_new(&out).map_err(failed)?);
    for (file, text) in &files {
        add(&mut tar, &format!("hotpair-{name}/{file}"), text.as_bytes()).map_err(failed)?;
    }
    tar.into_inner().and_then(|file| file.sync_all()).map_err(failed)?;
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    print_data(&format!("{}: {}\n", out.display(), names.join(", ")))?;
    Ok(Exit::Ok)
}

fn contents(config: &Config) -> Result<Vec<(&'static str, String)>, Failure> {
    let pretty = |value: &Value| format!("{value:#}\n");
    let mut files = vec![
        ("version.json", pretty(&version())),
        ("config.toml", harmless(&config.text)?),
        ("doctor.json", pretty(&doctor::report(Some(config)))),
    ];
    // A node that does not run is what may be wrong.
    let region = Region::observe(&Region::path_for(config.region_name()));
    if let Ok(region) = &region {
        let lines =
            region.events().iter().map(|event| format!("{}\n", event_json(event))).collect();
        files.push(("events.jsonl", lines));
        let errors: Vec<Value> = region.errors().iter().map(error_json).collect();
        files.push(("errors.json", pretty(&json!({ "v": 1, "errors": errors }))));
    }
    files.push((
        "status.json",
        match region {
            Ok(region) => pretty(&status::as_value(&region)),
            Err(error) => {
                pretty(&json!({ "region": config.region_name(), "error": error.to_string() }))
            }
        },
    ));
    Ok(files)
}

fn version() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "v": 1, "hotpair": env!("CARGO_PKG_VERSION"), "unix_seconds": seconds,
        "region_format": FORMAT_VERSION, "pair_protocols": [VERSIONS.start(), VERSIONS.end()],
        "kernel": read("/proc/sys/kernel/osrelease"), "load": read("/proc/loadavg"),
    })
}

/// The configuration without what may be a secret.
fn harmless(text: &str) -> Result<String, Failure> {
    let failed = || Failure::new("cannot write down the configuration");
    let mut table: Table = toml::from_str(text).map_err(|error| failed().caused_by(&error))?;
    table.iter_mut().for_each(|(key, value)| clean(key, value));
    toml::to_string(&table).map_err(|error| failed().caused_by(&error))
}

fn clean(key: &str, value: &mut Toml) {
    match value {
        Toml::Table(table) => table.iter_mut().for_each(|(key, value)| clean(key, value)),
        Toml::Array(items) if COMMANDS.contains(&key) => {
            items.iter_mut().skip(1).for_each(|item| *item = Toml::String(LEFT_OUT.to_owned()));
        }
        Toml::Array(items) => items.iter_mut().for_each(|item| clean(key, item)),
        Toml::String(text) => {
            // https://user:password@host
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((_, host)) = rest.rsplit_once('@')
            {
                *text = format!("{scheme}://{LEFT_OUT}@{host}");
            }
        }
        _ => {}
    }
}

fn add(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out() {
        let text = harmless(
            "# s3cret\narbiter = { endpoints = [\"http://me:s3cret@10.0.0.1:2379\"] }\n\
             [service]\non_primary = [\"./announce\", \"--token=s3cret\"]\n\
             [[worker]]\ncommand = [\"./worker\", \"s3cret\"]\nqueue = \"calls\"\n",
        )
        .expect("TOML");
        assert!(!text.contains("s3cret") && !text.contains("me:"), "{text}");
        for kept in ["http://(left out)@10.0.0.1:2379", "./announce", "./worker", "calls"] {
            assert!(text.contains(kept), "no {kept} in {text}");
        }
    }
}

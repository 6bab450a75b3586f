//! What belongs to a host: its doctor, what is sent to those who help, service managers, pages and completions.

mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use support::{
    HOTPAIR, PATIENCE, RegionName, Running, bound_program, hotpair, loopback, write_config,
};

/// Goal: a host is looked at and judged, whatever it is; what a configuration asks of it and it has not is said, with what to do.
#[test]
fn the_doctor_says_what_to_do() {
    let seen = hotpair(["doctor", "--json"]);
    assert!(matches!(seen.code, Some(0 | 7)), "{seen:#?}");
    let findings = seen.json()["findings"].as_array().cloned().unwrap_or_default();
    assert!(findings.len() >= 10, "{findings:#?}");
    let advised = findings.iter().filter(|finding| finding["verdict"] == "advice");
    assert_eq!(advised.clone().count() > 0, seen.code == Some(7));
    for finding in advised {
        assert!(finding["advice"].as_str().is_some_and(|advice| advice.len() > 20), "{finding}");
    }

    let dir = tempfile::tempdir().expect("a temporary directory");
    // An address for documentation: no host has it.
    let config = write_config(dir.path(), "doctor", "192.0.2.77", "bind = \"127.0.0.1:7430\"");
    let config = config.to_str().expect("text");
    let advice = hotpair(["doctor", "--config", config]);
    let advice = &advice.exits(7).stdout;
    assert!(advice.contains("192.0.2.77 is of no interface of this host"), "{advice}");
    assert!(advice.contains("shared memory"), "{advice}");
}

/// Goal: a bundle has what helps and no secret, wherever one was put; it overwrites nothing.
#[test]
fn a_bundle_has_no_secrets() {
    const SECRET: &str = "pa55w0rd-of-somebody";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    hotpair(["pki", "init", "--name", "test", "--dir", &at("pki")]).exits(0);
    let region = RegionName::new("bundle");
    let ip = loopback(49);
    let config = write_config(dir.path(), &region.0, &ip, &format!("bind = \"{ip}:7430\""));
    let text = std::fs::read_to_string(&config).expect("it was written");
    let witness = format!("[witness]\naddress = \"{ip}:7400\"\n");
    assert!(text.contains(&witness), "the arbiter is to be another");
    let arbiter = format!(
        "[arbiter]\nkind = \"etcd\"\nendpoints = [\"http://{SECRET}:{SECRET}@{ip}:2379\"] # {SECRET}\n\
         [service]\non_primary = [\"./announce\", \"{SECRET}\"]\n"
    );
    let worker =
        format!("[[worker]]\nqueue = \"calls\"\ncommand = [\"./work\", \"--password={SECRET}\"]\n");
    std::fs::write(&config, text.replace(&witness, &arbiter) + &worker).expect("writable");
    let config = config.to_str().expect("text");
    let bundle = at("bundle.tar");
    let written = hotpair(["support-bundle", "--config", config, "--out", &bundle]);
    assert!(written.exits(0).stdout.starts_with(&bundle), "{written:#?}");

    let bytes = std::fs::read(&bundle).expect("it was written");
    let key = std::fs::read_to_string(at("pki/node-a.key")).unwrap_or_else(|_| {
        let keys = std::fs::read_dir(at("pki")).expect("made").flatten();
        let keys = keys.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        keys.filter(|text| text.contains("PRIVATE KEY")).collect()
    });
    let line = key.lines().find(|line| line.len() > 40 && !line.starts_with('-')).expect("a key");
    for secret in [SECRET, "PRIVATE KEY", "CERTIFICATE", line] {
        let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} is in the bundle");
    }
    let mut entries = BTreeSet::new();
    for entry in tar::Archive::new(&bytes[..]).entries().expect("a tar file") {
        let mut entry = entry.expect("whole");
        let name = entry.path().expect("a path").file_name().expect("of a file").to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        if name == "config.toml" {
            assert!(text.contains("./work") && text.contains(&region.0), "{text}");
        }
        if name == "status.json" {
            assert!(text.contains("no region at"), "its node does not run: {text}");
        }
        entries.insert(name.to_string_lossy().into_owned());
    }
    let wanted = ["config.toml", "doctor.json", "status.json", "version.json"].map(str::to_owned);
    assert_eq!(entries, BTreeSet::from(wanted));
    hotpair(["support-bundle", "--config", config, "--out", &bundle]).exits(1).one_error();
}

/// Goal: a service manager hears when the node has started, again and again that it lives, and that it stops.
#[test]
fn a_service_manager_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    hotpair(["pki", "init", "--name", "test", "--dir", &at("pki")]).exits(0);
    let region = RegionName::new("notify");
    let ip = loopback(50);
    let config = write_config(dir.path(), &region.0, &ip, &format!("bind = \"{ip}:7430\""));
    let socket = UnixDatagram::bind(at("notify")).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    // As systemd does it: the number of the very process.
    let script = "WATCHDOG_PID=$$ exec \"$@\"";
    let mut command = bound_program("sh");
    command.args(["-c", script, "sh", HOTPAIR, "node", "--config"]).arg(&config);
    command.env("NOTIFY_SOCKET", at("notify")).env("WATCHDOG_USEC", "400000");
    let node = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
    let mut words = [0; 256];
    let mut hear = |wanted: &str| loop {
        let count = socket.recv(&mut words).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
        let heard = String::from_utf8_lossy(&words[..count]).into_owned();
        if heard.lines().any(|line| line == wanted) {
            break;
        }
    };
    hear("READY=1");
    assert!(region.path().exists(), "ready, so the region is there");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    let pid = nix::unistd::Pid::from_raw(node.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    hear("STOPPING=1");
    drop(node);
}

/// Goal: every command that people see has its page, and is completed.
#[test]
fn every_command_has_a_page_and_is_completed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    hotpair(["generate", "man", &at("man")]).exits(0);
    hotpair(["generate", "completions", &at("completions")]).exits(0);
    let help = hotpair(["--help"]);
    let commands = help.exits(0).stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    // Their names stand two columns in, what they do further right.
    let commands: Vec<&str> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let read = |path: String| {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    for name in &commands {
        let page = read(at(&format!("man/hotpair-{name}.1")));
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    for file in ["hotpair.bash", "_hotpair", "hotpair.fish"] {
        let text = read(at(&format!("completions/{file}")));
        for name in &commands {
            assert!(text.contains(name), "{file} does not know {name}");
        }
    }
}

/// Goal: systemd takes the units that are shipped, with every word of them.
#[test]
fn systemd_takes_the_units() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let units = format!("{}/packaging/systemd", env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for unit in ["hotpair@.service", "hotpair-witness.service"] {
        let text = std::fs::read_to_string(format!("{units}/{unit}")).expect("it is shipped");
        assert!(text.contains("ExecStart=/usr/bin/hotpair "), "{unit}");
        std::fs::write(dir.path().join(unit), text.replace("/usr/bin/hotpair", HOTPAIR))
            .expect("writable");
        paths.push(dir.path().join(unit.replace('@', "@a")));
    }
    // Without manual pages, which are not installed here.
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output();
    match verify {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => {
            let advice = format!("no systemd-analyze: {error} (Debian: apt-get install systemd)");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
            eprintln!("skipped: {advice}");
        }
    }
}

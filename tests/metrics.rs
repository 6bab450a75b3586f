//! Metrics: every figure that rules and dashboard name is there, and no client harms anybody.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{RegionName, Running, bound, eventually, hotpair, loopback};

/// A node that is primary alone, with its metrics.
struct Site {
    // Dropped in this order: who uses the region before its file goes.
    _processes: Vec<Running>,
    region: RegionName,
    address: String,
    _dir: tempfile::TempDir,
}

impl Site {
    fn start(purpose: u8) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ip = loopback(purpose);
        let region = RegionName::new(&format!("metrics{purpose}"));
        let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        hotpair(["pki", "init", "--name", "metrics", "--dir", &at("pki")]).exits(0);
        let address = format!("{ip}:7490");
        let worker = env!("CARGO_BIN_EXE_hotpair");
        let config = format!(
            "pair = {{ name = \"metrics\", node = \"a\" }}\npki = {{ dir = \"pki\" }}\n\
             replication = {{ listen = \"{ip}:7410\", peer = \"{ip}:7420\" }}\n\
             witness = {{ address = \"{ip}:7400\" }}\nmetrics = {{ listen = \"{address}\" }}\n\
             [region]\nname = \"{}\"\nslots = 512\nclass = [{{ payload_bytes = 256, blocks = 4096 }}]\n\
             [[queue]]\nname = \"objects\"\n[[port]]\nname = \"service\"\nkind = \"udp\"\nbind = \"{ip}:7430\"\n\
             queue = \"objects\"\npacket_bytes_max = 128\n\
             [[worker]]\nqueue = \"objects\"\ncommand = [{worker:?}, \"demo-worker\", \"--side\", \"a\"]\n",
            region.0
        );
        std::fs::write(at("a.toml"), config).expect("writable");
        let start = |arguments: &[&str]| {
            Running::start(bound().args(arguments).stdin(Stdio::null()).stdout(Stdio::null()))
        };
        let witness = format!("{ip}:7400");
        let witness = [
            "witness",
            "--listen",
            &witness,
            "--pki",
            &at("pki"),
            "--store",
            &at("witness"),
            "--reinit",
            "a",
        ];
        let processes = vec![start(&witness), start(&["node", "--config", &at("a.toml")])];
        let site = Site { _processes: processes, region, address, _dir: dir };
        eventually("it is primary, with all its processes", || {
            let text = site.scrape();
            text.contains("role=\"primary\"} 1")
                && text.contains("kind=\"port\"")
                && text.contains("kind=\"worker\"")
        });
        site
    }

    fn dial(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    /// All that is answered to these bytes.
    fn ask(&self, request: &[u8]) -> std::io::Result<String> {
        let mut stream = self.dial()?;
        // It may have heard enough before all is said.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            read?;
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Empty while nobody listens.
    fn scrape(&self) -> String {
        let answer = self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = answer.unwrap_or_default();
        answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }
}

/// The names of the series in a text that Prometheus reads.
fn names_of(text: &str) -> BTreeSet<&str> {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Every word of ours in rules or a dashboard.
fn names_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c)).filter(|word| word.starts_with("hotpair_")).collect()
}

/// Goal: what is shipped for those who watch names only what there is, and names are as conventions want them.
#[test]
fn rules_and_dashboard_name_what_there_is() {
    let site = Site::start(46);
    let text = site.scrape();
    let there = names_of(&text);
    for file in ["prometheus/hotpair.yml", "grafana/hotpair.json"] {
        let path = format!("{}/packaging/{file}", env!("CARGO_MANIFEST_DIR"));
        let shipped = std::fs::read_to_string(&path).expect("it is shipped");
        let wanted = names_in(&shipped);
        assert!(wanted.len() >= 8, "{file} names {wanted:?}");
        let of_links = ["hotpair_link_up", "hotpair_link_round_trip_seconds"];
        let missing: Vec<_> =
            wanted.difference(&there).filter(|name| !of_links.contains(name)).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} is not in\n{text}");
        for name in of_links {
            assert!(text.contains(&format!("# TYPE {name} gauge")), "{name}");
        }
    }
    let dashboard = include_str!("../packaging/grafana/hotpair.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 8));
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("name and kind");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
    // What the words of a queue are, whatever a configuration calls it.
    assert!(text.contains(&format!("region=\"{}\",node=\"a\"", site.region.0)), "{text}");

    check("promtool", &["check", "metrics"], &text);
    let rules = format!("{}/packaging/prometheus/hotpair.yml", env!("CARGO_MANIFEST_DIR"));
    check("promtool", &["check", "rules", &rules], "");
}

/// Runs a checker, where there is one.
fn check(program: &str, arguments: &[&str], input: &str) {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        let advice = format!("no {program} (Debian: apt-get install prometheus)");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
        eprintln!("skipped: {advice}");
        return;
    };
    child.stdin.take().expect("asked for").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("our own child");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Goal: who asks for nonsense, for too much, too slowly or too often gets an error or nothing; who asks rightly is answered
/// all the while, and the node serves.
#[test]
fn bad_clients_harm_nobody() {
    let site = Site::start(47);
    let status = |request: &str| {
        let answer = site.ask(request.as_bytes()).unwrap_or_default();
        answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok())
    };
    assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Some(404));
    assert_eq!(status("GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"), Some(404));
    assert_eq!(status("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some(405));
    assert_eq!(
        status("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"),
        Some(405)
    );
    assert_eq!(status("nonsense\r\n\r\n"), Some(400));
    let giant = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(matches!(status(&giant), None | Some(400..=499)), "a megabyte of header");

    // Slow ones, more than there are places, and one that asks and does not read.
    let mut slow: Vec<TcpStream> = (0..40).filter_map(|_| site.dial().ok()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /met");
    }
    let deaf = site.dial().expect("it listens");
    (&deaf).write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("a short request");
    assert!(site.scrape().contains("hotpair_node_up"), "an honest one is served after them");
    for stream in &mut slow {
        let mut answer = Vec::new();
        // Ended by the other side, with or without a word; a time-out of ours would be an error of its own kind.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "a slow one is let go of");
        }
    }
    // Many, one after the other: all get the same text while it is good.
    let begun = Instant::now();
    let texts: Vec<String> = (0..200).map(|_| site.scrape()).collect();
    assert!(texts.iter().all(|text| text.contains("role=\"primary\"} 1")), "it serves");
    println!("200 scrapes took {:?}", begun.elapsed());
    hotpair(["status", "--region", &site.region.0]).exits(4);
    drop(deaf);
}

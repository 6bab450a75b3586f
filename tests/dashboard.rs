//! The dashboard: what its page and its stream say of a running pair, of a dead one, and to whom; and a real browser in which a
//! failover is seen.

mod support;

#[path = "dashboard/browser.rs"]
mod browser;
#[path = "resync/site.rs"]
mod site;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use hotpair_shm::{Geometry, Region};
use serde_json::Value;
use site::{Account, Site};
use support::{Running, bound, eventually, hotpair, loopback, write_config};

const HEARTBEAT: &str = "heartbeat = { misses = 400 }";

fn listens(purpose: u8, side: usize) -> String {
    format!("{}:748{side}", loopback(purpose))
}

fn configured(purpose: u8, side: usize) -> String {
    format!("{HEARTBEAT}\ndashboard = {{ listen = \"{}\" }}", listens(purpose, side))
}

fn dial(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// All that is answered to these bytes; empty while nobody listens.
fn ask(address: &str, request: &[u8]) -> String {
    let Ok(mut stream) = dial(address) else { return String::new() };
    // It may have heard enough before all is said.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(address: &str, path: &str, more: &str) -> String {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n").as_bytes())
}

fn status_of(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok())
}

/// A page's stream, event by event.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// None if it is refused.
    fn open(address: &str) -> Option<Stream> {
        let mut stream = dial(address).ok()?;
        let request = format!("GET /stream HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut lines = BufReader::new(stream);
        let mut first = String::new();
        lines.read_line(&mut first).ok()?;
        (status_of(&first) == Some(200)).then_some(Stream(lines))
    }

    /// The next event with this name.
    fn next(&mut self, name: &str) -> Value {
        let wanted = format!("event: {name}\n");
        let mut is_wanted = false;
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("it goes on");
            assert!(read > 0, "the stream ended before {name}");
            is_wanted = line == wanted || is_wanted && line != "\n";
            if let (true, Some(data)) = (is_wanted, line.strip_prefix("data: ")) {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }

    /// States until one is right.
    #[track_caller]
    fn until(&mut self, what: &str, right: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        eventually(what, || {
            last = self.next("state");
            right(&last)
        });
        last
    }
}

#[track_caller]
fn opened(address: &str) -> Stream {
    let mut stream = None;
    eventually("the dashboard answers", || {
        stream = Stream::open(address);
        stream.is_some()
    });
    stream.expect("just seen")
}

/// Goal: the stream says what `hotpair status` says, and goes on to: a back-up comes, load comes, the node dies.
#[test]
fn the_stream_tells_what_happens() {
    let mut site = Site::new(80, |side| configured(80, side));
    site.start(0);
    let address = listens(80, 0);
    let mut stream = opened(&address);
    let alone = stream.until("it is primary", |state| state["status"]["role"] == "primary");
    assert_eq!((&alone["node"], &alone["gone"]), (&"a".into(), &false.into()), "{alone}");
    assert_eq!(
        (&alone["standing"], &alone["status"]["protected"]),
        (&"WARNING".into(), &false.into())
    );
    site.start(1);
    let load = site.load(Account::default());
    let column = |state: &Value, name: &str| {
        let at = state["columns"].as_array()?.iter().position(|column| column == name)?;
        state["point"][at].as_f64()
    };
    stream.until("it is protected, with its load", |state| {
        state["status"]["protected"] == true
            && state["standing"] == "OK"
            && column(state, "commits") > Some(0.0)
            && column(state, "claims") > Some(0.0)
            && column(state, "emits") > Some(0.0)
    });
    let measured = stream.until("the stages are measured", |state| {
        let stages = state["stages"].as_array();
        stages.is_some_and(|stages| {
            stages.iter().filter(|stage| stage["minute"]["n"].as_u64() > Some(0)).count() >= 8
        })
    });
    let quantiles = measured["quantiles"].as_array().expect("an array");
    for stage in measured["stages"].as_array().expect("an array") {
        let times = stage["ever"]["q"].as_array().expect("an array");
        assert_eq!(times.len(), quantiles.len());
        assert!(times.is_sorted_by_key(|ns| ns.as_u64()), "{stage}");
        assert!(times.last().and_then(Value::as_u64) <= stage["ever"]["max"].as_u64(), "{stage}");
    }
    // Who comes later has what was before.
    let mut late = opened(&address);
    let history = late.next("history");
    assert_eq!(history["columns"], measured["columns"]);
    let rows = history["rows"].as_array().expect("an array");
    assert!(
        rows.iter().all(|row| row.as_array().map(Vec::len) == rows[0].as_array().map(Vec::len))
    );
    assert!(rows[0].as_array().is_some_and(|times| times.len() > 2), "{history}");
    let log = late.next("log");
    let events = log["events"].as_array().expect("an array");
    assert!(events.iter().any(|event| event["event"] == "promoted" && event["cause"] == "started"));

    site.kill_node(0);
    load.goes_on_for(100);
    let after = stream.until("the other node has taken over", |state| {
        state["status"]["role"] == "backup" && state["status"]["node_alive"] == true
    });
    assert_eq!(after["standing"], "OK", "{after}");
    let log = late.until_log("the supervisor said how it ended", |event| {
        event["event"] == "died" && event["kind"] == "node" && event["how"] == "SIGKILL"
    });
    assert!(log["errors"].is_array());
    load.end().is_right();
}

impl Stream {
    /// Logs until one has such an event.
    #[track_caller]
    fn until_log(&mut self, what: &str, right: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        eventually(what, || {
            last = self.next("log");
            last["events"].as_array().is_some_and(|events| events.iter().any(&right))
        });
        last
    }
}

/// Goal: what a region says when all who lived in it are dead, when it is gone, and when there is another one.
#[test]
fn a_dead_region_is_shown_and_its_successor() {
    let mut site = Site::new(81, |side| configured(81, side));
    site.start(0);
    let address = listens(81, 0);
    opened(&address).until("it is primary", |state| state["status"]["role"] == "primary");
    site.kill(&[0]);
    // By hand, as an operator would.
    let config = site::text(&site.config(0));
    let mut command = bound();
    command.args(["web", "--config", &config]).stdin(Stdio::null());
    let web = Running::start(&mut command);
    let mut stream = opened(&address);
    let dead = stream.next("state");
    assert_eq!((&dead["standing"], &dead["gone"]), (&"CRITICAL".into(), &false.into()), "{dead}");
    assert_eq!(
        (&dead["reasons"][0], &dead["status"]["role"]),
        (&"no node runs".into(), &"primary".into())
    );
    site.remove_region(0);
    let gone = stream.until("it is gone", |state| state["gone"] == true);
    assert_eq!(
        (&gone["standing"], &gone["status"]["role"]),
        (&"CRITICAL".into(), &"primary".into())
    );
    drop((stream, web));
    // One that has never seen any says so, and sees the next one come.
    let web = Running::start(&mut command);
    let mut stream = opened(&address);
    let nothing = stream.next("state");
    assert_eq!((&nothing["status"], &nothing["gone"]), (&Value::Null, &true.into()), "{nothing}");
    let geometry = Geometry::for_objects(100);
    let _another = Region::create(&site.regions[0].path(), &geometry).expect("there is room");
    let next = stream.until("another one is there", |state| state["gone"] == false);
    assert_eq!(
        (&next["status"]["role"], &next["status"]["node_alive"]),
        (&"empty".into(), &false.into())
    );
    drop(web);
}

/// Goal: pages of other origins, names that lead here by trickery, bodies, giants, slow ones and crowds get an error or nothing; who
/// asks rightly is answered all the while, and the node serves.
#[test]
fn hostile_requests_harm_nobody() {
    let mut site = Site::new(82, |side| configured(82, side));
    site.start(0);
    let address = listens(82, 0);
    opened(&address).until("it is primary", |state| state["status"]["role"] == "primary");
    let page = get(&address, "/", "");
    assert_eq!(status_of(&page), Some(200));
    let headers = page.split("\r\n\r\n").next().unwrap_or_default().to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-store",
        "content-type: text/html; charset=utf-8",
    ] {
        assert!(headers.contains(header), "no {header} in {headers}");
    }
    let plain = |request: &str| status_of(&ask(&address, request.as_bytes()));
    let with = |path: &str, more: &str| {
        let answer = get(&address, path, more);
        assert!(!answer.to_lowercase().contains("access-control-"), "{answer}");
        assert!(answer.contains("nosniff") && answer.contains("default-src 'none'"), "{answer}");
        status_of(&answer)
    };
    let own = format!("Origin: http://{address}\r\n");
    assert_eq!(with("/", &own), Some(200));
    assert_eq!(with("/nothing", ""), Some(404));
    assert_eq!(with("/../../etc/passwd", ""), Some(404));
    for path in ["/", "/stream"] {
        assert_eq!(with(path, "Origin: http://evil.example\r\n"), Some(403), "another origin");
        assert_eq!(with(path, "Origin: null\r\n"), Some(403), "an origin that hides");
        assert_eq!(
            with(path, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"),
            Some(403)
        );
        assert_eq!(with(path, "Host: evil.example\r\n"), Some(421), "two hosts");
        let rebound = format!("GET {path} HTTP/1.1\r\nHost: evil.example:7480\r\n\r\n");
        assert_eq!(plain(&rebound), Some(421), "a name that was made to lead here");
        assert_eq!(plain(&format!("GET {path} HTTP/1.0\r\n\r\n")), Some(421), "no host");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(plain(&request), Some(405), "{method}");
        }
    }
    assert_eq!(with("/", "Content-Length: 99999999999\r\n"), Some(413), "a body");
    assert_eq!(with("/", "Transfer-Encoding: chunked\r\n"), Some(413), "a body without end");
    assert_eq!(plain("nonsense\r\n\r\n"), Some(400));
    let giant = format!("X: {}\r\n", "x".repeat(1 << 20));
    assert!(matches!(status_of(&get(&address, "/", &giant)), None | Some(400..=499)));
    let long = format!("/{}", "x".repeat(1 << 20));
    assert!(matches!(status_of(&get(&address, &long, "")), None | Some(400..=499)));

    // As many streams as there may be: the page is served, one more is refused, and has a place when somebody leaves.
    let mut streams: Vec<Stream> =
        std::iter::from_fn(|| Stream::open(&address)).take(100).collect();
    assert_eq!(streams.len(), 16);
    assert_eq!(status_of(&get(&address, "/stream", "")), Some(503));
    assert_eq!(status_of(&get(&address, "/", "")), Some(200));
    streams.iter_mut().for_each(|stream| assert_eq!(stream.next("state")["node"], "a"));
    streams.pop();
    eventually("there is a place again", || Stream::open(&address).is_some());

    // Slow ones, more than there are places, and deaf ones that ask and do not read.
    let mut slow: Vec<TcpStream> = (0..80).filter_map(|_| dial(&address).ok()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /str");
    }
    let deaf: Vec<TcpStream> = (0..8).filter_map(|_| dial(&address).ok()).collect();
    for mut stream in &deaf {
        let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    }
    assert_eq!(status_of(&get(&address, "/", "")), Some(200), "an honest one is served after them");
    for stream in &mut slow {
        let mut answer = Vec::new();
        // Ended by the other side, with or without a word; a time-out of ours would be an error of its own kind.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "a slow one is let go of");
        }
    }
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(stream.next("state")["status"]["role"], "primary"));
    drop(deaf);
    hotpair(["status", "--region", &site.regions[0].0]).exits(4);
    assert_eq!(site.errors(0), "", "nobody was disturbed");
}

/// Goal: it does not listen where other hosts reach it unless somebody says so; and the error says what to do.
#[test]
fn it_keeps_to_this_host_unless_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let port = format!("bind = \"{}:7430\"", loopback(83));
    let path = write_config(dir.path(), "none", &loopback(83), &port);
    let base = std::fs::read_to_string(&path).expect("just written");
    let check = |more: &str| {
        std::fs::write(&path, format!("{base}{more}")).expect("writable");
        hotpair(["config", "check", path.to_str().expect("text")])
    };
    let open = "[dashboard]\nlisten = \"0.0.0.0:7480\"\n";
    check(open)
        .exits(78)
        .one_error()
        .says("0.0.0.0 is no loopback address")
        .says("beyond_loopback = true");
    check(&format!("{open}beyond_loopback = true\n")).exits(0);
    check("[dashboard]\nlisten = \"[::1]:7480\"\n").exits(0);
    let twice =
        "[metrics]\nlisten = \"127.0.0.1:7480\"\n[dashboard]\nlisten = \"127.0.0.1:7480\"\n";
    check(twice).exits(78).one_error().says("where the metrics listen");
    check("").exits(0);
    hotpair(["web", "--config", path.to_str().expect("text")])
        .exits(78)
        .one_error()
        .says("none in [dashboard]");
}

/// Goal: who has the pages of both nodes open sees the primary die, why, and what is left; and the pages find their nodes again.
#[test]
fn a_browser_follows_a_failover() {
    let mut site = Site::paired(84, |side| configured(84, side));
    let load = site.load(Account::default());
    let addresses = [0, 1].map(|side| listens(84, side));
    addresses.iter().for_each(|address| browser::listening(address));
    let urls = addresses.map(|address| format!("http://{address}/"));
    browser::follow(&urls, |line| match line {
        "kill a" => site.kill(&[0]),
        "start a" => site.start(0),
        _ => {}
    });
    load.end().is_right();
}

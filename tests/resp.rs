//! The store with real clients: redis-cli, redis-benchmark, a client library; clients that count through the death of the
//! primary; and clients that mean no good.
//!
//! The control is the same without replication, which must lose what it has acknowledged.

#[path = "service/afterwards.rs"]
mod afterwards;
#[path = "resp/cable.rs"]
mod cable;
#[path = "resp/crowd.rs"]
mod crowd;
#[path = "service/nodes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod nodes;
#[path = "resp/pair.rs"]
mod pair;
#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
#[path = "resp/sentinel.rs"]
mod sentinel;
#[path = "service/pair.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod service;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crowd::{Client, Crowd, Verdict, verdict};
use processes::{is_installed, wait_for};

const CLIENTS: usize = 8;

/// Runs a client to its end; what it printed.
fn run(program: &str, at: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()]).args(arguments);
    let output = command.output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Goal: the programs that come with Redis work against it.
#[test]
fn the_clients_of_redis_are_served() {
    if !is_installed("redis-cli") || !is_installed("redis-benchmark") {
        return;
    }
    let pair = pair::start("respclients", "sync", &[]);
    let at = pair.service;
    #[rustfmt::skip]
    let exchanges: [(&[&str], &str); 8] = [
        (&["SET", "key", "a value"],            "OK"),
        (&["GET", "key"],                       "a value"),
        (&["-3", "GET", "key"],                 "a value"),
        (&["HSET", "hash", "f", "v", "g", "w"], "2"),
        (&["-3", "HGETALL", "hash"],            "f v\ng w"),
        (&["MSET", "a", "1", "b", "2"],         "OK"),
        (&["MGET", "a", "b", "none"],           "1\n2"),
        (&["SELECT", "0"],                      "OK"),
    ];
    for (command, expected) in exchanges {
        assert_eq!(run("redis-cli", at, command), expected, "{command:?}");
    }
    assert!(run("redis-cli", at, &["INFO"]).contains("server_name:hotpair"));

    // A key ends by itself, and its object with it.
    assert_eq!(run("redis-cli", at, &["SET", "mortal", "x", "PX", "50"]), "OK");
    wait_for("the key's end", || (pair.nodes.dump(0, "keys").len() == 4).then_some(()));
    assert_eq!(run("redis-cli", at, &["EXISTS", "mortal"]), "0");

    let short = ["-t", "lpush,rpop,hset", "-n", "60", "-c", "5", "--csv"];
    for pipeline in ["1", "16"] {
        let kinds = "ping_inline,ping_mbulk,set,get,incr,mset";
        let many = ["-t", kinds, "-n", "2000", "-c", "20", "-P", pipeline];
        let many = [&many[..], &["-r", "1000", "-d", "256", "--csv"]].concat();
        // A list and a hash are one value each: they are kept short.
        for arguments in [&many[..], &short] {
            let said = run("redis-benchmark", at, arguments);
            assert!(said.lines().count() >= 4 && !said.contains("rror"), "{said}");
        }
    }
    wait_for("the connections' objects end with them", || {
        pair.nodes.dump(0, "connections").is_empty().then_some(())
    });
}

/// Goal: a client library works against it, in both versions of the protocol that it speaks.
#[test]
fn a_client_library_is_served() {
    // The system's own: its modules are Debian's.
    let python = "/usr/bin/python3";
    let there = Command::new(python).args(["-c", "import redis"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3-redis is not installed");
        return eprintln!("skipped: python3-redis is not installed");
    }
    let pair = pair::start("resppython", "sync", &[]);
    let program = "
import redis, sys
store = redis.Redis(host=sys.argv[1], port=int(sys.argv[2]), decode_responses=True, client_name='test')
assert store.ping()
assert store.set('k', 'v', ex=100) and store.get('k') == 'v' and 95 < store.ttl('k') <= 100
assert store.set('k', 'w', nx=True) is None and store.set('k', 'w', xx=True)
assert store.mset({'a': 1, 'b': 2}) and store.mget('a', 'b', 'c') == ['1', '2', None]
assert store.hset('h', mapping={'f': 'v', 'g': 'w'}) == 2 and store.hgetall('h') == {'f': 'v', 'g': 'w'}
assert store.lpush('l', 'x', 'y') == 2 and store.rpop('l') == 'x' and store.type('l') == 'list'
assert store.incr('n', 5) == 5 and store.delete('n', 'a') == 2 and store.exists('n', 'b') == 1
assert store.info()['role'] == 'master'
with store.pipeline(transaction=False) as pipeline:
    for _ in range(500):
        pipeline.incr('many')
    assert pipeline.execute() == list(range(1, 501))
try:
    store.incr('h')
    raise SystemExit('a hash was incremented')
except redis.ResponseError as error:
    assert 'wrong kind' in str(error), error
print('served')
";
    let mut command = Command::new(python);
    command.args(["-c", program, &pair.service.ip().to_string()]);
    let output = command.arg(pair.service.port().to_string()).output().expect("it is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "served\n", "{said}");
}

/// Clients count; in their middle the primary is killed, with all that it started.
fn count_and_kill(name: &str, mode: &str) -> Verdict {
    let mut pair = pair::start(name, mode, &[]);
    let at = pair.service;
    let crowd = Crowd::start(CLIENTS, move || Some(at));
    crowd.wait_for(5_000);
    wait_for("the pair is protected", || (pair.nodes.protected_primary() == Some(0)).then_some(()));
    pair.nodes.kill(0);
    pair.nodes.wait_until("node 1 is primary", 1, |status| status["role"] == "primary");
    crowd.wait_for(2_000);
    let verdict = verdict(at, &crowd.end());
    println!("hotpair, {mode}: {verdict:?}");
    pair.nodes.stop(1);
    verdict
}

/// Goal: whatever was acknowledged is there after the death of the primary, and nothing happened twice.
#[test]
fn no_acknowledged_write_is_lost_with_the_primary() {
    let verdict = count_and_kill("respsync", "sync");
    assert_eq!((verdict.lost, verdict.twice, verdict.wrong), (0, 0, 0), "{verdict:?}");
}

/// Goal: without replication the same loses what it has acknowledged.
#[test]
fn without_replication_acknowledged_writes_are_lost() {
    let verdict = count_and_kill("resplocal", "local");
    assert!(verdict.lost > 1_000, "thousands were acknowledged: {verdict:?}");
}

/// Goal: what Redis with Sentinel makes of the same is counted beside it, once with its replica in reach, and once with the link
/// to it cut before the kill. It promises less, so nothing is asked of it but that it serves again.
#[test]
fn the_same_with_sentinel_is_counted() {
    if !is_installed("redis-server") || !is_installed("redis-sentinel") {
        return;
    }
    for cut in [false, true] {
        let Some(verdict) = sentinel::count_and_kill(CLIENTS, cut) else {
            println!("Redis + Sentinel, link cut: {cut}: nobody was promoted");
            continue;
        };
        println!("Redis + Sentinel, link cut: {cut}: {verdict:?}");
        assert!(verdict.acknowledged > 0, "{verdict:?}");
    }
}

/// Goal: several workers that want one key at once wait for each other: each `INCR` has its own number, and none is missing.
#[test]
fn several_workers_share_a_key() {
    const ROUNDS: usize = 100;
    const PIPELINE: usize = 4;
    let pair = pair::start_with("respworkers", "sync", &[], 3);
    let at = pair.service;
    let clients = (0..CLIENTS).map(|_| {
        std::thread::spawn(move || {
            let mut client = Client::connect(at).expect("the store serves");
            let batch = "INCR shared\r\n".repeat(PIPELINE);
            let mut numbers: Vec<usize> = Vec::new();
            for _ in 0..ROUNDS {
                client.send(batch.as_bytes()).expect("the store serves");
                numbers.extend((0..PIPELINE).map(|_| {
                    let line = client.line().expect("the store serves");
                    let number: Option<usize> =
                        line.strip_prefix(':').and_then(|number| number.parse().ok());
                    number.unwrap_or_else(|| panic!("{line} instead of a number"))
                }));
            }
            assert!(numbers.is_sorted(), "one connection's commands are carried out in order");
            numbers
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut numbers: Vec<usize> =
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    numbers.sort_unstable();
    let all: Vec<usize> = (1..=CLIENTS * ROUNDS * PIPELINE).collect();
    assert!(
        numbers == all,
        "{} of {} numbers are as they must be",
        numbers.iter().zip(&all).filter(|(found, right)| found == right).count(),
        all.len()
    );
}

/// Goal: clients that mean no good are counted and cost the others nothing.
#[test]
fn the_others_are_served_whatever_comes() {
    let port = ["--connections", "64", "--command-wait-ms", "300"];
    let pair = pair::start("resphostile", "sync", &port);
    let at = pair.service;
    let crowd = Crowd::start(2, move || Some(at));
    crowd.wait_for(100);
    let connect = || {
        let stream = TcpStream::connect(at).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
        stream
    };
    // That the connection ends, and without another word.
    let ends = |why: &str, mut stream: TcpStream| {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{why}: {}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{why}"),
        }
    };
    let malformed: [(&str, &[u8]); 6] = [
        ("no number", b"*x\r\n"),
        ("too many words", b"*99999\r\n"),
        ("too long a word", b"*2\r\n$3\r\nGET\r\n$99999999\r\n"),
        ("longer than said", b"*1\r\n$1\r\nPING\r\n"),
        ("truncated, and never finished", b"*2\r\n$3\r\nGE"),
        ("one byte, and no more", b"*"),
    ];
    for (why, bytes) in malformed {
        let mut stream = connect();
        stream.write_all(bytes).expect("connected");
        ends(why, stream);
    }
    let mut endless = connect();
    let _ = endless.write_all(&vec![b'x'; 1 << 20]); // it may be ended while it writes
    ends("a line without an end", endless);
    let mut oversized = connect();
    let _ = oversized.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\n");
    let _ = oversized.write_all(&vec![b'x'; 500_000]);
    ends("a command that is longer than the port takes", oversized);
    // A flood: who comes when there are as many as may be is refused.
    let flood: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    let refused = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("a socket option");
        matches!((&mut &*stream).read(&mut [0; 1]), Ok(0) | Err(_) if {
            let again = (&mut &*stream).read(&mut [0; 1]);
            !matches!(&again, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        })
    };
    wait_for("all above the limit are refused", || {
        let count = flood.iter().filter(|stream| refused(stream)).count();
        (count >= 200 - 64).then_some(())
    });
    crowd.wait_for(500);
    drop(flood);
    let counts = crowd.end();
    wait_for("there is room again", || {
        Client::connect(at)
            .and_then(|mut client| client.ask("PING"))
            .ok()
            .filter(|it| it == "+PONG")
    });
    let verdict = verdict(at, &counts);
    assert_eq!((verdict.lost, verdict.twice, verdict.wrong), (0, 0, 0), "{verdict:?}");
}

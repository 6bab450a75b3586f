//! Commands at a pair in one process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hotpair_worker::Wait;
use hotpair_worker::testing::{self, Pair};

use crate::session::Session;
use crate::store::KEYS_MAX;
use crate::worker::Server;

/// A connection of the port, as its messages name it.
fn client() -> SocketAddr {
    "[::ffff:192.0.2.7%4711]:40312".parse().expect("an address with a number")
}

/// A store, and one connection to it.
struct Bench {
    pair: Pair,
}

impl Bench {
    fn new() -> Bench {
        let mut geometry = testing::geometry(&["connections", "keys"], &["store"]);
        geometry.classes.push(hotpair_shm::SizeClass { payload_bytes: 16_384, count: 256 });
        Bench { pair: Pair::with(&geometry) }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.pair.deliver_from("connections", b"c", Some(client()), bytes);
    }

    /// Serves until nothing is ready; gives the commits that took.
    fn serve(&mut self) -> usize {
        let space = self.pair.space();
        let mut server = Server::new(&space, "keys", "store");
        let mut worker = self.pair.worker("connections");
        let mut commits = 0;
        while let Some(mut job) = worker.claim(Wait::none()).expect("a region") {
            server.serve(&mut job).expect("room");
            job.commit().expect("alone");
            commits += 1;
        }
        commits
    }

    /// What is answered to `bytes`, of so many bytes.
    fn answers(&mut self, length: usize) -> String {
        let mut answers = Vec::new();
        while answers.len() < length {
            answers.extend(self.pair.next_packet("store").payload);
        }
        String::from_utf8(answers).expect("text")
    }

    fn ask(&mut self, line: &str, expected: &str) {
        self.say(line.as_bytes());
        self.serve();
        assert_eq!(self.answers(expected.len()), expected, "{line}");
    }
}

/// A command as libraries write it.
fn array(words: &[&str]) -> String {
    let strings = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), strings.collect::<String>())
}

#[test]
fn commands_do_what_those_of_redis_do() {
    let mut bench = Bench::new();
    let exchanges: &[(&str, &str)] = &[
        ("PING\r\n", "+PONG\r\n"),
        ("PING hello\r\n", "$5\r\nhello\r\n"),
        ("GET k\r\n", "$-1\r\n"),
        ("SET k 1\r\n", "+OK\r\n"),
        ("get k\r\n", "$1\r\n1\r\n"),
        ("SET k 2 NX\r\n", "$-1\r\n"),
        ("SET new 2 XX\r\n", "$-1\r\n"),
        ("SET k 2 XX\r\n", "+OK\r\n"),
        ("SET k 2 XX NX\r\n", "-ERR syntax error\r\n"),
        ("INCR k\r\n", ":3\r\n"),
        ("INCRBY k 9223372036854775807\r\n", "-ERR increment or decrement would overflow\r\n"),
        ("DECR n\r\n", ":-1\r\n"),
        ("MGET k none n\r\n", "*3\r\n$1\r\n3\r\n$-1\r\n$2\r\n-1\r\n"),
        ("MSET a 1 b 2\r\n", "+OK\r\n"),
        ("MSET a 1 b\r\n", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("EXISTS a b c a\r\n", ":3\r\n"),
        ("DEL a c a\r\n", ":1\r\n"),
        ("EXISTS a\r\n", ":0\r\n"),
        ("HSET h f 1 g 2\r\n", ":2\r\n"),
        ("HSET h f 3\r\n", ":0\r\n"),
        ("HGET h f\r\n", "$1\r\n3\r\n"),
        ("HGET h x\r\n", "$-1\r\n"),
        ("HGETALL h\r\n", "*4\r\n$1\r\nf\r\n$1\r\n3\r\n$1\r\ng\r\n$1\r\n2\r\n"),
        ("LPUSH l a b c\r\n", ":3\r\n"),
        ("RPOP l\r\n", "$1\r\na\r\n"),
        ("LLEN l\r\n", ":2\r\n"),
        ("RPOP l\r\nRPOP l\r\nRPOP l\r\n", "$1\r\nb\r\n$1\r\nc\r\n$-1\r\n"),
        ("EXISTS l\r\n", ":0\r\n"),
        ("TYPE h\r\nTYPE k\r\nTYPE l\r\n", "+hash\r\n+string\r\n+none\r\n"),
        ("GET h\r\n", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("INCR h\r\n", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("SELECT 0\r\n", "+OK\r\n"),
        ("SELECT 1\r\n", "-ERR DB index is out of range: there is one, 0\r\n"),
        ("CONFIG GET save\r\n", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CLIENT SETINFO LIB-NAME x\r\n", "+OK\r\n"),
        ("nonsense\r\n", "-ERR unknown command 'nonsense'\r\n"),
        ("GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n"),
    ];
    for (line, expected) in exchanges {
        bench.ask(line, expected);
    }
}

/// Goal: what one commit cannot carry is carried by several, in order, each command once.
#[test]
fn a_pipeline_that_is_longer_than_a_commit_is_carried_out_in_order() {
    let mut bench = Bench::new();
    let keys = 3 * KEYS_MAX;
    let mut pipeline = String::new();
    for key in 0..keys {
        pipeline.push_str(&format!("INCR k{key}\r\nINCR all\r\n"));
    }
    let (first, second) = pipeline.split_at(pipeline.find("INCR k17").expect("it is there"));
    bench.say(first.as_bytes());
    bench.say(second.as_bytes());
    assert!(bench.serve() > 2, "it takes several commits");
    let expected: String = (1..=keys).map(|count| format!(":1\r\n:{count}\r\n")).collect();
    assert_eq!(bench.answers(expected.len()), expected);
    let connection = bench.pair.object("connections", b"c").expect("it is there");
    assert_eq!(Session::of(&connection.value), Session::default(), "nothing is half done");
}

/// Goal: commands of one commit see what those before them left, also what they have not looked at, and it stays.
#[test]
fn commands_of_one_commit_see_what_was_left_in_place() {
    let mut bench = Bench::new();
    bench.ask("SET k old\r\n", "+OK\r\n");
    let pipeline = "EXPIRE k 100\r\nGET k\r\nEXPIRE k 50\r\n";
    bench.say(pipeline.as_bytes());
    assert_eq!(bench.serve(), 1, "one commit");
    assert_eq!(bench.answers(16), ":1\r\n$3\r\nold\r\n:1\r\n");
    bench.ask("EXPIRE k 70\r\n", ":1\r\n");
    bench.ask("GET k\r\n", "$3\r\nold\r\n");
    let pipeline = "PERSIST k\r\nSET k new\r\nGET k\r\nDEL k\r\nGET k\r\nSET k last\r\n";
    bench.say(pipeline.as_bytes());
    assert_eq!(bench.serve(), 1, "one commit");
    let answers = ":1\r\n+OK\r\n$3\r\nnew\r\n:1\r\n$-1\r\n+OK\r\n";
    assert_eq!(bench.answers(answers.len()), answers);
    bench.ask("GET k\r\n", "$4\r\nlast\r\n");
    bench.ask("TTL k\r\n", ":-1\r\n");
}

/// Goal: a command of several keys happens as a whole or not at all.
#[test]
fn more_keys_than_a_commit_carries_are_refused_and_nothing_is_set() {
    let mut bench = Bench::new();
    let mset = |count: usize| {
        let words: String = (0..count).map(|key| format!(" m{key} v")).collect();
        format!("MSET{words}\r\n")
    };
    bench.ask(&mset(KEYS_MAX), "+OK\r\n");
    bench.ask("DEL m0\r\n", ":1\r\n");
    let refused = format!("-ERR more than {KEYS_MAX} keys, which is what one commit carries\r\n");
    bench.ask(&mset(KEYS_MAX + 1), &refused);
    bench.ask("EXISTS m0 m1\r\n", ":1\r\n");
    let long = "x".repeat(9_000);
    bench.ask(&array(&["LPUSH", "l", &long]), ":1\r\n");
    bench.ask(
        &array(&["LPUSH", "l", &long]),
        "-ERR key and value have 18010 bytes; here they have at most 16384\r\n",
    );
    bench.ask("LLEN l\r\n", ":1\r\n");
}

/// Goal: long answers leave in order, by several packets and several commits.
#[test]
fn long_answers_are_cut_and_stay_in_order() {
    let mut bench = Bench::new();
    let value = |letter: &str| letter.repeat(9_000);
    for letter in ["a", "b", "c", "d"] {
        bench.ask(&array(&["SET", letter, &value(letter)]), "+OK\r\n");
    }
    bench.say(b"MGET a b c d\r\nGET d\r\nGET a\r\nPING\r\n");
    bench.serve();
    let string = |letter: &str| format!("$9000\r\n{}\r\n", value(letter));
    let all: String = ["a", "b", "c", "d"].map(string).concat();
    let expected = format!("*4\r\n{all}{}{}+PONG\r\n", string("d"), string("a"));
    assert_eq!(bench.answers(expected.len()), expected);
    let many = "a ".repeat(120);
    bench.ask(&format!("MGET {many}\r\n"), "-ERR the answer is longer than one commit carries\r\n");
}

/// Goal: a time to live passes on the host that is left as it would have on the one that is lost.
#[test]
fn a_time_to_live_survives_the_host() {
    let mut bench = Bench::new();
    bench.ask("SET k v EX 3600\r\nTTL k\r\n", "+OK\r\n:3600\r\n");
    bench.ask(
        "SET kept v\r\nEXPIRE kept 3600\r\nPERSIST kept\r\nTTL kept\r\n",
        "+OK\r\n:1\r\n:1\r\n:-1\r\n",
    );
    bench.ask("SET n 1 PX 3600000\r\nINCR n\r\nTTL n\r\n", "+OK\r\n:2\r\n:3600\r\n");
    bench.ask("SET n 1\r\nTTL n\r\n", "+OK\r\n:-1\r\n");
    let begun = Instant::now();
    bench.ask("EXPIRE k 7200\r\nEXPIRE none 1\r\nTTL none\r\n", ":1\r\n:0\r\n:-2\r\n");
    bench.ask("SET gone v\r\nEXPIRE gone 0\r\nGET gone\r\n", "+OK\r\n:1\r\n$-1\r\n");
    bench.pair.kill_primary();
    bench.pair.advance(Duration::from_secs(7_000));
    bench.say(b"TTL k\r\n");
    bench.serve();
    let left = bench.answers(1);
    let left: u64 = left.trim_matches([':', '\r', '\n']).parse().expect("a number");
    // The host's clock went on as well.
    let least = 200 - begun.elapsed().as_secs_f64().ceil() as u64;
    assert!((least..=200).contains(&left), "{left} of 7,200 s after 7,000, {:?}", begun.elapsed());
    bench.pair.advance(Duration::from_secs(300));
    // Nobody has withdrawn it, and it is gone.
    bench.ask("GET k\r\nTTL k\r\nSET k v XX\r\nEXISTS kept\r\n", "$-1\r\n:-2\r\n$-1\r\n:1\r\n");
    assert!(bench.pair.object("keys", b"k").is_some());
    bench.ask("SET k v NX\r\nTTL k\r\n", "+OK\r\n:-1\r\n");
}

/// Goal: who asks for version 3 gets it, also from the host that is left; an end ends the object.
#[test]
fn a_connection_remembers_its_version_and_ends() {
    let mut bench = Bench::new();
    bench.say(b"HELLO 3\r\nGET none\r\n");
    bench.serve();
    let hello = bench.pair.next_packet("store").payload;
    assert!(hello.starts_with(b"%5\r\n") && hello.ends_with(b"_\r\n"), "{hello:?}");
    bench.ask("GET none\r\n", "_\r\n");
    bench.ask("QUIT\r\nSET late v\r\n", "+OK\r\n");
    let end = bench.pair.next_packet("store");
    assert_eq!((end.payload.len(), end.to.map(|to| to.port())), (0, Some(0)), "it is to end");
    bench.say(b"SET later v\r\n");
    let mut ended = client();
    ended.set_port(0);
    bench.pair.deliver_from("connections", b"c", Some(ended), b"");
    bench.serve();
    assert!(bench.pair.object("connections", b"c").is_none(), "withdrawn");
    assert!(
        bench.pair.object("keys", b"late").is_none()
            && bench.pair.object("keys", b"later").is_none()
    );
}

use super::*;

const DOCUMENTED: &str = include_str!("../../docs/hotpair.toml");

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/hotpair/hotpair.toml"), text)
}

/// The documented file with every commented-out key switched on.
fn all_keys() -> String {
    let mut text = String::new();
    for line in DOCUMENTED.lines() {
        let key = line.strip_prefix("# ").filter(|rest| {
            rest.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
        });
        // `bind` and `holder` exclude each other, and so do `endpoints`, `store` and [witness]. The rest is of other kinds of ports.
        #[rustfmt::skip]
        let others = [
            "bind", "endpoints", "store", "path", "interface", "attach", "replay", "capture", "speed", "framing", "connections", "unsent_max",
            "frame_wait", "idle", "linger",
        ];
        let other = |rest: &&str| others.iter().any(|other| rest.starts_with(other));
        let key = key.filter(|rest| !other(rest));
        text.push_str(key.unwrap_or(line));
        text.push('\n');
    }
    text
}

#[test]
fn the_documented_file_is_valid() {
    let config = parse(DOCUMENTED).expect("docs/hotpair.toml parses");
    assert_eq!(config.region_name(), "demo-a");
    assert_eq!(config.file.pki.dir, Path::new("/etc/hotpair/pki"));
    let holder = config.port("service").and_then(|port| port.holder.as_deref());
    assert_eq!(holder, Some(Path::new("/etc/hotpair/service.sock")));
    config.geometry().region_bytes().expect("the region can be built");
}

/// Goal: what the comments show as defaults are keys that exist, with the values that hold.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let mut documented = parse(&all_keys()).expect("every documented key exists");
    let plain = parse(DOCUMENTED).expect("docs/hotpair.toml parses");
    // These have no default: what the comment shows is an example.
    documented.file.queue[0].deadline = None;
    documented.file.queue[0].lease = None;
    documented.file.port[0].command = None;
    documented.file.port[0].user = None;
    documented.file.port[0].multicast = None;
    // What they are without a value is said where they are used.
    let port = &mut documented.file.port[0];
    assert_eq!(port.key.take().map(|key| *key.get_ref()), Some(plain.file.port[0].key_or_usual()));
    assert_eq!(port.reuse_port.take().map(|reuse| *reuse.get_ref()), Some(false));
    assert_eq!(port.gro.take().map(|gro| *gro.get_ref()), Some(false));
    assert_eq!(port.fair_shares.take().map(|fair| *fair.get_ref()), Some(true));
    documented.file.admin.group = None;
    assert_eq!(
        port.ingest.take().map(|ingest| *ingest.get_ref()),
        Some(plain.file.port[0].ingest())
    );
    documented.file.metrics.listen = None;
    documented.file.dashboard.listen = None;
    documented.file.control.delay_acks = None;
    documented.file.replication.divergences = None;
    documented.file.replication.links = Vec::new();
    documented.file.journal.dir = None;
    documented.file.service = file::Service {
        hook_limit: documented.file.service.hook_limit.clone(),
        ..file::Service::default()
    };
    documented.file.gateway = file::Gateway::default();
    // Spans differ, values must not.
    let values = |config: &Config| {
        let text = format!("{:#?}", config.file);
        let is_value = |line: &&str| !line.trim_start().starts_with("span:");
        text.lines().filter(is_value).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(values(&documented), values(&plain));
}

/// Goal: no key exists that the documented file does not explain.
#[test]
fn every_key_is_documented() {
    let source = include_str!("file.rs");
    for line in source.lines() {
        let Some(field) = line.trim().strip_prefix("pub(crate) ") else { continue };
        let Some((name, _)) = field.split_once(':') else { continue };
        let documented = ["", "# "].iter().any(|lead| {
            let starts = [
                format!("\n{lead}{name} = "),
                format!("\n{lead}[{name}]"),
                format!("\n{lead}[[{name}]]"),
                format!("\n{lead}[[region.{name}]]"),
            ];
            starts.iter().any(|start| DOCUMENTED.contains(start))
        });
        assert!(documented, "docs/hotpair.toml does not explain `{name}`");
    }
}

#[test]
fn a_pair_may_do_without_an_arbiter() {
    let without = DOCUMENTED
        .replace("# kind = \"witness\"", "kind = \"none\"")
        .replace("# store = ", "store = ")
        .replace("[witness]\n", "")
        .replace("\naddress = ", "\n# address = ");
    let config = parse(&without).expect("a store is all it needs");
    let store = config.file.arbiter.store.as_ref().map(|store| store.get_ref().as_path());
    assert_eq!(store, Some(Path::new("/var/lib/hotpair/view-a")));
}

#[test]
fn wrong_files_are_blamed_by_line_and_caret() {
    #[rustfmt::skip]
    let cases = [
        // why                 in the documented file     becomes                 the message has
        ("unknown key",        "slots = 4096",            "slotz = 4096",         "unknown field `slotz`"),
        ("wrong type",         "slots = 4096",            "slots = \"many\"",     "expected u32"),
        ("no unit",            "# period = \"1ms\"",      "period = \"1\"",       "is not a duration"),
        ("zero period",        "# period = \"1ms\"",      "period = \"0ms\"",     "must not be zero"),
        ("unknown queue",      "queue = \"calls\"\n# What", "queue = \"cals\"\n# What", "no [[queue]] is named `cals`"),
        ("a path as a name",   "name = \"demo-a\"",       "name = \"../demo\"",   "is a file name"),
        ("two arbiters",       "# kind = \"witness\"",  "kind = \"etcd\"\nendpoints = [\"http://a:1\"]", "one arbiter"),
        ("no endpoints",       "# kind = \"witness\"",  "kind = \"etcd\"",      "needs `endpoints`"),
        ("no store",           "# kind = \"witness\"",  "kind = \"none\"", "needs `store`"),
        ("a store too many",   "# kind = \"witness\"",  "store = \"view\"", "has a store"),
        ("a witness too many", "# kind = \"witness\"",  "kind = \"none\"\nstore = \"view\"", "there is a [witness]"),
        ("foreign endpoints",  "# kind = \"witness\"",  "endpoints = [\"http://a:1\"]", "only an arbiter of kind"),
        ("talks to itself",    "peer = \"127.0.0.1:7420\"", "peer = \"127.0.0.1:7410\"", "are both 127.0.0.1:7410"),
        ("hasty",              "# misses = 8",            "misses = 1",           "at least 2"),
        ("no deadline",        "# deadline = \"10ms\"",   "deadline = \"0ms\"",  "deadline of zero"),
        ("hasty lease",        "# lease = \"2s\"",        "lease = \"9ms\"",     "at least 10 ms"),
        ("unknown overload",   "# overload = \"reject\"", "overload = \"panic\"", "unknown variant `panic`"),
        ("no such node",       "node = \"a\"",            "node = \"c\"",         "unknown variant `c`"),
        ("no socket",          "holder = \"service.sock\"", "",                   "either `bind`"),
        ("neither tried nor not", "# huge_pages = \"try\"", "huge_pages = \"on\"", "expected `off` or `try`"),
        ("hasty eviction",    "# ack_wait = \"100ms\"", "ack_wait = \"9ms\"", "at least 10 ms"),
        ("more than a core",  "# spin_percent = 10",   "spin_percent = 101",  "of which there are 100"),
        ("sync all the time", "# interval = \"100ms\"", "interval = \"0ms\"",  "interval of nothing"),
        ("tiny segments",     "# segment = \"64MiB\"", "segment = \"1KiB\"",   "at least 1 MiB"),
        ("sync now and then", "# fsync = \"interval\"", "fsync = \"often\"",   "unknown variant `often`"),
        ("endless lease",     "# lease = \"30ms\"",  "lease = \"31ms\"",    "at most 30ms"),
        ("bound of nothing",  "# packet_bytes_max = 1984",   "mode = { bounded = { age = \"0ms\", bytes = \"1KiB\" } }", "a bound of nothing"),
        ("half a bound",      "# packet_bytes_max = 1984",   "mode = { bounded = { age = \"5ms\" } }", "missing field `bytes`"),
        ("no unit of bytes",  "# packet_bytes_max = 1984",   "mode = { bounded = { age = \"5ms\", bytes = \"9\" } }", "is not a size"),
        ("no interface",       "# addresses = [",         "addresses = [\"192.0.2.1/24\"]\n# ", "dev INTERFACE"),
        ("twice",              "# addresses = [",         "addresses = [\"192.0.2.1/24 dev a\", \"192.0.2.1/32 dev a\"]\n# ", "stands here twice"),
        ("an address of a node", "# addresses = [",       "addresses = [\"127.0.0.1/8 dev lo\"]\n# ", "it does not move"),
        ("no time for a hook", "# hook_limit = \"10s\"", "hook_limit = \"0s\"", "no time"),
        ("empty hook",         "# on_primary = [",        "on_primary = []\n# ", "command is empty"),
        ("empty command",      "[\"./my-worker\"]",       "[]",                   "command is empty"),
    ];
    for (why, from, to, message) in cases {
        assert!(DOCUMENTED.contains(from), "{why}: the documented file has no {from:?}");
        let error = parse(&DOCUMENTED.replacen(from, to, 1)).expect_err(why);
        assert!(error.contains(message), "{why}: {error}");
        assert!(error.contains(" line ") && error.contains('^'), "{why}: {error}");
    }
}

#[test]
fn etcd_takes_the_place_of_the_witness() {
    let witness = "[witness]\n";
    let start = DOCUMENTED.find(witness).expect("documented");
    let end = start + DOCUMENTED[start..].find("[replication]").expect("the next section");
    let without = [&DOCUMENTED[..start], &DOCUMENTED[end..]].concat();
    let with = |endpoints: &str| {
        let etcd = format!("kind = \"etcd\"\nendpoints = {endpoints}");
        parse(&without.replacen("# kind = \"witness\"", &etcd, 1))
    };
    with("[\"http://10.0.0.5:2379\", \"http://[::1]:2379/\"]").expect("two endpoints");
    for wrong in ["[]", "[\"10.0.0.5:2379\"]", "[\"https://a:1\"]", "[\"http://a:1/v3\"]"] {
        assert!(with(wrong).expect_err(wrong).contains("http://host:port"), "{wrong}");
    }
    assert!(parse(&without).expect_err("no arbiter").contains("[witness]"));
}

#[test]
fn each_port_has_its_mode() {
    let mode = |text: &str| {
        let with = DOCUMENTED.replacen("# packet_bytes_max = 1984", &format!("mode = {text}"), 1);
        parse(&with).expect(text).port_modes()
    };
    let (age, bytes) = (std::time::Duration::from_millis(5), 1 << 20);
    let bounded = "{ bounded = { age = \"5ms\", bytes = \"1MiB\" } }";
    assert_eq!(mode(bounded), [hotpair_shm::PortMode::Bounded { age, bytes }]);
    assert_eq!(mode("\"local\""), [hotpair_shm::PortMode::Local]);
    assert_eq!(mode("\"sync\""), parse(DOCUMENTED).expect("valid").port_modes());
}

#[test]
fn a_geometry_that_cannot_be_is_refused() {
    let error = parse(&DOCUMENTED.replacen("slots = 4096", "slots = 0", 1)).expect_err("no slots");
    assert!(error.contains("slots"), "{error}");
    for (key, default, range) in
        [("ingest_percent", 75, "from 1 to 100"), ("magazine", 64, "from 1 to 1024")]
    {
        let zero = DOCUMENTED.replacen(&format!("# {key} = {default}"), &format!("{key} = 0"), 1);
        let error = parse(&zero).expect_err("nothing for anybody");
        assert!(error.contains(key) && error.contains(range), "{error}");
    }
    let same = DOCUMENTED.to_owned() + "\n[[queue]]\nname = \"calls\"\n";
    assert!(parse(&same).expect_err("two queues of one name").contains("calls"));
}

#[test]
fn links_are_as_many_as_a_pair_can_have_and_each_has_addresses_of_its_own() {
    let links = |links: &[&str]| {
        let listen = "peer = \"127.0.0.1:7420\"";
        let all = format!("{listen}\nlinks = [{}]", links.join(", "));
        parse(&DOCUMENTED.replace(listen, &all)).map(|config| config.file.replication.links.len())
    };
    let link =
        |at: u16| format!("{{ listen = \"10.0.{at}.1:7410\", peer = \"10.0.{at}.2:7410\" }}");
    let (one, two, three, four) = (link(1), link(2), link(3), link(4));
    assert_eq!(links(&[]), Ok(0));
    assert_eq!(links(&[&one, &two, &three]), Ok(3));
    #[rustfmt::skip]
    let wrong = [
        (vec![&one[..], &two, &three, &four], "at most 4 links"),
        (vec![&one[..], &one], "10.0.1.1:7410 stands here twice"),
        (vec!["{ listen = \"127.0.0.1:7410\", peer = \"10.0.0.1:1\" }"], "127.0.0.1:7410 stands here twice"),
        (vec!["{ listen = \"10.0.0.1:65535\", peer = \"10.0.0.2:1\" }"], "next higher port"),
        (vec!["{ listen = \"10.0.0.1:1\" }"], "peer"),
    ];
    for (given, expected) in wrong {
        let error = links(&given).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

//! Certificates are replaced while connections and configurations that exist go on.

use std::fs;

use super::*;
use crate::pki::rotate::rotate_at;
use crate::tls::{CredentialsWatch, Reload};

/// What a member's files look like at one step of a rotation, whoever else has taken it.
fn snapshot(pair: &TestPair) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(pair.dir.path()).expect("readable").flatten() {
        fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
    }
    to
}

fn of(dir: &tempfile::TempDir, member: &str) -> Credentials {
    Credentials::from_dir(dir.path(), member).expect("a consistent set")
}

/// Goal: the files may reach the members in any order. Method: every two neighbouring steps meet, either
/// way round.
#[test]
fn members_accept_each_other_a_step_apart() {
    let pair = TestPair::new("demo");
    let mut steps = vec![("before", snapshot(&pair))];
    for (name, rotation) in [
        ("members", Rotation::Members),
        ("authority", Rotation::Authority),
        ("finish", Rotation::Finish),
        ("again", Rotation::Members),
    ] {
        let rotated = rotate(pair.dir.path(), rotation).expect(name);
        assert_eq!(rotated.cluster, pair.cluster, "{name}");
        assert_eq!(rotated.authorities, if name == "authority" { 2 } else { 1 });
        steps.push((name, snapshot(&pair)));
    }
    for (one, other) in (0..steps.len()).flat_map(|at| [(at, at), (at, at + 1), (at + 1, at)]) {
        let (Some((from, a)), Some((to, b))) = (steps.get(one), steps.get(other)) else { continue };
        let (dialled, answered) =
            meet(&of(a, "node-a"), "node-b", &of(b, "node-b"), Expect::node("node-a"));
        assert!(dialled.is_ok() && answered.is_ok(), "{from} {to}: {dialled:?} {answered:?}");
    }
    // Two steps apart, across the end of the old authority: refused both ways, by whichever end sees it.
    let (old, new) = (&steps[1].1, &steps[3].1);
    for (a, b) in [(old, new), (new, old)] {
        let (dialled, answered) =
            meet(&of(a, "node-a"), "node-b", &of(b, "node-b"), Expect::node("node-a"));
        let texts = [dialled.err(), answered.err()].map(|error| error.map(|error| text(&error)));
        assert!(
            texts
                .iter()
                .flatten()
                .any(|text| text.contains("is not signed by the authority of pair demo")),
            "{texts:?}"
        );
    }
}

#[test]
fn a_configuration_shows_and_trusts_what_is_in_use_at_the_handshake() {
    let pair = TestPair::new("demo");
    let (a, b) = (pair.of("node-a"), pair.of("node-b"));
    let (kept_a, kept_b) = meet(&a, "node-b", &b, Expect::any_node());
    let (mut kept_a, mut kept_b) = (kept_a.expect("accepted"), kept_b.expect("accepted"));
    // Made before the rotation, and used after it.
    let config = Arc::new(b.server_config(Expect::any_node(), b"test").expect("loaded"));
    let first = a.in_use();
    for rotation in [Rotation::Authority, Rotation::Finish] {
        rotate(pair.dir.path(), rotation).expect("rotated");
        for credentials in [&a, &b] {
            credentials.reload().expect("consistent").expect("it is news");
            assert_eq!(credentials.reload().expect("consistent"), None, "told once");
        }
    }
    assert_ne!(a.in_use(), first);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answering = thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("a client");
        Channel::accept(tcp, config, 64, soon())
    });
    let client = Arc::new(a.client_config(Expect::any_node(), b"test").expect("loaded"));
    let name = a.server_name("node-b").expect("legal");
    Channel::connect(address, client, name, 64, soon()).expect("the new ones fit");
    answering.join().expect("no panic").expect("the new ones fit");

    // And what was connected before goes on.
    kept_a.send(b"still", soon()).expect("connected");
    assert_eq!(kept_b.receive(soon(), Duration::from_secs(10)).expect("connected"), b"still");
}

#[test]
fn files_that_do_not_fit_change_nothing() {
    let (pair, other) = (TestPair::new("demo"), TestPair::new("demo"));
    let a = pair.of("node-a");
    let before = a.in_use();
    // Copied by hand, one by one, and the key is still to come.
    rotate(pair.dir.path(), Rotation::Members).expect("rotated");
    let key = pair.dir.path().join("node-a.key");
    let good = fs::read(&key).expect("readable");
    fs::copy(pair.dir.path().join("node-b.key"), &key).expect("copied");
    assert!(matches!(a.reload(), Err(LoadError::Key { .. })));
    assert_eq!(a.in_use(), before);
    fs::write(&key, good).expect("written");
    assert!(a.reload().expect("they fit now").is_some());
    assert_ne!(a.in_use(), before);
    // Those of another pair fit each other, and are not ours.
    for name in ["ca.pem", "node-a.pem", "node-a.key"] {
        fs::copy(other.dir.path().join(name), pair.dir.path().join(name)).expect("copied");
    }
    let error = a.reload().expect_err("another pair");
    assert!(text(&error).contains("belongs to pair"), "{}", text(&error));
}

#[test]
fn new_files_are_noticed_and_trouble_is_told() {
    let pair = TestPair::new("demo");
    let a = pair.of("node-a");
    let (tell, told) = std::sync::mpsc::channel();
    let watch = CredentialsWatch::start(&a, move |found: Result<Reload, LoadError>| {
        tell.send(found.map_err(|error| text(&error))).expect("the test waits");
    })
    .expect("a thread");
    let patience = Duration::from_secs(30);
    rotate(pair.dir.path(), Rotation::Members).expect("rotated");
    // By itself.
    let reload = told.recv_timeout(patience).expect("noticed").expect("good files");
    assert_eq!(reload, a.in_use());
    fs::remove_file(pair.dir.path().join("node-a.pem")).expect("it is there");
    // Because it was asked.
    watch.look_now().look();
    let error = told.recv_timeout(patience).expect("noticed").expect_err("one is missing");
    assert!(error.contains("cannot read"), "{error}");
    drop(watch);
    assert!(told.recv_timeout(patience).is_err(), "told once, and the thread is gone");
}

#[test]
fn a_rotation_needs_its_key_and_is_done_in_order() {
    let pair = TestPair::new("demo");
    let dir = pair.dir.path();
    let refused = |rotation| rotate(dir, rotation).expect_err("refused");
    assert!(matches!(refused(Rotation::Finish), RotateError::NothingToFinish { .. }));
    let elsewhere = dir.join("elsewhere");
    fs::rename(dir.join("ca.key"), &elsewhere).expect("moved");
    let error = refused(Rotation::Members);
    assert!(matches!(&error, RotateError::Read { path, .. } if path.ends_with("ca.key")));
    fs::copy(dir.join("node-a.key"), dir.join("ca.key")).expect("copied");
    assert!(matches!(refused(Rotation::Authority), RotateError::OtherKey { .. }));
    fs::rename(&elsewhere, dir.join("ca.key")).expect("moved");
    rotate(dir, Rotation::Authority).expect("rotated");
    for rotation in [Rotation::Authority, Rotation::Members] {
        assert!(matches!(refused(rotation), RotateError::Unfinished { found: 2, .. }));
    }
    // A host with one member's files can finish.
    let host = tempfile::tempdir().expect("a directory");
    for name in ["ca.pem", "node-b.pem", "node-b.key"] {
        fs::copy(dir.join(name), host.path().join(name)).expect("copied");
    }
    rotate(host.path(), Rotation::Finish).expect("finished");
    assert!(Credentials::from_dir(host.path(), "node-b").is_ok());
    let mode = fs::metadata(host.path().join("node-b.pem")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_there_is_listed_with_its_days() {
    let pair = TestPair::new("demo");
    let day = Duration::from_secs(86_400);
    let at = Duration::from_secs(now().as_secs());
    // Issued twenty years ago, so that members and authority end at different times.
    rotate_at(pair.dir.path(), Rotation::Members, at - day * 3_640).expect("rotated");
    let listed = inspect(pair.dir.path()).expect("a pair");
    let names: Vec<_> = listed
        .iter()
        .map(|listed| match &listed.bearer {
            Bearer::Member(identity) => identity.member.clone(),
            Bearer::Authority(name) => name.split(' ').take(2).collect::<Vec<_>>().join(" "),
        })
        .collect();
    assert_eq!(names, ["node-a", "node-b", "witness", "worker", "hotpair demo"]);
    assert!(listed.iter().all(|listed| listed.has_key && listed.is_trusted));
    let (member, authority) = (&listed[0], &listed[4]);
    assert_eq!(member.state(at, day * 5), State::Good { days_left: 10 });
    assert_eq!(member.state(at, day * 30), State::Soon { days_left: 10 });
    assert_eq!(member.state(at + day * 10, day), State::Soon { days_left: 0 });
    assert_eq!(member.state(at + day * 11, day), State::Expired);
    assert_eq!(member.state(at - day * 4_000, day), State::NotYet);
    assert!(matches!(authority.state(at, day * 30), State::Good { days_left: 3_649..=3_650 }));
    assert_eq!(member.fingerprint.len(), 64);

    // A certificate of another authority is shown as what it is.
    let other = TestPair::new("demo");
    fs::copy(other.dir.path().join("node-a.pem"), pair.dir.path().join("node-a.pem"))
        .expect("copied");
    let listed = inspect(pair.dir.path()).expect("a pair");
    assert!(!listed[0].is_trusted && listed[1].is_trusted);
    let empty = tempfile::tempdir().expect("a directory");
    assert!(matches!(inspect(empty.path()), Err(InspectError::Empty { .. })));
}

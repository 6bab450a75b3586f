//! Certificates of this pair are accepted; all others are refused with both sides named.

mod refused;
mod rotation;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::tls::{Channel, ChannelError, Credentials, LoadError};

/// A pair's certificates in a directory that goes away with the value.
pub(crate) struct TestPair {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cluster: Cluster,
}

impl TestPair {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cluster = create(dir.path(), name).expect("an empty directory takes a new pair");
        Self { dir, cluster }
    }

    pub(crate) fn of(&self, member: &str) -> Credentials {
        Credentials::from_dir(self.dir.path(), member).expect("fresh credentials load")
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Shakes hands over loopback; what the dialling and the answering end say.
fn meet(
    client: &Credentials,
    calls: &str,
    server: &Credentials,
    accepts: Expect,
) -> (Result<Channel, ChannelError>, Result<Channel, ChannelError>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let config = Arc::new(server.server_config(accepts, b"test").expect("loaded"));
    let answering = thread::spawn(move || {
        let (tcp, _): (TcpStream, _) = listener.accept().expect("a client");
        let mut channel = Channel::accept(tcp, config, 64, soon())?;
        let frame = channel.receive(soon(), Duration::from_secs(10))?;
        channel.send(&frame, soon())?;
        Ok(channel)
    });
    let config = Arc::new(client.client_config(Expect::node(calls), b"test").expect("loaded"));
    let name = client.server_name(calls).expect("a legal name");
    let dialled = Channel::connect(address, config, name, 64, soon()).and_then(|mut channel| {
        channel.send(b"echo", soon())?;
        assert_eq!(channel.receive(soon(), Duration::from_secs(10))?, b"echo");
        Ok(channel)
    });
    (dialled, answering.join().expect("no panic"))
}

/// The whole text of an error, as the program prints it.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[test]
fn members_of_a_pair_know_each_other() {
    let pair = TestPair::new("demo");
    let (dialled, answered) =
        meet(&pair.of("node-a"), "node-b", &pair.of("node-b"), Expect::node("node-a"));
    assert_eq!(dialled.expect("accepted").peer().member, "node-b");
    let answered = answered.expect("accepted");
    assert_eq!(answered.peer().member, "node-a");
    assert_eq!(answered.peer().cluster, pair.cluster);
}

#[test]
fn another_pair_is_refused_with_both_names() {
    let (ours, theirs) = (TestPair::new("ours"), TestPair::new("theirs"));
    let (dialled, answered) =
        meet(&ours.of("node-a"), "node-b", &theirs.of("node-b"), Expect::node("node-a"));
    let expected = format!(
        "the certificate belongs to pair {}, this is pair {}",
        theirs.cluster, ours.cluster
    );
    let error = dialled.expect_err("another pair");
    assert!(text(&error).ends_with(&expected), "{}", text(&error));
    assert!(answered.is_err(), "the other end learns that it was refused");
}

#[test]
fn a_pair_of_the_same_name_is_told_apart_by_its_id() {
    let (ours, theirs) = (TestPair::new("demo"), TestPair::new("demo"));
    let (dialled, _) =
        meet(&ours.of("node-a"), "node-b", &theirs.of("node-b"), Expect::node("node-a"));
    match dialled.expect_err("another pair") {
        ChannelError::Refused { source: IdentityError::OtherPair { expected, found } } => {
            assert_eq!((expected, found), (ours.cluster, theirs.cluster));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn role_and_member_are_checked() {
    let pair = TestPair::new("demo");
    let (dialled, _) = meet(&pair.of("node-a"), "node-b", &pair.of("witness"), Expect::any_node());
    let error = text(&dialled.expect_err("a witness is no node"));
    assert!(error.contains("witness has role witness, this needs role node"), "{error}");

    let (dialled, _) = meet(&pair.of("node-a"), "node-b", &pair.of("node-a"), Expect::any_node());
    let error = text(&dialled.expect_err("a node does not replicate to itself"));
    assert!(error.contains("belongs to node-a, expected that of node-b"), "{error}");

    let (_, answered) =
        meet(&pair.of("witness"), "node-b", &pair.of("node-b"), Expect::node("node-a"));
    let error = text(&answered.expect_err("a witness does not replicate"));
    assert!(error.contains("this needs role node"), "{error}");
}

#[test]
fn a_forged_certificate_is_not_believed() {
    // Same name, same id, other authority: only the signature tells.
    let ours = TestPair::new("demo");
    let forged = tempfile::tempdir().expect("a temporary directory");
    issue::issue_all(forged.path(), &ours.cluster, now().as_secs(), Duration::from_secs(3_600))
        .expect("issued");
    let forger = Credentials::from_dir(forged.path(), "node-b").expect("consistent in itself");
    let (dialled, _) = meet(&ours.of("node-a"), "node-b", &forger, Expect::any_node());
    let error = text(&dialled.expect_err("another authority"));
    assert!(error.contains("node-b is not signed by the authority of pair demo"), "{error}");
}

#[test]
fn an_expired_certificate_is_refused_where_it_is_loaded() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster { name: "demo".to_owned(), id: 7 };
    issue::issue_all(dir.path(), &cluster, 1_000_000_000, Duration::from_secs(3_600))
        .expect("issued");
    let error = Credentials::from_dir(dir.path(), "node-a").expect_err("long over");
    let error = text(&error);
    assert!(error.contains("node-a expired on 2001-09-09 02:46 UTC, now it is 20"), "{error}");
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (ours, theirs) = (TestPair::new("ours"), TestPair::new("theirs"));
    let path = |pair: &TestPair, name: &str| pair.dir.path().join(name);
    let load = |ca: &Path, certificate: &Path, key: &Path| {
        Credentials::load(ca, certificate, key).expect_err("they do not belong together")
    };
    let error =
        load(&path(&theirs, "ca.pem"), &path(&ours, "node-a.pem"), &path(&ours, "node-a.key"));
    assert!(text(&error).contains("not signed by the authority"), "{}", text(&error));
    let error =
        load(&path(&ours, "ca.pem"), &path(&ours, "node-a.pem"), &path(&ours, "node-b.key"));
    assert!(matches!(error, LoadError::Key { .. }), "{error:?}");
    let error = load(&path(&ours, "ca.pem"), &path(&ours, "none.pem"), &path(&ours, "node-a.key"));
    assert!(matches!(error, LoadError::Read { .. }), "{error:?}");
    let error =
        load(&path(&ours, "ca.pem"), &path(&ours, "node-a.key"), &path(&ours, "node-a.key"));
    assert!(matches!(error, LoadError::Pem { .. }), "{error:?}");
}

#[test]
fn a_pair_is_made_once_and_its_keys_are_private() {
    let pair = TestPair::new("demo");
    for name in ["ca.key", "node-a.key", "node-b.key", "witness.key"] {
        let mode = std::fs::metadata(pair.dir.path().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let error = create(pair.dir.path(), "demo").expect_err("there is one");
    assert!(matches!(error, CreateError::Exists { .. }), "{error:?}");
    for name in ["", "-a", "a.b", "Demo", "x".repeat(41).as_str()] {
        let error = create(&pair.dir.path().join("new"), name).expect_err(name);
        assert!(matches!(error, CreateError::Name { .. }), "{error:?}");
    }
}

#[test]
fn a_channel_refuses_large_frames_and_waits_for_nobody() {
    let pair = TestPair::new("demo");
    let (dialled, answered) =
        meet(&pair.of("node-a"), "node-b", &pair.of("node-b"), Expect::any_node());
    let (mut dialled, mut answered) = (dialled.expect("accepted"), answered.expect("accepted"));
    let error = dialled.send(&[0; 65], soon()).expect_err("more than the limit");
    assert!(matches!(error, ChannelError::TooLarge { bytes: 65, limit: 64 }), "{error:?}");
    let error = answered
        .receive(Instant::now() + Duration::from_millis(1), Duration::from_millis(1))
        .expect_err("nothing was sent");
    assert!(matches!(error, ChannelError::TimedOut), "{error:?}");
    drop(dialled);
    let error = answered.receive(soon(), Duration::from_secs(1)).expect_err("closed");
    assert!(matches!(error, ChannelError::Closed), "{error:?}");
    let _: io::Result<TcpStream> = answered.socket();
}

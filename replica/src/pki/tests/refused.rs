//! Who is refused at the door, what both ends say, and how often it is tried again.

use std::sync::mpsc;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use super::*;
use crate::arbiter::{Arbiter, Question};
use crate::protocol::{Request, RequestId, Testimony};
use crate::tripwire::{TripwireClient, TripwireServer};
use crate::witness::{OpenError, Register, Witness, WitnessServer};

/// A clock that is wrong by years.
#[derive(Debug)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// Shows no certificate.
#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What an end that answers with `config` says about a member that dials.
fn refused_by(server: rustls::ServerConfig, client: rustls::ClientConfig) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answering = thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("a client");
        Channel::accept(tcp, Arc::new(server), 64, soon())
    });
    let name = rustls::pki_types::ServerName::try_from("node-b.demo.hotpair").expect("legal");
    let dialled = Channel::connect(address, Arc::new(client), name, 64, soon())
        .and_then(|mut channel| channel.receive(soon(), Duration::from_secs(10)));
    assert!(dialled.is_err(), "the one that is refused learns it");
    text(&answering.join().expect("no panic").expect_err("refused"))
}

#[test]
fn a_wrong_date_is_refused_with_both_dates() {
    let pair = TestPair::new("demo");
    let year = 365 * 86_400;
    for (seconds, says) in [
        (
            now().as_secs() + 20 * year,
            ["the certificate of node-a expired on 20", ", now it is 20"],
        ),
        (
            now().as_secs() - 20 * year,
            ["the certificate of node-a is valid from 20", ", now it is 20"],
        ),
    ] {
        let mut server =
            pair.of("node-b").server_config(Expect::node("node-a"), b"test").expect("loaded");
        server.time_provider = Arc::new(Clock(seconds));
        let client =
            pair.of("node-a").client_config(Expect::node("node-b"), b"test").expect("loaded");
        let found = refused_by(server, client);
        assert!(says.iter().all(|part| found.contains(part)), "{found}");
    }
}

#[test]
fn no_certificate_is_refused() {
    let pair = TestPair::new("demo");
    let server = pair.of("node-b").server_config(Expect::node("node-a"), b"test").expect("loaded");
    let mut client =
        pair.of("node-a").client_config(Expect::node("node-b"), b"test").expect("loaded");
    client.client_auth_cert_resolver = Arc::new(Nothing);
    let found = refused_by(server, client);
    assert!(found.contains("no certificate"), "{found}");
}

#[test]
fn a_node_is_no_witness_and_a_witness_is_no_node() {
    let pair = TestPair::new("demo");
    let register = tempfile::tempdir().expect("a directory");
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let open = || {
        let began = Instant::now();
        loop {
            match Register::open(register.path(), pair.cluster.id) {
                // A program that another test is just starting has all files of this process until it runs.
                Err(OpenError::InUse { .. }) if began.elapsed() < Duration::from_secs(10) => {
                    thread::yield_now();
                }
                opened => return opened.expect("a new register"),
            }
        }
    };
    let question =
        Question { id: RequestId(1), testimony: Testimony::Nothing, request: Request::Read };

    // Served with a node's certificate.
    let posing = WitnessServer::start(anywhere, open(), &pair.of("node-b")).expect("a free port");
    let mut asking = Witness::new(posing.address(), &pair.of("node-a")).expect("credentials");
    let error = text(&*asking.attempt(&question, soon()).expect_err("no witness"));
    assert!(error.contains("node-b has role node, this needs role witness"), "{error}");
    drop(posing);

    // Asked with the witness's.
    let witness = WitnessServer::start(anywhere, open(), &pair.of("witness")).expect("a free port");
    let mut asking = Witness::new(witness.address(), &pair.of("witness")).expect("credentials");
    assert!(asking.attempt(&question, soon()).is_err(), "a witness asks nobody");
    let began = Instant::now();
    while witness.listener().dropped() == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it is counted");
        thread::yield_now();
    }
    let mut node = Witness::new(witness.address(), &pair.of("node-a")).expect("credentials");
    assert!(node.attempt(&question, soon()).is_ok(), "and the node is served");
}

/// Goal: who is refused does not storm. Measured over the whole second after the first refusal.
#[test]
fn refusals_are_not_repeated_in_a_hurry() {
    let (ours, theirs) = (TestPair::new("ours"), TestPair::new("theirs"));
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));

    let (tell, told) = mpsc::channel();
    let wire = TripwireServer::start(anywhere, &theirs.of("node-b"), "node-a", move |event| {
        let _ = tell.send(event);
    })
    .expect("a free port");
    // The end that dials sees another pair; and one that is seen as one.
    let stranger = TripwireClient::start(wire.address(), &ours.of("node-a"), "node-b");
    let register = tempfile::tempdir().expect("a directory");
    let register = Register::open(register.path(), theirs.cluster.id).expect("new");
    let witness =
        WitnessServer::start(anywhere, register, &theirs.of("witness")).expect("a free port");
    let mut asking = Witness::new(witness.address(), &ours.of("node-a")).expect("credentials");
    let question =
        Question { id: RequestId(1), testimony: Testimony::Nothing, request: Request::Read };
    let began = Instant::now();
    let mut attempts = 0;
    while began.elapsed() < Duration::from_millis(1_500) {
        attempts += 1;
        assert!(asking.attempt(&question, soon()).is_err());
        thread::sleep(Duration::from_millis(10));
    }
    drop(stranger);
    let (at_the_witness, at_the_wire) = (witness.listener().dropped(), wire.listener().dropped());
    println!("{attempts} attempts: {at_the_witness} at the witness, {at_the_wire} at the tripwire");
    assert!((1..=2).contains(&at_the_witness), "{at_the_witness} of {attempts} attempts");
    assert_eq!(at_the_wire, 1);
    assert!(told.try_recv().is_err(), "nobody was taken for a supervisor");
}

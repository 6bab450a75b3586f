//! `hotpair witness`: the built-in arbiter.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotpair_replica::protocol::NodeId;
use hotpair_replica::tls::CredentialsWatch;
use hotpair_replica::witness::{OpenError, Register, WitnessServer};

use crate::config::Member;
use crate::credentials;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome, print_data};

/// What a witness needs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Address to listen on (TCP)
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Directory with ca.pem and the witness's certificate and key
    #[arg(long, value_name = "DIR")]
    pki: PathBuf,
    /// Directory for the one value that it keeps; it must survive a restart
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Begin a new store with what this node alone says: for a store that was lost or damaged, or a
    /// pair whose other node comes later. Stop the other node first
    #[arg(long, value_name = "NODE")]
    reinit: Option<Member>,
}

/// A register that believes one node; refused where a good one would be lost.
fn begin_anew(
    store: &Path,
    cluster: u64,
    node: Member,
) -> Result<Result<Register, OpenError>, Failure> {
    let id = NodeId::of_member(node.certificate()).expect("a node is one of the two");
    let opened = match Register::open(store, cluster) {
        Ok(register) => Ok(register),
        Err(error) if error.is_about_content() => Register::set_aside(store, cluster),
        Err(error) => Err(error),
    };
    let Ok(register) = opened else { return Ok(opened) };
    if let Some(view) = register.view() {
        let (number, path) = (view.number, store.display());
        return Err(Failure::new("cannot begin a new store")
            .because(format!("the one in {path} is good: it holds view {number}"))
            .help("start the witness without --reinit; or remove that directory, if it is an old copy")
            .exit(Exit::Refused));
    }
    Ok(Ok(register.believing(id)))
}

/// Serves until a signal asks to stop.
pub(crate) fn run(options: &Options) -> Outcome {
    let signals = Signals::listen()?;
    let failed = || Failure::new("cannot run the witness");
    let credentials = credentials::load(&options.pki, "witness")?;
    let cluster = credentials.cluster().id;
    let register = match options.reinit {
        None => Register::open(&options.store, cluster),
        Some(node) => begin_anew(&options.store, cluster, node)?,
    };
    let register = register.map_err(|error| {
        let failure = failed().caused_by(&error);
        if error.is_about_content() {
            let help = "do not bring an old copy back: add `--reinit NODE` to begin anew with what \
                        that node knows";
            return failure.help(help);
        }
        failure
    })?;
    let server = WitnessServer::start(options.listen, register, &credentials).map_err(|error| {
        failed().caused_by(&error).help(format!(
            "see who has it with `ss -ltnp sport = :{}`, or choose another address",
            options.listen.port()
        ))
    })?;
    print_data(&format!("witness of pair {} on {}\n", credentials.cluster(), server.address()))?;
    let certificates = CredentialsWatch::start(&credentials, |found| {
        // A stdout that is gone is nobody's problem any more.
        let _ = match found {
            Ok(reload) => print_data(&format!("certificate in use from now on: {reload}\n")),
            Err(error) => {
                Failure::new("cannot use the new certificates, the old ones stay in use")
                    .caused_by(&error)
                    .print();
                Ok(())
            }
        };
    })
    .map_err(|error| failed().caused_by(&error))?;
    loop {
        let asked = signals.asked();
        if asked.stop {
            return Ok(Exit::Ok);
        }
        if asked.reload {
            certificates.look_now().look();
        }
        wait(&[signals.as_fd()], Duration::from_secs(60));
    }
}

//! The demo's port: the ready-made UDP port with a classifier that knows the demo's requests.
//!
//! A service of your own does the same: it is started by the node as the `command` of a `[[port]]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use hotpair_ioports::Classified;

use super::plan::PORT;
use super::wire::Request;
use crate::command::port::{find, find_far, serve, serve_far};
use crate::config::{Config, FarConfig};
use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// What the port is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Configuration of a host without a region; without it the node that started this says what there is
    #[arg(long, value_name = "FILE")]
    remote: Option<PathBuf>,
}

/// Runs the port that the environment names, or the demo's through the gateways.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut classifier = |packet: &[u8], _: SocketAddr| classify(packet);
    if let Some(path) = &options.remote {
        let config = FarConfig::load(path)?;
        return serve_far(&config, find_far(&config, PORT)?, &mut classifier);
    }
    let (Some(path), Ok(name)) =
        (std::env::var_os("HOTPAIR_CONFIG"), std::env::var("HOTPAIR_PORT"))
    else {
        return Err(Failure::new("cannot run the demo's port")
            .because("HOTPAIR_CONFIG and HOTPAIR_PORT are not set: only a node starts it")
            .exit(Exit::Usage));
    };
    let config = Config::load(&PathBuf::from(path))?;
    serve(&config, find(&config, &name)?, &mut classifier)
}

fn classify(packet: &[u8]) -> Classified {
    match Request::parse(packet) {
        None => Classified::Drop("not a request of the demo"),
        Some(request) => match request.key() {
            Some(key) => Classified::key(&key),
            None => Classified::Keyless,
        },
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::super::wire::KEYLESS;
    use super::*;

    #[test]
    fn requests_name_their_object_and_noise_is_dropped() {
        let keyed = Request::new(7, 1, 1);
        assert!(matches!(classify(keyed.as_bytes()), Classified::Key(key)
            if key.as_bytes() == [0, 0, 0, 7]));
        let keyless = Request::new(KEYLESS, 1, 1);
        assert!(matches!(classify(keyless.as_bytes()), Classified::Keyless));
        assert!(matches!(classify(b"\x00garbage"), Classified::Drop(_)));
        assert!(matches!(classify(&[]), Classified::Drop(_)));
    }
}

//! The certificates that this process shows, with errors that say what to do.

use std::path::Path;

use hotpair_replica::tls::Credentials;

use crate::config::Config;
use crate::exit::Exit;
use crate::report::Failure;

/// Those of the configured node.
pub(crate) fn of_node(config: &Config) -> Result<Credentials, Failure> {
    let credentials = load(&config.file.pki.dir, config.file.pair.node.certificate())?;
    let (named, found) = (config.file.pair.name.get_ref(), &credentials.cluster().name);
    if named == found {
        return Ok(credentials);
    }
    Err(Failure::new(format!("cannot use the certificates in {}", config.file.pki.dir.display()))
        .because(format!("they belong to pair {found}, the configuration is for pair {named}"))
        .help("set `dir` under [pki] to the directory of this pair, or correct `name` under [pair]")
        .exit(Exit::Config))
}

/// Those of `member` in `dir`.
pub(crate) fn load(dir: &Path, member: &str) -> Result<Credentials, Failure> {
    Credentials::from_dir(dir, member).map_err(|error| {
        Failure::new(format!("cannot use the certificate of {member}"))
            .caused_by(&error)
            .help("`hotpair pki init --name PAIR --dir DIR` makes the certificates of a pair")
            .exit(Exit::Config)
    })
}

//! `hotpair pki`: the private authority of a pair.

use std::path::PathBuf;

use hotpair_replica::pki;
use serde_json::json;

use crate::credentials;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Make an authority and the certificates of both nodes and the witness
    Init {
        /// Name of the pair
        #[arg(long, value_name = "PAIR")]
        name: String,
        /// Directory to make them in
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Show whose certificates are in a directory
    Show {
        /// The directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::Init { name, dir } => {
            let cluster = pki::create(dir, name).map_err(|error| {
                let failure = Failure::new("cannot make the certificates").caused_by(&error);
                match error {
                    pki::CreateError::Exists { .. } => failure
                        .help("use another directory; this one's members trust its authority")
                        .exit(Exit::Refused),
                    pki::CreateError::Name { .. } => failure.exit(Exit::Usage),
                    _ => failure,
                }
            })?;
            print_data(&format!(
                "certificates of pair {cluster} are in {}\n\
                 copy ca.pem and one member's .pem and .key to its host; ca.key can be locked away\n",
                dir.display()
            ))?;
        }
        Action::Show { dir, json } => {
            let mut members = Vec::new();
            for (member, _) in pki::MEMBERS {
                // A host has its own certificate only.
                if dir.join(format!("{member}.key")).exists() {
                    members.push(credentials::load(dir, member)?);
                }
            }
            if members.is_empty() {
                return Err(Failure::new(format!("no certificates in {}", dir.display()))
                    .because("there is no member's key in it")
                    .help("`hotpair pki init --name PAIR --dir DIR` makes them"));
            }
            if *json {
                let shown: Vec<_> = members
                    .iter()
                    .map(|member| {
                        let identity = member.identity();
                        json!({
                            "member": identity.member, "role": identity.role.to_string(),
                            "pair": identity.cluster.name,
                            "pair_id": format!("{:016x}", identity.cluster.id),
                        })
                    })
                    .collect();
                print_json(&json!({"v": 1, "certificates": shown}))?;
            } else {
                for member in &members {
                    let identity = member.identity();
                    print_data(&format!("{identity}, role {}\n", identity.role))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}

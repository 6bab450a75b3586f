//! `hotpair pki`: the private authority of a pair.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hotpair_replica::pki::{self, Bearer, Date, Listed, RotateError, Rotation, State};
use hotpair_replica::tls::Credentials;
use serde_json::{Value, json};

use crate::config::Span;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Make an authority and the certificates of both nodes, the witness and remote workers
    Init {
        /// Name of the pair
        #[arg(long, value_name = "PAIR")]
        name: String,
        /// Directory to make them in
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Show whose certificates are in a directory, and how long they are good; exit code 1 if one is not, or
    /// not for long
    Show {
        /// The directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Warn of what expires within this time
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = Span::parse)]
        within: Span,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Replace the certificates of all members, while they run
    Rotate {
        /// The directory; it needs ca.key, but for --finish
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Replace the authority as well; the old one is trusted until --finish
        #[arg(long)]
        ca: bool,
        /// Trust the old authority no more: once every member has what --ca made
        #[arg(long, requires = "ca")]
        finish: bool,
    },
}

/// Does it.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::Init { name, dir } => init(name, dir),
        Action::Show { dir, within, json } => show(dir, within.0, *json),
        Action::Rotate { dir, ca, finish } => {
            let rotation = match (ca, finish) {
                (false, _) => Rotation::Members,
                (true, false) => Rotation::Authority,
                (true, true) => Rotation::Finish,
            };
            rotate(dir, rotation)
        }
    }
}

fn init(name: &str, dir: &Path) -> Outcome {
    let cluster = pki::create(dir, name).map_err(|error| {
        let failure = Failure::new("cannot make the certificates").caused_by(&error);
        match error {
            pki::CreateError::Exists { .. } => failure
                .help("use another directory, or replace what is there by `hotpair pki rotate`")
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
    Ok(Exit::Ok)
}

fn rotate(dir: &Path, rotation: Rotation) -> Outcome {
    let rotated = pki::rotate(dir, rotation).map_err(|error| {
        let failure = Failure::new("cannot rotate the certificates").caused_by(&error);
        match &error {
            RotateError::Read { path, .. } if path.ends_with("ca.key") => {
                failure.help("bring ca.key back to this directory for as long as it takes")
            }
            RotateError::Read { .. } => {
                failure.help("`hotpair pki init --name PAIR --dir DIR` makes the certificates")
            }
            RotateError::Unfinished { .. } => failure
                .help(
                    "when every member has the new files: `hotpair pki rotate --ca --finish`, \
                     with the same --dir",
                )
                .exit(Exit::Refused),
            RotateError::NothingToFinish { .. } => {
                failure.help("`hotpair pki rotate --ca` begins one").exit(Exit::Refused)
            }
            RotateError::Busy { .. } => failure.exit(Exit::Refused),
            _ => failure,
        }
    })?;
    let next = match rotation {
        Rotation::Members => {
            "copy each member's .pem and .key to its host: they are in use within seconds, or at \
             once by SIGHUP"
        }
        Rotation::Authority => {
            "copy ca.pem and each member's .pem and .key to its host: they are in use within \
             seconds, or at once by SIGHUP;\nthen `hotpair pki rotate --ca --finish`, here and on \
             each host: until then the old authority is trusted too"
        }
        Rotation::Finish => "the old authority is trusted no more; connections that exist go on",
    };
    print_data(&format!("rotated the certificates of pair {}\n{next}\n", rotated.cluster))?;
    Ok(Exit::Ok)
}

fn show(dir: &Path, within: Duration, json: bool) -> Outcome {
    let listed = pki::inspect(dir).map_err(|error| {
        Failure::new(format!("no certificates in {}", dir.display()))
            .caused_by(&error)
            .help("`hotpair pki init --name PAIR --dir DIR` makes them")
    })?;
    // A clock before 1970 is wrong, and everything is not yet valid.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let looked: Vec<Looked<'_>> =
        listed.iter().map(|listed| Looked::at(dir, listed, now, within)).collect();
    if json {
        let of = |authorities: bool| -> Vec<Value> {
            looked
                .iter()
                .filter(|looked| looked.is_authority() == authorities)
                .map(Looked::json)
                .collect()
        };
        print_json(&json!({"v": 1, "certificates": of(false), "authorities": of(true)}))?;
    } else {
        for looked in &looked {
            print_data(&looked.text())?;
        }
    }
    let bad: Vec<&str> = looked.iter().filter_map(|looked| looked.trouble.as_deref()).collect();
    if bad.is_empty() {
        return Ok(Exit::Ok);
    }
    let authority_is_old = looked.iter().any(|looked| {
        looked.is_authority() && matches!(looked.state, State::Expired | State::Soon { .. })
    });
    let help = if authority_is_old {
        "`hotpair pki rotate --ca --dir DIR` makes a new authority and new certificates"
    } else {
        "`hotpair pki rotate --dir DIR` makes new certificates"
    };
    Err(Failure::new("not all certificates are good").because(bad.join("\n")).help(help))
}

/// A certificate, and what is to be said about it now.
struct Looked<'l> {
    listed: &'l Listed,
    state: State,
    trouble: Option<String>,
}

impl<'l> Looked<'l> {
    fn at(dir: &Path, listed: &'l Listed, now: Duration, within: Duration) -> Looked<'l> {
        let state = listed.state(now, within);
        let name = match &listed.bearer {
            Bearer::Authority(name) => format!("authority {name}"),
            Bearer::Member(identity) => identity.member.clone(),
        };
        let (from, until) = (Date(listed.not_before), Date(listed.not_after));
        let trouble = match state {
            State::Expired => Some(format!("{name} expired on {until}, now it is {}", Date(now))),
            State::NotYet => Some(format!("{name} is valid from {from}, now it is {}", Date(now))),
            State::Soon { days_left } => {
                Some(format!("{name} expires on {until}, in {days_left} days"))
            }
            State::Good { .. } if !listed.is_trusted => {
                Some(format!("{name} is not signed by an authority in ca.pem"))
            }
            State::Good { .. } => match &listed.bearer {
                Bearer::Member(identity) if listed.has_key => {
                    let loaded = Credentials::from_dir(dir, &identity.member);
                    loaded.err().map(|error| match std::error::Error::source(&error) {
                        Some(cause) => format!("{error}: {cause}"),
                        None => error.to_string(),
                    })
                }
                _ => None,
            },
        };
        Looked { listed, state, trouble }
    }

    fn is_authority(&self) -> bool {
        matches!(self.listed.bearer, Bearer::Authority(_))
    }

    fn days_left(&self) -> Option<u64> {
        match self.state {
            State::Good { days_left } | State::Soon { days_left } => Some(days_left),
            State::Expired | State::NotYet => None,
        }
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::Good { .. } => "good",
            State::Soon { .. } => "expires_soon",
            State::Expired => "expired",
            State::NotYet => "not_yet_valid",
        }
    }

    fn json(&self) -> Value {
        let listed = self.listed;
        let mut value = match &listed.bearer {
            Bearer::Authority(name) => json!({ "name": name }),
            Bearer::Member(identity) => json!({
                "member": identity.member, "role": identity.role.to_string(),
                "pair": identity.cluster.name,
                "pair_id": format!("{:016x}", identity.cluster.id),
            }),
        };
        for (key, field) in [
            ("fingerprint", json!(listed.fingerprint)),
            ("not_before", json!(Date(listed.not_before).to_string())),
            ("not_after", json!(Date(listed.not_after).to_string())),
            ("not_after_s", json!(listed.not_after.as_secs())),
            ("days_left", json!(self.days_left())),
            ("state", json!(self.state_name())),
            ("has_key", json!(listed.has_key)),
            ("trusted", json!(listed.is_trusted)),
            ("trouble", json!(self.trouble)),
        ] {
            value[key] = field;
        }
        value
    }

    fn text(&self) -> String {
        let listed = self.listed;
        let who = match &listed.bearer {
            Bearer::Authority(name) => format!("authority {name}"),
            Bearer::Member(identity) => format!("{identity}, role {}", identity.role),
        };
        let key = if listed.has_key { "" } else { ", key elsewhere" };
        let left = match self.days_left() {
            Some(days) => format!("{days} days left"),
            None => self.state_name().replace('_', " "),
        };
        format!(
            "{who}{key}\n  valid    {} to {}: {left}\n  SHA-256  {}\n",
            Date(listed.not_before),
            Date(listed.not_after),
            listed.fingerprint
        )
    }
}

//! What there is before the first process: certificates and configurations.

use std::path::PathBuf;

use hotpair_replica::pki;

use super::{Lab, NAME, own};
use crate::config::Member;
use crate::lab::net;
use crate::lab::scenario::index;
use crate::report::Failure;

impl Lab<'_> {
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        let failed = || Failure::new("cannot prepare the lab");
        std::fs::create_dir(&self.dir).map_err(|error| failed().caused_by(&error))?;
        for pki in ["pki", "pki-foreign"] {
            pki::create(&self.dir.join(pki), NAME).map_err(|error| failed().caused_by(&error))?;
        }
        for member in [Member::A, Member::B] {
            for (foreign, pki) in [(false, "pki"), (true, "pki-foreign")] {
                std::fs::write(self.config(member, foreign), self.configuration(member, pki)?)
                    .map_err(|error| failed().caused_by(&error))?;
            }
        }
        std::fs::write(self.remote_config(), self.remote_configuration())
            .map_err(|error| failed().caused_by(&error))
    }

    /// The configuration of hosts without a node.
    pub(super) fn remote_config(&self) -> PathBuf {
        self.dir.join("remote.toml")
    }

    fn remote_configuration(&self) -> String {
        let pair = self.scenario.pair;
        let mut text = "[pki]\ndir = \"pki\"\n[nodes]\n".to_owned();
        for member in [Member::A, Member::B] {
            // Who is not known is looked for where nobody is.
            let known = pair.known.is_none_or(|only| only == member);
            let at = if known { net::GATEWAYS[index(member)] } else { net::NOBODY };
            text.push_str(&format!("{} = [\"{at}\"]\n", member.letter()));
        }
        if pair.remote_port {
            text.push_str(&format!(
                "[[port]]\nname = \"service\"\nkind = \"udp\"\nbind = \"{}\"\nqueue = \"objects\"\n\
                 packet_bytes_max = 128\n",
                net::REMOTE_SERVICE
            ));
        }
        text
    }

    /// The configuration of a node: the pair's, or one with certificates of another pair.
    pub(super) fn config(&self, member: Member, foreign: bool) -> PathBuf {
        let foreign = if foreign { "-foreign" } else { "" };
        self.dir.join(format!("{}{foreign}.toml", member.letter()))
    }

    pub(super) fn region(&self, member: Member) -> String {
        format!("{}-{}", self.name, member.letter())
    }

    /// In memory: how busy this host's disk is, is no part of a failover.
    pub(super) fn store(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/hotpair-{}-witness", self.name))
    }

    fn configuration(&self, member: Member, pki: &str) -> Result<String, Failure> {
        let (own_ip, peer) = match member {
            Member::A => ("10.98.0.1", "10.98.0.2"),
            Member::B => ("10.98.0.2", "10.98.0.1"),
        };
        let pair = self.scenario.pair;
        let mode = if pair.replicated { "sync" } else { "local" };
        let (service, bind) = match pair.take_over {
            true if pair.remote_port => (String::new(), ""),
            true if pair.ipv6 => {
                (format!("addresses = [\"{}/64 dev eth0\"]", net::SERVICE_IP6), net::SERVICE6)
            }
            true => (format!("addresses = [\"{}/24 dev eth0\"]", net::SERVICE_IP), net::SERVICE),
            false => (String::new(), "0.0.0.0:9000"),
        };
        let hooks = match pair.hooks {
            true => {
                "on_primary = [\"true\"]\non_backup = [\"sleep\", \"600\"]\nhook_limit = \"300ms\""
            }
            false => "",
        };
        let gateway = match pair.is_remote() {
            false => String::new(),
            true => format!("[gateway]\nlisten = [\"{}\"]", net::GATEWAYS[index(member)]),
        };
        let control = if pair.open_gate { "[control]\nopen_gate = true" } else { "" };
        let program = own()?;
        let program = program.to_string_lossy();
        let workers = match pair.local_workers {
            0 => String::new(),
            count => format!(
                "[[worker]]\nqueue = \"objects\"\n\
                 command = [{program:?}, \"demo-worker\", \"--side\", \"{}\"]\ncount = {count}",
                member.letter()
            ),
        };
        let port = match pair.remote_port {
            true => {
                "[[port]]\nname = \"service\"\nkind = \"udp\"\nqueue = \"objects\"\nremote = true"
                    .to_owned()
            }
            false => format!(
                "[[port]]\nname = \"service\"\nkind = \"udp\"\nbind = \"{bind}\"\nqueue = \"objects\"\n\
                 command = [{program:?}, \"demo-port\"]\npacket_bytes_max = 128"
            ),
        };
        let slots = self.scenario.load.objects + 4096;
        let participants = 16 + pair.remote_workers;
        let blocks = 2 * slots + participants * 64 + participants * 512;
        Ok(format!(
            r#"[pair]
name = "{NAME}"
node = "{node}"
[pki]
dir = "{pki}"
[witness]
address = "{witness}"
[replication]
listen = "{own_ip}:7410"
peer = "{peer}:7410"
mode = "{mode}"
[region]
name = "{region}"
slots = {slots}
participants = {participants}
tx_entries = 512
[[region.class]]
payload_bytes = 256
blocks = {blocks}
[service]
{service}
{hooks}
{gateway}
{control}
[[queue]]
name = "objects"
{port}
{workers}
"#,
            node = member.letter(),
            witness = net::WITNESS,
            region = self.region(member),
        ))
    }
}

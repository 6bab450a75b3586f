//! What there is before the first process: certificates and configurations.

use std::path::{Path, PathBuf};

use hotpair_replica::pki;

use super::{Lab, NAME};
use crate::config::Member;
use crate::lab::net;
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
            .map_err(|error| failed().caused_by(&error))?;
        self.copy(Path::new("")).map_err(|error| failed().caused_by(&error))?;
        for far in self.net.fars() {
            // The second is of a node that was killed while it made its region.
            let memory = format!("/dev/shm/hotpair.{0}-? /dev/shm/.hotpair.{0}-?.*.new", self.name);
            let store = self.store();
            far.owe(&["sh", "-c", &format!("rm -rf {memory} {}", store.display())]);
        }
        Ok(())
    }

    /// Copies the lab's directory to all real hosts.
    fn copy(&self, below: &Path) -> std::io::Result<()> {
        if self.net.has_switches() {
            return Ok(());
        }
        for entry in std::fs::read_dir(self.dir.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.copy(&path)?;
                continue;
            }
            let text = std::fs::read_to_string(entry.path())?;
            for far in self.net.fars() {
                far.put(&path.to_string_lossy(), text.clone());
            }
        }
        Ok(())
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
            let gateway = self.net.plan.gateway(member);
            let at = if known { gateway.as_str() } else { net::NOBODY };
            text.push_str(&format!("{} = [\"{at}\"]\n", member.letter()));
        }
        if pair.remote_port {
            text.push_str(&format!(
                "[[port]]\nname = \"service\"\nkind = \"udp\"\nbind = \"{}\"\nqueue = \"objects\"\n\
                 packet_bytes_max = 128\n",
                self.net.plan.remote_service()
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
        let (pair, plan) = (self.scenario.pair, &self.net.plan);
        let listen = |of: Member, network| plan.replication(of, network);
        let (own, peer) = (listen(member, 0), listen(member.other(), 0));
        let links: Vec<String> = (1..usize::from(pair.networks))
            .map(|network| {
                let (own, peer) = (listen(member, network), listen(member.other(), network));
                format!("{{ listen = \"{own}\", peer = \"{peer}\" }}")
            })
            .collect();
        let mode = if pair.replicated { "sync" } else { "local" };
        let (service, bind) = match pair.take_over {
            true if pair.remote_port => (String::new(), String::new()),
            true => {
                let address = plan.service_at(member.letter(), pair.ipv6);
                (format!("addresses = [\"{address}\"]"), plan.service(pair.ipv6))
            }
            false => (String::new(), "0.0.0.0:9000".to_owned()),
        };
        let hooks = match pair.hooks {
            true => {
                "on_primary = [\"true\"]\non_backup = [\"sleep\", \"600\"]\nhook_limit = \"300ms\""
            }
            false => "",
        };
        let gateway = match pair.is_remote() {
            false => String::new(),
            true => format!("[gateway]\nlisten = [\"{}\"]", plan.gateway(member)),
        };
        let control = if pair.open_gate { "[control]\nopen_gate = true" } else { "" };
        let program = self.host(member).place.own();
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
listen = "{own}"
peer = "{peer}"
links = [{links}]
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
            witness = plan.witness(),
            links = links.join(", "),
            region = self.region(member),
        ))
    }
}

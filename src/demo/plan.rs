//! What a demo needs on disk and on the network before the first process starts.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use hotpair_ioports::{Holder, Serving};
use hotpair_replica::pki;

use super::hands::Hand;
use super::{Commit, Options};
use crate::config::Member;
use crate::region_file::{self, Purpose};
use crate::report::Failure;

/// Every name of a demo begins with this and its process id.
const NAME: &str = "demo";
/// Port and queue of the demo's service.
pub(super) const PORT: &str = "service";
pub(super) const QUEUE: &str = "objects";
/// Blocks that nobody uses, for a region that is to be large.
const BALLAST_BYTES: u32 = 64 << 10;
/// What clients of gateways need besides: a receipt a lane, a letter a packet.
const RECEIPTS_AND_LETTERS: u32 = 2048;
/// Objects without a key that may be waiting to be handled.
const KEYLESS_AT_ONCE: u32 = 4096;

/// A demo's directory, addresses and service socket. Dropping it removes all traces.
#[derive(Debug)]
pub(super) struct Plan {
    dir: PathBuf,
    name: String,
    /// Where the service answers.
    pub(super) service: SocketAddr,
    /// Where the witness listens.
    pub(super) witness: SocketAddr,
    gateways: [(Member, SocketAddr); 2],
    _holder: Serving,
}

impl Plan {
    /// Makes keys, configuration files and the service socket.
    pub(super) fn make(options: &Options) -> Result<Plan, Failure> {
        sweep();
        let name = format!("{NAME}-{}-{:06x}", std::process::id(), random() & 0xff_ffff);
        let dir = std::env::temp_dir().join(format!("hotpair-{name}"));
        let failed = || Failure::new("cannot prepare the demo");
        fs::create_dir(&dir)
            .map_err(|error| failed().because(format!("cannot make {}: {error}", dir.display())))?;
        // From here on whatever fails removes the directory.
        let guard = Directory(dir.clone());
        pki::create(&dir.join("pki"), NAME).map_err(|error| failed().caused_by(&error))?;
        let addresses = Addresses::find()?;
        let socket = dir.join("service.sock");
        let holder = Holder::open(&socket, [(PORT, addresses.service)])
            .map_err(|error| failed().caused_by(&error))?
            .spawn()
            .map_err(|error| failed().caused_by(&error))?;
        let plan = Plan {
            dir,
            name,
            service: addresses.service,
            witness: addresses.witness,
            gateways: [Member::A, Member::B].map(|member| (member, addresses.gateway(member))),
            _holder: holder,
        };
        std::mem::forget(guard); // the plan removes it now
        for member in [Member::A, Member::B] {
            let text = plan.configuration(options, member, &addresses)?;
            fs::write(plan.config(member), text).map_err(|error| failed().caused_by(&error))?;
        }
        fs::write(plan.far_config(), far_configuration(&addresses))
            .map_err(|error| failed().caused_by(&error))?;
        Ok(plan)
    }

    /// Configuration file of a side.
    pub(super) fn config(&self, member: Member) -> PathBuf {
        self.dir.join(format!("{}.toml", member.letter()))
    }

    /// Configuration file of the host without a region.
    pub(super) fn far_config(&self) -> PathBuf {
        self.dir.join("far.toml")
    }

    /// Name of a side's region.
    pub(super) fn region(&self, member: Member) -> String {
        format!("{}-{}", self.name, member.letter())
    }

    /// Directory of the certificates.
    pub(super) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Both gateways, as the SDKs of other languages read them.
    pub(super) fn nodes(&self) -> String {
        let of = |(member, at): &(Member, SocketAddr)| format!("{}={at}", member.certificate());
        self.gateways.iter().map(of).collect::<Vec<_>>().join(";")
    }

    /// Directory of the witness. In memory: a demo's view has no power failure to survive, and the
    /// promotion would be a measurement of how busy this host's disk is.
    pub(super) fn store(&self) -> PathBuf {
        store(&self.name)
    }

    fn configuration(
        &self,
        options: &Options,
        member: Member,
        addresses: &Addresses,
    ) -> Result<String, Failure> {
        let own = std::env::current_exe()
            .map_err(|error| Failure::new("cannot find the program's file").caused_by(&error))?;
        let (listen, peer) = match member {
            Member::A => (addresses.a, addresses.b),
            Member::B => (addresses.b, addresses.a),
        };
        let mode = match options.commit {
            Commit::Sync => "sync",
            Commit::Local => "local",
        };
        let mut control = format!("open_gate = {}\n", options.open_gate);
        if let Some(delay) = options.delay_acks {
            control.push_str(&format!("delay_acks = \"{delay}\"\n"));
        }
        let ack_wait =
            options.ack_wait.map_or_else(String::new, |wait| format!("ack_wait = \"{wait}\""));
        let mut slots = options.objects + KEYLESS_AT_ONCE;
        if options.remote {
            slots += RECEIPTS_AND_LETTERS;
        }
        let mut blocks = 0;
        blocks += slots; // values
        blocks += slots; // the messages that brought them about
        blocks += 16 * 64; // what sixteen participants keep at hand
        blocks += 16 * 512; // values and answers of commits that are not acknowledged yet
        let ballast = match options.region_gib {
            0 => String::new(),
            gib => {
                let blocks = u64::from(gib) * (1 << 30) / u64::from(BALLAST_BYTES);
                format!("[[region.class]]\npayload_bytes = {BALLAST_BYTES}\nblocks = {blocks}\n")
            }
        };
        let gateway = addresses.gateway(member);
        let (port, own_workers) = if options.remote {
            (format!("remote = true\n[gateway]\nlisten = [\"{gateway}\"]\n"), String::new())
        } else {
            let port = format!("holder = \"service.sock\"\ncommand = [{own:?}, \"demo-port\"]\n");
            let letter = member.letter().to_string();
            let own = own.display().to_string();
            let ours = [own.as_str(), "demo-worker", "--side", letter.as_str()].map(str::to_owned);
            let workers = options.hands().into_iter().map(|hand| {
                let command = match hand {
                    Hand::Own => ours.to_vec(),
                    Hand::Foreign(command) => command,
                };
                format!("[[worker]]\nqueue = \"{QUEUE}\"\ncommand = {command:?}\n")
            });
            (port, workers.collect())
        };
        Ok(format!(
            r#"[pair]
name = "{NAME}"
node = "{node}"
[pki]
dir = "pki"
[witness]
address = "{witness}"
[replication]
listen = "{listen}"
peer = "{peer}"
mode = "{mode}"
{ack_wait}
[region]
name = "{region}"
slots = {slots}
participants = 16
tx_entries = 512
[[region.class]]
payload_bytes = 256
blocks = {blocks}
{ballast}[[queue]]
name = "{QUEUE}"
[[port]]
name = "{PORT}"
kind = "udp"
queue = "{QUEUE}"
packet_bytes_max = 128
{port}{own_workers}[control]
{control}"#,
            node = member.letter(),
            witness = addresses.witness,
            region = self.region(member),
        ))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        for member in [Member::A, Member::B] {
            region_file::remove(&self.region(member));
        }
        let _ = fs::remove_dir_all(self.store());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn far_configuration(addresses: &Addresses) -> String {
    let (a, b) = (addresses.gateway(Member::A), addresses.gateway(Member::B));
    format!(
        r#"[pki]
dir = "pki"
[nodes]
a = ["{a}"]
b = ["{b}"]
[[port]]
name = "{PORT}"
kind = "udp"
holder = "service.sock"
queue = "{QUEUE}"
packet_bytes_max = 128
"#
    )
}

fn store(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/hotpair-{name}"))
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what demos left behind that were killed without a chance to do it themselves.
fn sweep() {
    let of_dead_demo = |name: &str| {
        let pid = name.strip_prefix(NAME)?.strip_prefix('-')?.split('-').next()?.parse().ok()?;
        (!region_file::is_alive(pid)).then_some(())
    };
    for name in region_file::names() {
        if of_dead_demo(&name).is_some() && region_file::removable(&name, Purpose::Remove).is_ok() {
            region_file::remove(&name);
        }
    }
    for place in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_prefix("hotpair-"));
            if name.and_then(of_dead_demo).is_some() && is_ours(&entry.path()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Directories for temporary files are everybody's: only what belongs to this user is ours.
fn is_ours(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(facts) = fs::symlink_metadata(dir) else { return false };
    facts.is_dir() && facts.uid() == nix::unistd::geteuid().as_raw()
}

/// Addresses that nobody else uses: a loopback address of its own keeps demos out of each other's
/// way, and out of the way of the kernel's ephemeral ports.
struct Addresses {
    a: SocketAddr,
    b: SocketAddr,
    witness: SocketAddr,
    service: SocketAddr,
}

impl Addresses {
    /// Where a side's gateway listens.
    fn gateway(&self, member: Member) -> SocketAddr {
        let (mut own, offset) = match member {
            Member::A => (self.a, 5),
            Member::B => (self.b, 5),
        };
        own.set_port(own.port() + offset);
        own
    }

    fn find() -> Result<Addresses, Failure> {
        for attempt in 0..20 {
            let [x, y, z, ..] = random().to_le_bytes();
            // The plain address comes last, for hosts that have no other.
            let (ip, base) = match attempt {
                0..10 => (Ipv4Addr::new(127, x.max(1), y, z.clamp(1, 254)), 7400),
                _ => (Ipv4Addr::LOCALHOST, 20_000 + u16::from(x) * 64 + u16::from(y)),
            };
            let at = |offset: u16| SocketAddr::new(IpAddr::V4(ip), base + offset);
            let addresses = Addresses { a: at(10), b: at(20), witness: at(0), service: at(30) };
            if [0, 10, 11, 12, 15, 20, 21, 22, 25, 30].iter().all(|offset| is_free(at(*offset))) {
                return Ok(addresses);
            }
        }
        Err(Failure::new("cannot prepare the demo")
            .because("no free addresses on loopback in 20 attempts"))
    }
}

fn is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

/// Enough randomness for names and addresses.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

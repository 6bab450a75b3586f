use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::*;

/// A path of our own; whatever is there is removed at the end.
struct TestPath(PathBuf);

impl TestPath {
    fn new(name: &str) -> Self {
        let file = format!("hotpair-holder-{}-{name}.sock", std::process::id());
        TestPath(std::env::temp_dir().join(file))
    }
}

impl Drop for TestPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn two_clients_share_the_socket_and_it_outlives_the_holder() {
    let path = TestPath::new("share");
    let holder = Holder::open(&path.0, [("sip", any()), ("echo", any())]).expect("free ports");
    let address = holder.address("sip").expect("it was opened");
    assert_ne!(address, holder.address("echo").expect("it was opened"));
    let serving = holder.spawn().expect("a thread");

    let a = UdpSocket::from(request(serving.path(), "sip").expect("there is a `sip`"));
    let b = UdpSocket::from(request(serving.path(), "sip").expect("there is a `sip`"));
    drop(serving);
    assert!(!path.0.exists(), "the path goes with the holder");

    let client = UdpSocket::bind(any()).expect("bind to a free port");
    for payload in [b"1", b"2"] {
        client.send_to(payload, address).expect("loopback takes it");
    }
    // One queue behind both: the second packet is read through the other descriptor.
    let mut buffer = [0; 8];
    assert_eq!(a.recv(&mut buffer).map(|n| buffer[..n].to_vec()).expect("waiting"), b"1");
    assert_eq!(b.recv(&mut buffer).map(|n| buffer[..n].to_vec()).expect("waiting"), b"2");
}

#[test]
fn a_wrong_name_learns_the_right_ones() {
    let path = TestPath::new("names");
    let serving = Holder::open(&path.0, [("sip", any()), ("echo", any())])
        .expect("free ports")
        .spawn()
        .expect("a thread");
    let error = request(serving.path(), "spi").expect_err("no such socket");
    let text = error.to_string();
    assert!(text.contains("`spi`") && text.contains("echo sip"), "{text}");
    assert!(error.help().is_some());
}

#[test]
fn nobody_there_is_said_so() {
    let path = TestPath::new("nobody");
    for stale in [false, true] {
        if stale {
            drop(UnixListener::bind(&path.0).expect("nothing is there"));
        }
        let error = request(&path.0, "sip").expect_err("nobody listens");
        assert!(matches!(error, RequestError::NotRunning { .. }), "stale: {stale}: {error}");
    }
}

/// Goal: who asks before the holder is up is served when it is: a host that boots starts both at once.
#[test]
fn a_holder_that_is_being_started_is_waited_for() {
    let path = TestPath::new("starting");
    let of = path.0.clone();
    let asked = std::thread::spawn(move || request(&of, "sip"));
    // Whether it has asked by then is not known; if not, this shows nothing, and fails nobody.
    std::thread::sleep(Duration::from_millis(100));
    let serving = Holder::open(&path.0, [("sip", any())]).expect("a free port");
    let serving = serving.spawn().expect("a thread");
    asked.join().expect("it does not panic").expect("it is served");
    drop(serving);
}

#[test]
fn a_dead_holders_path_is_replaced_and_a_living_ones_refused() {
    let path = TestPath::new("stale");
    // A closed listener leaves its path, as a killed holder does.
    drop(UnixListener::bind(&path.0).expect("nothing is there"));
    let first = Holder::open(&path.0, [("sip", any())]).expect("the stale path is replaced");
    let first = first.spawn().expect("a thread");

    let error = Holder::open(&path.0, [("sip", any())]).expect_err("a living holder has it");
    let pid = std::process::id() as i32;
    assert!(matches!(&error, HolderError::Path(PathError::InUse { pid: p, .. }) if *p == pid));
    assert!(error.help().expect("there is something to do").contains(&pid.to_string()));
    request(first.path(), "sip").expect("the first is unharmed");
}

#[test]
fn a_file_at_the_path_is_left_alone() {
    let path = TestPath::new("file");
    std::fs::write(&path.0, "precious").expect("a file");
    let error = Holder::open(&path.0, [("sip", any())]).expect_err("not a socket");
    assert!(matches!(error, HolderError::Path(PathError::Occupied { .. })), "{error}");
    assert_eq!(std::fs::read_to_string(&path.0).expect("still there"), "precious");
}

#[test]
fn bad_names_and_long_paths_are_refused() {
    let path = TestPath::new("bad");
    for name in ["", "two words", "line\n", &"x".repeat(NAME_BYTES_MAX + 1)] {
        let error = Holder::open(&path.0, [(name, any())]).expect_err("not a name");
        assert!(matches!(error, HolderError::Name { .. }), "{name:?}: {error}");
    }
    let twice = Holder::open(&path.0, [("a", any()), ("a", any())]).expect_err("one name, twice");
    assert!(matches!(twice, HolderError::Twice { .. }), "{twice}");
    let long = Path::new("/tmp").join("x".repeat(200));
    let error = Holder::open(&long, [("a", any())]).expect_err("longer than sockaddr_un");
    assert!(error.to_string().contains("205"), "{error}");
    assert!(!path.0.exists(), "nothing is left");
}

#[test]
fn an_address_in_use_says_which_and_by_whom() {
    let path = TestPath::new("in-use");
    let taken = UdpSocket::bind(any()).expect("bind to a free port");
    let address = taken.local_addr().expect("bound");
    let error = Holder::open(&path.0, [("sip", address)]).expect_err("it is taken");
    assert!(error.to_string().contains("`sip`"), "{error}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains(&address.to_string()) && cause.contains("pid"), "{cause}");
}

#[test]
fn a_client_that_says_nothing_does_not_stop_the_others() {
    let path = TestPath::new("mute");
    let serving =
        Holder::open(&path.0, [("sip", any())]).expect("a free port").spawn().expect("a thread");
    let _mute = UnixStream::connect(serving.path()).expect("it listens");
    let gone = UnixStream::connect(serving.path()).expect("it listens");
    drop(gone);
    request(serving.path(), "sip").expect("served after the mute one's patience ran out");
}

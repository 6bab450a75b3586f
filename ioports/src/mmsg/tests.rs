use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::*;

fn pair(address: &str) -> (UdpSocket, UdpSocket) {
    let a = UdpSocket::bind(address).expect("bind to a free port");
    let b = UdpSocket::bind(address).expect("bind to a free port");
    (a, b)
}

/// Loopback delivers within `sendmmsg`, so what was sent is waiting when it returns.
fn receive_all(
    receiver: &mut Receiver,
    socket: &UdpSocket,
    buffers: &mut [Vec<u8>],
) -> Vec<Datagram> {
    let buffers = buffers.iter_mut().map(Vec::as_mut_slice);
    receiver.receive(socket.as_fd(), buffers).expect("datagrams are waiting").collect()
}

#[test]
fn a_batch_arrives_in_order_with_lengths_and_source() {
    let (from, to) = pair("127.0.0.1:0");
    let to_address = to.local_addr().expect("bound");
    let payloads: Vec<Vec<u8>> = (0..8u8).map(|i| vec![i; usize::from(i) * 10]).collect();

    let mut sender = Sender::new(16, Family::V4);
    let packets = payloads.iter().map(|p| (p.as_slice(), to_address));
    assert_eq!(sender.send(from.as_fd(), packets).expect("loopback takes them"), 8);

    let mut buffers = vec![vec![0xee; 128]; 16];
    let got = receive_all(&mut Receiver::new(16), &to, &mut buffers);
    assert_eq!(got.len(), 8, "all that waited, no more");
    for (i, (datagram, payload)) in got.iter().zip(&payloads).enumerate() {
        assert_eq!(datagram.len, payload.len(), "datagram {i}");
        assert!(!datagram.truncated);
        assert_eq!(datagram.source, Some(from.local_addr().expect("bound")));
        assert_eq!(&buffers[i][..datagram.len], payload, "datagram {i}");
    }
}

#[test]
fn a_batch_stops_at_its_capacity_and_the_rest_waits() {
    let (from, to) = pair("127.0.0.1:0");
    for i in 0..5u8 {
        from.send_to(&[i], to.local_addr().expect("bound")).expect("loopback takes it");
    }
    let mut receiver = Receiver::new(3);
    let mut buffers = vec![vec![0; 8]; 8];
    assert_eq!(receive_all(&mut receiver, &to, &mut buffers).len(), 3);
    assert_eq!(receive_all(&mut receiver, &to, &mut buffers).len(), 2);
    assert_eq!(buffers[0][0], 3, "the fourth datagram is the first of the second batch");
}

#[test]
fn an_oversize_datagram_is_reported_with_its_true_length() {
    let (from, to) = pair("127.0.0.1:0");
    from.send_to(&[7; 100], to.local_addr().expect("bound")).expect("loopback takes it");
    from.send_to(&[8; 64], to.local_addr().expect("bound")).expect("loopback takes it");
    let mut buffers = vec![vec![0; 64]; 2];
    let got = receive_all(&mut Receiver::new(2), &to, &mut buffers);
    assert_eq!((got[0].len, got[0].truncated), (100, true));
    assert_eq!((got[1].len, got[1].truncated), (64, false), "exactly full is not truncated");
}

#[test]
fn nothing_waiting_is_would_block() {
    let (_, to) = pair("127.0.0.1:0");
    let mut buffer = [0; 8];
    let mut receiver = Receiver::new(1);
    let nothing = receiver.receive(to.as_fd(), [buffer.as_mut_slice()].into_iter());
    let error = nothing.err().expect("nothing was sent");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_dual_stack_socket_answers_an_ipv4_peer() {
    let Ok(service) = UdpSocket::bind("[::]:0") else {
        eprintln!("skipped: this host has no IPv6");
        return;
    };
    let peer = UdpSocket::bind("127.0.0.1:0").expect("bind to a free port");
    let port = service.local_addr().expect("bound").port();
    peer.send_to(b"ask", ("127.0.0.1", port)).expect("loopback takes it");

    let mut buffers = vec![vec![0; 8]];
    let got = receive_all(&mut Receiver::new(1), &service, &mut buffers);
    let source = got[0].source.expect("a UDP peer has an address");
    assert_eq!(source, peer.local_addr().expect("bound"), "canonical, not ::ffff:127.0.0.1");

    let mut sender = Sender::new(1, Family::V6);
    let answer = [(b"yes".as_slice(), source)].into_iter();
    assert_eq!(sender.send(service.as_fd(), answer).expect("a mapped destination"), 1);
    let mut buffer = [0; 8];
    assert_eq!(peer.recv(&mut buffer).expect("the answer"), 3);
}

#[test]
fn an_error_is_about_the_first_packet_of_what_is_left() {
    let (from, to) = pair("127.0.0.1:0");
    let to_address = to.local_addr().expect("bound");
    let unreachable: SocketAddr = "[2001:db8::1]:9".parse().expect("an address");
    let too_big = vec![0; 70_000];
    let packets = [(b"one".as_slice(), to_address), (b"two", unreachable), (&too_big, to_address)];

    let mut sender = Sender::new(4, Family::V4);
    let sent = sender.send(from.as_fd(), packets.into_iter()).expect("the first is fine");
    assert_eq!(sent, 1);
    let family = sender.send(from.as_fd(), packets[1..].iter().copied());
    assert!(matches!(family, Err(SendError::Family(WrongFamily { to })) if to == unreachable));
    let size = sender.send(from.as_fd(), packets[2..].iter().copied());
    assert!(
        matches!(&size, Err(SendError::Os(e)) if e.raw_os_error() == Some(libc::EMSGSIZE)),
        "{size:?}"
    );
}

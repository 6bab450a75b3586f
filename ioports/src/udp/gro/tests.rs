use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::mmsg::Sender;
use crate::sockaddr::Family;

const ROOM: usize = 100;

/// A socket that takes what is sent together together, and one that sends so.
fn pair() -> (UdpSocket, UdpSocket, SocketAddr) {
    let to = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    setsockopt(&to, sockopt::UdpGroSegment, &true).expect("kernels since 5.0 have it");
    let from = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = to.local_addr().expect("bound");
    (from, to, address)
}

fn send(from: &UdpSocket, to: SocketAddr, packets: &[Vec<u8>]) {
    let mut sender = Sender::segmenting(packets.len(), Family::V4);
    let all = packets.iter().map(|packet| (&packet[..], to));
    assert_eq!(sender.send(from.as_fd(), all).expect("loopback takes it"), packets.len());
}

/// All that wait, by `count` buffers a call.
fn receive_all(
    together: &mut Together,
    socket: &UdpSocket,
    count: usize,
) -> Vec<(Datagram, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut buffers = vec![vec![0xee; ROOM]; count];
        let mut got = Vec::new();
        let lent = buffers.iter_mut().map(Vec::as_mut_slice);
        match together.receive(socket.as_fd(), lent, &mut got) {
            Ok(()) => all.extend(got.into_iter().zip(buffers)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Goal: whatever came together, in however many calls: what was sent is what is handed on, in order, and no more.
#[test]
fn what_came_together_is_taken_apart() {
    let (from, to, address) = pair();
    // Alone, together, together with a shorter last one, empty, too long for a buffer, more than a call has buffers for.
    let lengths = [7, 50, 50, 50, 20, 0, 0, 300, 300, 300, 5, 100, 101, 100];
    let mut packets: Vec<Vec<u8>> =
        lengths.iter().enumerate().map(|(number, len)| vec![number as u8; *len]).collect();
    packets.extend((0..60).map(|number| vec![100 + number; 64]));
    for count in [1, 2, 3, 16, 32, 200] {
        send(&from, address, &packets);
        let mut together = Together::new(count, ROOM);
        let got = receive_all(&mut together, &to, count);
        assert_eq!(got.len(), packets.len(), "{count} buffers a call");
        for ((datagram, buffer), packet) in got.iter().zip(&packets) {
            assert_eq!(datagram.len, packet.len(), "{count} buffers a call");
            assert_eq!(datagram.truncated, packet.len() > ROOM);
            assert_eq!(datagram.source, Some(from.local_addr().expect("bound")));
            let fits = packet.len().min(ROOM);
            assert_eq!(buffer[..fits], packet[..fits], "{count} buffers a call");
        }
        assert!(together.is_empty());
    }
}

/// Goal: one that is alone lies where it was received, and several took one turn of the kernel.
#[test]
fn the_kernel_is_asked_once_for_several() {
    let (from, to, address) = pair();
    send(&from, address, &vec![vec![1; 10]; 30]);
    let mut together = Together::new(2, ROOM);
    let mut buffers = [[0; ROOM]; 2];
    let mut got = Vec::new();
    let lent = buffers.iter_mut().map(<[u8; ROOM]>::as_mut_slice);
    together.receive(to.as_fd(), lent, &mut got).expect("they wait");
    assert_eq!((got.len(), together.waiting[0].count()), (2, 28));
    assert_eq!(together.forget(), 28);
    assert!(together.is_empty());
}

/// Goal: those that are forgotten for want of memory are as many as were sent.
#[test]
fn what_is_discarded_is_counted_one_by_one() {
    let (from, to, address) = pair();
    let mut packets = vec![vec![1; 10]; 30];
    packets.push(Vec::new());
    packets.push(vec![2; 500]);
    send(&from, address, &packets);
    let mut together = Together::new(8, ROOM);
    let mut discarded = Vec::new();
    while together.discard(to.as_fd(), 8, &mut discarded).is_ok() {}
    assert_eq!(discarded.len(), 32);
    assert!(discarded.iter().all(|one| one.source == from.local_addr().ok()));
}

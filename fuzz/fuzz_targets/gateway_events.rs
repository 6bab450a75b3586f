//! A gateway that says what it likes to a worker: frames of its own and honest ones with fields of its own, in whatever state
//! the worker has come to. Built with `--cfg canary` it panics as soon as a job of the fuzzer's is taken for one.

#![no_main]

use hotpair_worker::remote::fuzzing::Client;
use libfuzzer_sys::fuzz_target;

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// An honest event, with numbers from the input.
fn honest(kind: u8, number: u8) -> Vec<u8> {
    let wide = u64::from(number).to_le_bytes();
    match kind % 8 {
        0 => [&[1, 1, 0, 3, 0, 1][..], &bytes(b"work"), &[1], &bytes(b"out")].concat(),
        1 => vec![2, number & 1, 1 + (number >> 6), 0],
        2 | 3 => {
            let fields = [&[3][..], &wide, &[7; 4], &[0; 4], &[0], &[255; 8], &bytes(b"key")];
            [&fields.concat()[..], &bytes(&wide), &[0]].concat()
        }
        4 => {
            let lane = [number & 3, 0];
            let outcome = if number & 48 == 48 { [3, 7] } else { [number >> 4 & 3, 0] };
            [&[4][..], &lane, &u64::from(number >> 6).to_le_bytes(), &outcome[..1], &[9; 8], &outcome[1..], &bytes(b"text")]
                .concat()
        }
        5 => [&[5][..], &wide].concat(),
        6 => [&[6][..], &u32::from(number).to_le_bytes(), &[0], &[1; 4], &bytes(b"value")].concat(),
        _ => [&[7][..], &u32::from(number).to_le_bytes(), &[0, 1], &bytes(b"value")].concat(),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut client = Client::default();
    let mut input = input;
    while let Some((&op, rest)) = input.split_first() {
        let Some((&number, rest)) = rest.split_first() else { break };
        input = rest;
        let path = usize::from(op >> 7);
        match op & 7 {
            0 => client.connected(path),
            1 => client.lost(path),
            2 | 3 => client.act(number),
            4..=6 => {
                if !client.event(path, &honest(op >> 3, number)) {
                    client.lost(path);
                }
            }
            _ => {
                let len = usize::from(number).min(input.len());
                let (frame, rest) = input.split_at(len);
                input = rest;
                let _taken = client.event(path, frame);
                #[cfg(canary)]
                assert!(!_taken || frame.first() != Some(&3), "canary");
            }
        }
        client.check();
    }
});

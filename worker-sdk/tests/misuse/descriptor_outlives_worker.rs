// A descriptor that is polled belongs to its worker.
use std::os::fd::{AsFd, AsRawFd};

use hotpair_worker::PolledWorker;

fn watch(worker: PolledWorker) -> i32 {
    let descriptor = worker.as_fd();
    drop(worker); //~ E0505
    descriptor.as_raw_fd()
}

fn main() {
    let _ = watch;
}

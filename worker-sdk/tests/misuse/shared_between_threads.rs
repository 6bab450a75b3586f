// One thread at a time uses a worker.
use hotpair_worker::Worker;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}

fn main() {
    is_send::<Worker>();
    is_sync::<Worker>(); //~ E0277
}

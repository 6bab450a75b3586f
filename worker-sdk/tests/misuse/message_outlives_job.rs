// A view of a message ends with the object in hand.
use hotpair_worker::{Error, Wait, Worker};

fn last(worker: &mut Worker) -> Result<usize, Error> {
    let mut last: &[u8] = &[];
    if let Some(job) = worker.claim(Wait::none())? {
        last = job.messages().next().map_or(last, |message| message.payload()); //~ E0597
    }
    Ok(last.len())
}

fn main() {
    let _ = last;
}

// A worker has one object in hand.
use hotpair_worker::{Error, Wait, Worker};

fn serve(worker: &mut Worker) -> Result<(), Error> {
    let one = worker.claim(Wait::none())?;
    let _two = worker.claim(Wait::none())?; //~ E0499
    drop(one);
    Ok(())
}

fn main() {
    let _ = serve;
}

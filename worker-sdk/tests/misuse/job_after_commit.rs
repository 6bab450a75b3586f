// A job that was committed is in hand no more.
use hotpair_worker::{Error, Job};

fn serve(job: Job<'_>) -> Result<usize, Error> {
    let length = job.value().len();
    job.commit()?;
    job.give_back(); //~ E0382
    Ok(length)
}

fn main() {
    let _ = serve;
}

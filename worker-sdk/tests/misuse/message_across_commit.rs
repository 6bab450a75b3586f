// The commit consumes the messages: their memory is another's then.
use hotpair_worker::{Error, Job};

fn serve(job: Job<'_>) -> Result<usize, Error> {
    let kept: Vec<&[u8]> = job.messages().map(|message| message.payload()).collect();
    job.commit()?; //~ E0505
    Ok(kept.len())
}

fn main() {
    let _ = serve;
}

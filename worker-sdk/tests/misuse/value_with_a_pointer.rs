// A pointer means nothing to another process.
use hotpair_worker::{Error, Job};

fn serve(job: &mut Job<'_>) -> Result<(), Error> {
    job.value_mut::<Box<u64>>()?; //~ E0277
    Ok(())
}

fn main() {
    let _ = serve;
}

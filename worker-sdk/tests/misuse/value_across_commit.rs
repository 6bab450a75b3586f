// The commit hands the value's memory on.
use hotpair_worker::{Error, Job};

fn serve(mut job: Job<'_>) -> Result<(), Error> {
    let value = job.value_mut::<u64>()?;
    job.commit()?; //~ E0505
    *value += 1;
    Ok(())
}

fn main() {
    let _ = serve;
}

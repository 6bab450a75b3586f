// There is one private copy of a value.
use hotpair_worker::{Error, Job};

fn serve(job: &mut Job<'_>) -> Result<(), Error> {
    let one = job.value_mut::<u64>()?;
    let _two = job.value_mut::<u64>()?; //~ E0499
    *one += 1;
    Ok(())
}

fn main() {
    let _ = serve;
}

// A further object is in hand as long as the first.
use hotpair_worker::{Error, Job};

fn serve(mut job: Job<'_>) -> Result<(), Error> {
    let name = job.also("accounts", b"b")?;
    let mut other = job.other(name);
    job.commit()?; //~ E0505
    other.set_value(b"late")
}

fn main() {
    let _ = serve;
}

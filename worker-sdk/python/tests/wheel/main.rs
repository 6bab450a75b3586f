//! The wheel, built and installed into an environment of its own, and everything that runs in it.

mod environment;
mod mixed;

use std::process::Command;

use environment::{environment, here, run};

#[test]
fn the_tests_in_python_pass() {
    let Some(python) = environment() else { return };
    let mut pytest = Command::new(python);
    // -P: the package is the installed one, not the folder beside.
    pytest.args(["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).current_dir(here());
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    println!("{}", run(&mut pytest));
}

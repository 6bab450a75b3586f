//! The wheel, built and installed into an environment of its own, and everything that runs in it.

mod environment;
mod mixed;

use std::process::Command;

use environment::{environment, here, run};

/// Goal: the stubs are the installed package's (mypy's stubtest imports it and compares), and a worker that is checked strictly by them has
/// no errors but those that are meant.
#[test]
fn the_stubs_are_true_and_of_use() {
    let Some(python) = environment() else { return };
    let mypy = |arguments: &[&str]| {
        let mut command = Command::new(python);
        command.args(["-P", "-m"]).args(arguments).current_dir(here().join("tests/wheel"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("MYPY_CACHE_DIR", "/dev/null");
        command
    };
    println!(
        "{}",
        run(&mut mypy(&["mypy.stubtest", "hotpair", "--mypy-config-file", "stubtest.ini"]))
    );
    println!("{}", run(&mut mypy(&["mypy", "--strict", "typed.py"])));
    // A checker that lets everything pass proves nothing.
    let wrong = mypy(&["mypy", "--strict", "mistyped.py"]).output().expect("mypy");
    let said = String::from_utf8_lossy(&wrong.stdout);
    for expected in [r#"Item "None""#, r#"expected "Buffer"#, "has no attribute"] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!wrong.status.success() && said.contains("Found 3 errors"), "{said}");
}

#[test]
fn the_tests_in_python_pass() {
    let Some(python) = environment() else { return };
    let mut pytest = Command::new(python);
    // -P: the package is the installed one, not the folder beside.
    pytest.args(["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).current_dir(here());
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    println!("{}", run(&mut pytest));
}

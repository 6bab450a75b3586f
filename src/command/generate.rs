//! `hotpair generate`: manual pages and completions, made of the command line itself. For who packages it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// What can be made.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// One manual page for each command
    Man {
        /// Directory, which is made
        dir: PathBuf,
    },
    /// Completions for bash, zsh and fish
    Completions {
        /// Directory, which is made
        dir: PathBuf,
    },
}

/// What people do most, as it is typed beside a node's configuration; `tests/commands` has what each prints.
const EXAMPLES: [(&str, &str); 7] = [
    ("The certificates of a pair", "hotpair pki init --name echo --dir pki"),
    ("Can a configuration be used?", "hotpair config check a.toml"),
    ("How does a node stand?", "hotpair status --config a.toml"),
    ("What happened to it?", "hotpair events --config a.toml -n 20"),
    ("Whose handler has failed too often?", "hotpair objects list --config a.toml --state parked"),
    ("Let the two nodes change their roles", "hotpair failover --config a.toml"),
    ("What helps others to help", "hotpair support-bundle --config a.toml --out bundle.tar"),
];

/// Makes it.
pub(crate) fn run(action: &Action) -> Outcome {
    let (dir, made) = match action {
        Action::Man { dir } => (dir, man(dir)),
        Action::Completions { dir } => (dir, completions(dir)),
    };
    made.map_err(|error| {
        Failure::new(format!("cannot write into {}", dir.display())).caused_by(&error)
    })?;
    Ok(Exit::Ok)
}

fn man(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    let mut examples = Roff::new();
    examples.control("SH", ["EXAMPLES"]);
    for (what, command) in EXAMPLES {
        examples.control("TP", []).text([roman(what)]).text([bold(command)]);
    }
    let mut page = OpenOptions::new().append(true).open(dir.join("hotpair.1"))?;
    examples.to_writer(&mut page)
}

fn completions(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "hotpair", dir)?;
    }
    Ok(())
}

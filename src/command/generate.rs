//! `hotpair generate`: manual pages and completions, made of the command line itself. For who packages it.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

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
    clap_mangen::generate_to(Cli::command(), dir)
}

fn completions(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "hotpair", dir)?;
    }
    Ok(())
}

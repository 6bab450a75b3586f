//! `hotpair top`: a region from moment to moment, in a terminal; `--batch` prints the same for scripts.

mod screen;
mod section;
mod watch;

use std::io::{self, IsTerminal, stdin, stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, poll, read};

use self::watch::Watch;
use crate::cli::RegionChoice;
use crate::config::Span;
use crate::exit::Exit;
use crate::process::Signals;
use crate::report::{Failure, Outcome, print_while_read};

/// Columns of a printed screen.
const BATCH_WIDTH: u16 = 120;
/// No look is worth more than this much of a processor.
const SHORTEST: Duration = Duration::from_millis(50);

/// Another size of the terminal does not wake the wait.
const SIZE_EVERY: Duration = Duration::from_millis(200);

/// What is shown, and how often.
#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    region: RegionChoice,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = Span::parse)]
    every: Span,
    /// Print each look as text instead of drawing on the terminal
    #[arg(long)]
    batch: bool,
    /// So many looks, then end
    #[arg(short = 'n', long, value_name = "COUNT")]
    looks: Option<u64>,
}

/// Shows the region until q is pressed, or so often as was asked for.
pub(crate) fn run(top: &Top) -> Outcome {
    let mut watch = Watch::begin(&top.region)?;
    let every = top.every.0.max(SHORTEST);
    let looks = top.looks.unwrap_or(u64::MAX);
    if top.batch {
        for _ in 0..looks {
            std::thread::sleep(every);
            watch.look();
            if !print_while_read(&screen::text(&watch.looks(), BATCH_WIDTH))? {
                break;
            }
        }
        return Ok(Exit::Ok);
    }
    if !stdout().is_terminal() {
        return Err(Failure::new("cannot draw")
            .because("stdout is no terminal")
            .help("`--batch` prints the same as text; with `-n 1`, once"));
    }
    // Blocked before it is drawn, so that a terminal is given back also to who ends this from outside.
    let signals = Signals::listen()?;
    let shown = ratatui::try_init().and_then(|mut terminal| {
        let shown = show(&mut terminal, &mut watch, &signals, every, looks);
        terminal.show_cursor().and(shown)
    });
    // Also where it has not quite begun.
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(|error| Failure::new("cannot draw").caused_by(&error))?;
    Ok(Exit::Ok)
}

fn show(
    terminal: &mut DefaultTerminal,
    watch: &mut Watch,
    signals: &Signals,
    every: Duration,
    looks: u64,
) -> io::Result<()> {
    for _ in 0..looks {
        let until = Instant::now() + every;
        loop {
            terminal.draw(|frame| screen::draw(frame, &watch.looks()))?;
            let left = until.saturating_duration_since(Instant::now());
            let gone = terminal_is_gone(signals, left.min(SIZE_EVERY))?;
            if gone || signals.stop_requested() {
                return Ok(());
            }
            let pressed = poll(Duration::ZERO)?;
            // Whatever else it was, such as another size of the terminal, it is drawn anew.
            if pressed
                && let Event::Key(key) = read()?
                && is_end(key)
            {
                return Ok(());
            }
            if !pressed && left <= SIZE_EVERY {
                break;
            }
        }
        watch.look();
    }
    Ok(())
}

/// Waits for a key, a signal, or so long. True: nobody is at the terminal any more. The library that reads keys would read its end
/// again and again.
fn terminal_is_gone(signals: &Signals, at_most: Duration) -> io::Result<bool> {
    let keys = stdin();
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    // Else keys come another way, and what is there is no terminal.
    if keys.is_terminal() {
        fds.push(PollFd::new(keys.as_fd(), PollFlags::POLLIN));
    }
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    Ok(fds.get(1).and_then(PollFd::revents).is_some_and(|events| events.intersects(gone)))
}

fn is_end(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => control,
        _ => false,
    }
}

//! `hotpair web`: what a node does, over HTTP, from a process of its own that only looks at the region: metrics for Prometheus, and
//! a dashboard for people.
//!
//! ```text
//!   region ◄── looks ── desk ──► text ──────────────► GET /metrics      [metrics] listen
//!                         └────► chronicle ─► state ─► GET /, /stream    [dashboard] listen
//! ```
//!
//! Nothing that a client does reaches the node: it has no more of it than one reader of its memory. What a client may cost
//! here is bounded too: see [`connections`]. What looking may cost is a fixed share of a core: see [`desk`].

mod connections;
mod dashboard;
mod desk;
mod metrics;
mod source;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;

use self::desk::Desk;
use crate::config::Config;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome};

/// Serves until a signal asks to stop.
pub(crate) fn run(config: &Config) -> Outcome {
    let failed = || Failure::new("cannot serve metrics and dashboard");
    let metrics_at = config.file.metrics.listen;
    let dashboard_at = config.file.dashboard.listen.as_ref().map(|listen| *listen.get_ref());
    if metrics_at.is_none() && dashboard_at.is_none() {
        let path = config.path.display();
        return Err(failed()
            .because(format!("{path} has no `listen` in [metrics], and none in [dashboard]"))
            .exit(Exit::Config));
    }
    let signals = Signals::listen()?;
    let stop = Arc::new(Notify::new());
    let asked = Arc::clone(&stop);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while !signals.stop_requested() {
                wait(&[signals.as_fd()], Duration::from_secs(60));
            }
            asked.notify_one();
        })
        .map_err(|error| failed().caused_by(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed().caused_by(&error))?;
    let served = runtime.block_on(async {
        let desk = Desk::new(config);
        // Both are bound before anything is served: a failure is one of the start.
        let metrics = bind("metrics", metrics_at).await?;
        let dashboard = bind("dashboard", dashboard_at).await?;
        if let Some(listener) = metrics {
            let router = metrics::router(desk.clone());
            tokio::spawn(connections::serve(listener, metrics::CONNECTIONS_MAX, router));
        }
        if let Some(listener) = dashboard {
            let router = dashboard::router(desk);
            tokio::spawn(connections::serve(listener, dashboard::CONNECTIONS_MAX, router));
        }
        stop.notified().await;
        Ok(Exit::Ok)
    });
    // A look that is under way is not waited for.
    runtime.shutdown_background();
    served
}

async fn bind(what: &str, listen: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    let Some(listen) = listen else { return Ok(None) };
    let bound = TcpListener::bind(listen).await;
    bound.map(Some).map_err(|error| {
        Failure::new(format!("cannot serve the {what}"))
            .because(format!("{listen}: {error}"))
            .help(format!("change `listen` under [{what}]; `ss -lntp` shows who has the address"))
    })
}

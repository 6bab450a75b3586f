//! Who is served, and how long: every limit of a client is here.
//!
//! So many connections at once, further ones wait in the kernel; one request each, of bounded bytes and within a bounded time. A
//! connection is over soon, also one that does not read, unless its answer is one that lasts ([`Lasting`]): then the kernel ends it when
//! nothing can be sent for a while.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// A request has come by then.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// A connection is over by then, also one that does not read.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// And one that lasts by then; its client may come again.
const LASTING_WAIT: Duration = Duration::from_secs(3600);
/// All that a client may send before it has an answer.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Said by a handler whose answer goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves `places` clients at once.
pub(super) async fn serve(listener: TcpListener, places: usize, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(places));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Gone again, or out of descriptors for a moment.
                tracing::debug!(%error, "a client was not served");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let patience = u32::try_from(CONNECTION_WAIT.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = setsockopt(&client, sockopt::TcpUserTimeout, &patience) {
            tracing::debug!(%error, "the kernel does not look after a client");
        }
        let lasting = Lasting::default();
        let service = router.clone().layer(Extension(lasting.clone()));
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_WAIT)
                .max_buf_size(REQUEST_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(client), TowerToHyperService::new(service));
            let mut served = pin!(served);
            let mut ended = timeout(CONNECTION_WAIT, &mut served).await;
            if ended.is_err() && lasting.0.load(Ordering::Relaxed) {
                ended = timeout(LASTING_WAIT, served).await;
            }
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a client"),
                Err(_) => tracing::debug!("a client took too long"),
            }
            drop(place);
        });
    }
}

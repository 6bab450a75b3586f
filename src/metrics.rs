//! `hotpair metrics`: what a node does, for Prometheus, from a process of its own that only looks at the region.
//!
//! Nothing that a client does reaches the node: it has no more of it than one reader of its memory. What a client may cost
//! here is bounded too: connections at once, the bytes and the time of a request, one answer for each. The figures
//! are read, and written as text, at most so often that it takes [`SHARE`] of a core, whatever the region's size and however
//! many ask; who comes in between gets the same text.

mod families;
mod source;

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use self::source::Source;
use crate::config::Config;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome};

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 16;
/// A request has come by then.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// A connection is over by then, also one that does not read.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// All that a client may send before it has an answer.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// One part in so many of a core is what figures may cost.
const SHARE: u32 = 200;
/// Figures are at least so old before they are read again.
const AGE_MIN: Duration = Duration::from_millis(250);

/// Serves until a signal asks to stop.
pub(crate) fn run(config: &Config) -> Outcome {
    let failed = || Failure::new("cannot serve metrics");
    let Some(listen) = config.file.metrics.listen else {
        let path = config.path.display();
        return Err(failed()
            .because(format!("{path} has no `listen` in [metrics]"))
            .exit(Exit::Config));
    };
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
    runtime.block_on(async {
        let bound = TcpListener::bind(listen).await;
        let listener = bound.map_err(|error| {
            failed()
                .because(format!("{listen}: {error}"))
                .help("change `listen` under [metrics]; `ss -lntp` shows who has the address")
        })?;
        let page = Arc::new(Page::new(config));
        tokio::select! {
            () = serve(listener, page) => {}
            () = stop.notified() => {}
        }
        Ok(Exit::Ok)
    })
}

async fn serve(listener: TcpListener, page: Arc<Page>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Gone again, or out of descriptors for a moment.
                tracing::debug!(%error, "a client of the metrics was not served");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_WAIT)
                .max_buf_size(REQUEST_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(
                    TokioIo::new(client),
                    service_fn(move |request| {
                        let page = Arc::clone(&page);
                        async move { Ok::<_, Infallible>(answer(&request, &page)) }
                    }),
                );
            match tokio::time::timeout(CONNECTION_WAIT, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a client of the metrics"),
                Err(_) => tracing::debug!("a client of the metrics took too long"),
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, page: &Page) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, page.text()),
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, Bytes::from_static(b"metrics are at /metrics\n"))
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(b"metrics are for reading\n")),
    };
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let kind = match status {
        StatusCode::OK => prometheus_text::CONTENT_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// The figures as text, and for how long they are good.
struct Page {
    state: Mutex<State>,
}

struct State {
    source: Source,
    text: Bytes,
    good_until: Instant,
}

impl Page {
    fn new(config: &Config) -> Page {
        let source = Source::new(config);
        let state = State { source, text: Bytes::new(), good_until: Instant::now() };
        Page { state: Mutex::new(state) }
    }

    fn text(&self) -> Bytes {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if state.text.is_empty() || begun >= state.good_until {
            let figures = state.source.read();
            state.text = families::text(figures).into();
            let ended = Instant::now();
            state.good_until = ended + AGE_MIN.max((ended - begun) * SHARE);
        }
        state.text.clone()
    }
}

//! A page for people at `/`, and what it shows at `/stream`, once a second, as server-sent events.
//!
//! ```text
//!   history   once: the last ten minutes, for the plots
//!   log       when it has changed: events and errors
//!   state     each second: everything else, the newest point of the plots included
//!   beat      when there is nothing else to say for a while
//! ```
//!
//! It is for reading alone: no request changes anything. Who may not read is [`guard`]'s to say.

mod chronicle;
mod guard;
mod page;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::chronicle::{Chronicle, Shown};
use self::page::Page;
use super::connections::Lasting;
use super::desk::Desk;

/// Connections at once. More than there are streams: whoever watches keeps nobody out who asks for the page.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Pages that are told of changes at once.
const STREAMS_MAX: usize = 16;
/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A page that has lost its stream comes again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// And is told something at least this often, also where looks are further apart: it knows by that that it is heard.
const BEAT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Served {
    page: Arc<Page>,
    chronicle: Arc<Mutex<Chronicle>>,
    shown: watch::Receiver<Shown>,
    streams: Arc<Semaphore>,
}

/// Looks from now on, whether anybody watches or not: who opens the page sees what has led to what is now.
pub(super) fn router(desk: Desk) -> Router {
    let chronicle = Arc::new(Mutex::new(Chronicle::default()));
    let (publish, shown) = watch::channel(Shown::default());
    tokio::spawn(keep_looking(desk, Arc::clone(&chronicle), publish));
    let page = Arc::new(Page::assemble());
    let policy = page.policy.clone();
    let streams = Arc::new(Semaphore::new(STREAMS_MAX));
    Router::new()
        .route("/", get(the_page))
        .route("/stream", get(the_stream))
        .fallback(async || (StatusCode::NOT_FOUND, "the dashboard is at /\n"))
        .with_state(Served { page, chronicle, shown, streams })
        .layer(middleware::from_fn(move |request, next| {
            guard::answer(request, next, policy.clone())
        }))
}

async fn keep_looking(
    desk: Desk,
    chronicle: Arc<Mutex<Chronicle>>,
    publish: watch::Sender<Shown>,
) -> Infallible {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let chronicle = Arc::clone(&chronicle);
        let news = desk.with_figures(move |figures| {
            let mut chronicle = chronicle.lock().unwrap_or_else(PoisonError::into_inner);
            chronicle.note(figures)
        });
        if let Some(shown) = news.await {
            publish.send_replace(shown);
        }
    }
}

async fn the_page(State(served): State<Served>) -> impl IntoResponse {
    Html(served.page.text.clone())
}

async fn the_stream(
    State(served): State<Served>,
    Extension(lasting): Extension<Lasting>,
) -> Response {
    let Ok(place) = Arc::clone(&served.streams).try_acquire_owned() else {
        let why = format!("{STREAMS_MAX} pages are open already\n");
        let later = [(header::RETRY_AFTER, "5")];
        return (StatusCode::SERVICE_UNAVAILABLE, later, why).into_response();
    };
    lasting.begin();
    let mut shown = served.shown;
    shown.mark_changed();
    let history = {
        let chronicle = served.chronicle.lock().unwrap_or_else(PoisonError::into_inner);
        Event::default().event("history").retry(RETRY).data(chronicle.history())
    };
    let feed = Feed { shown, told: None, pending: VecDeque::from([history]), _place: place };
    let beat = Event::default().event("beat").data("null");
    Sse::new(stream::unfold(feed, Feed::next))
        .keep_alive(KeepAlive::new().interval(BEAT).event(beat))
        .into_response()
}

/// What one page is told. A slow one misses states, and never the last one.
struct Feed {
    shown: watch::Receiver<Shown>,
    /// The log that it has.
    told: Option<Arc<str>>,
    pending: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Feed)> {
        while self.pending.is_empty() {
            self.shown.changed().await.ok()?;
            let Shown { state: Some(state), log } = self.shown.borrow_and_update().clone() else {
                continue;
            };
            let is_known = match (&self.told, &log) {
                (Some(told), Some(log)) => Arc::ptr_eq(told, log),
                (_, log) => log.is_none(),
            };
            if let (false, Some(log)) = (is_known, log) {
                self.pending.push_back(Event::default().event("log").data(&log));
                self.told = Some(log);
            }
            self.pending.push_back(Event::default().event("state").data(state));
        }
        let event = self.pending.pop_front()?;
        Some((Ok(event), self))
    }
}

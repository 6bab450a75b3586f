//! `GET /metrics`: the figures as Prometheus reads them.

mod families;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::body::Bytes;
use prometheus_client::encoding::prometheus_text;

use super::desk::Desk;
use super::source::Figures;

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 16;

/// A text, and of which figures it is.
type Text = Arc<Mutex<Option<(Arc<Figures>, Bytes)>>>;

pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, "metrics are for reading\n")
        })
        .fallback(async || (StatusCode::NOT_FOUND, "metrics are at /metrics\n"))
        .with_state((desk, Text::default()))
}

async fn metrics(State((desk, text)): State<(Desk, Text)>) -> impl IntoResponse {
    let text = desk.with_figures(move |figures| {
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        match &*text {
            Some((of, bytes)) if Arc::ptr_eq(of, &figures) => bytes.clone(),
            _ => {
                let bytes = Bytes::from(families::text(Arc::clone(&figures)));
                *text = Some((figures, bytes.clone()));
                bytes
            }
        }
    });
    ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text.await)
}

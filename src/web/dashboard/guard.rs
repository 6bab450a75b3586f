//! Whom the dashboard answers: a browser that was led here by its own user, and no page of anybody else's.
//!
//! Pages of other origins cannot read what is here (no CORS header is ever sent), nor show it in a frame. A name that an
//! attacker makes lead here (DNS rebinding) would be an origin of its own that can: so the host that is asked for must be an address, or
//! `localhost`, which no foreign name server answers for.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY,
    TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What every answer bears, besides the policy of the page.
const HEADERS: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Lets a request through, or says why not.
pub(super) async fn answer(request: Request, next: Next, policy: HeaderValue) -> Response {
    let mut response = match objection(&request) {
        Some((status, why)) => (status, why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    if headers.get(ALLOW).is_none() && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn objection(request: &Request) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "the dashboard is for reading\n"));
    }
    let is_empty = |length: &HeaderValue| length == "0";
    if headers.contains_key(TRANSFER_ENCODING)
        || !headers.get_all(CONTENT_LENGTH).iter().all(is_empty)
    {
        return Some((StatusCode::PAYLOAD_TOO_LARGE, "a question has no body\n"));
    }
    let Some(host) = host_of(headers).filter(is_own) else {
        let why = "ask by address, or as localhost: any other name may be somebody else's\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, why));
    };
    if request.uri().authority().is_some_and(|named| *named != host) {
        return Some((StatusCode::MISDIRECTED_REQUEST, "this is no proxy\n"));
    }
    let own = format!("http://{host}");
    if !headers.get_all(ORIGIN).iter().all(|origin| origin.as_bytes() == own.as_bytes()) {
        return Some((StatusCode::FORBIDDEN, "not for pages of other origins\n"));
    }
    // Browsers say who asks; a link to the page may stand anywhere.
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let foreign =
        said("sec-fetch-site").is_some_and(|site| site != b"same-origin" && site != b"none");
    if foreign && said("sec-fetch-mode") != Some(b"navigate") {
        return Some((StatusCode::FORBIDDEN, "not for pages of other origins\n"));
    }
    None
}

/// The host that is asked for, if exactly one is.
fn host_of(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?.parse().ok();
    host.filter(|_| hosts.next().is_none())
}

/// Whether a host can be nobody else's name. With any port: tunnels have their own.
fn is_own(host: &Authority) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    !host.as_str().contains('@')
        && (name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    /// Method, address, headers, and the status of a refusal.
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], Option<u16>);

    fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a proper request");
        objection(&request).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn who_is_answered() {
        const OWN: (&str, &str) = ("host", "127.0.0.1:7480");
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("GET", "/", &[OWN], None),
            ("HEAD", "/", &[("host", "[::1]:7480")], None),
            ("GET", "/", &[("host", "LocalHost")], None),
            ("GET", "/", &[], Some(421)),
            ("GET", "/", &[("host", "evil.example:7480")], Some(421)),
            ("GET", "/", &[("host", "127.0.0.1.evil.example")], Some(421)),
            ("GET", "/", &[("host", "localhost.evil.example")], Some(421)),
            ("GET", "/", &[("host", "evil.example@127.0.0.1")], Some(421)),
            ("GET", "/", &[OWN, ("host", "evil.example")], Some(421)),
            ("GET", "http://evil.example/", &[OWN], Some(421)),
            ("GET", "http://127.0.0.1:7480/", &[OWN], None),
            ("POST", "/", &[OWN], Some(405)),
            ("OPTIONS", "/stream", &[OWN, ("origin", "http://evil.example")], Some(405)),
            ("GET", "/", &[OWN, ("content-length", "9")], Some(413)),
            ("GET", "/", &[OWN, ("content-length", "0")], None),
            ("GET", "/", &[OWN, ("transfer-encoding", "chunked")], Some(413)),
            ("GET", "/stream", &[OWN, ("origin", "http://127.0.0.1:7480")], None),
            ("GET", "/stream", &[OWN, ("origin", "http://127.0.0.1:7481")], Some(403)),
            ("GET", "/stream", &[OWN, ("origin", "null")], Some(403)),
            ("GET", "/stream", &[OWN, ("sec-fetch-site", "same-origin")], None),
            ("GET", "/stream", &[OWN, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], Some(403)),
            ("GET", "/stream", &[OWN, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")], Some(403)),
            ("GET", "/", &[OWN, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], None),
        ];
        for (method, uri, headers, expected) in cases {
            assert_eq!(asked(method, uri, headers), *expected, "{method} {uri} {headers:?}");
        }
    }
}

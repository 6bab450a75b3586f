//! Writing messages: answers to requests, answers out of the state, and our own BYE.

use std::net::SocketAddr;

use crate::fields::{self, Via};
use crate::message::SipMessage;
use crate::state::Call;

/// The methods that we carry out.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS";

/// A status code and what we call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16);

impl Status {
    fn phrase(self) -> &'static str {
        match self.0 {
            180 => "Ringing",
            200 => "OK",
            400 => "Bad Request",
            405 => "Method Not Allowed",
            416 => "Unsupported URI Scheme",
            420 => "Bad Extension",
            481 => "Call/Transaction Does Not Exist",
            482 => "Loop Detected",
            487 => "Request Terminated",
            500 => "Server Internal Error",
            513 => "Message Too Large",
            _ => "Unknown",
        }
    }
}

/// The parts of an answer that are not copied from a request.
#[derive(Default)]
pub(crate) struct Extra<'a> {
    /// Further headers, each ended by CRLF.
    pub(crate) headers: &'a str,
    pub(crate) contact: Option<&'a [u8]>,
    /// `Record-Route` values, one a line.
    pub(crate) routes: &'a [u8],
    /// A session description.
    pub(crate) body: &'a [u8],
}

/// The values that an answer repeats, wherever they come from.
struct Echo<'a> {
    from: &'a [u8],
    to: &'a [u8],
    to_tag: Option<&'a str>,
    call_id: &'a [u8],
    cseq: u32,
    method: &'a [u8],
}

/// Answers a request out of itself. `to_tag` is used if the request bears none.
pub(crate) fn to_request(
    request: &SipMessage<'_>,
    source: SocketAddr,
    status: Status,
    to_tag: &str,
    extra: &Extra<'_>,
    out: &mut Vec<u8>,
) {
    status_line(status, out);
    let mut vias = Vec::new();
    collect_vias(request, source, &mut vias);
    header_lines("Via", &vias, out);
    let echo = Echo {
        from: request.from,
        to: request.to,
        to_tag: request.callee_tag().is_none().then_some(to_tag),
        call_id: request.call_id,
        cseq: request.cseq.number,
        method: request.cseq.method,
    };
    finish(&echo, extra, out);
}

/// Answers the INVITE that the state remembers.
pub(crate) fn to_invite(
    call: &Call,
    call_id: &[u8],
    status: Status,
    extra: &Extra<'_>,
    out: &mut Vec<u8>,
) {
    status_line(status, out);
    header_lines("Via", call.vias.get(), out);
    let echo = Echo {
        from: call.from.get(),
        to: call.to.get(),
        to_tag: Some(&call.local_tag()),
        call_id,
        cseq: call.invite_cseq.get(),
        method: b"INVITE",
    };
    finish(&echo, extra, out);
}

/// Our own request that ends a call.
pub(crate) fn bye(call: &Call, call_id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"BYE ");
    out.extend_from_slice(call.contact.get());
    out.extend_from_slice(b" SIP/2.0\r\n");
    out.extend_from_slice(b"Via: SIP/2.0/UDP ");
    out.extend_from_slice(fields::host_of(call.called.get()));
    let line = format!(";branch={}\r\nMax-Forwards: 70\r\n", bye_branch(call));
    out.extend_from_slice(line.as_bytes());
    // The callee follows the recorded routes in the order in which they stand (RFC 3261, 12.1.1).
    header_lines("Route", call.routes.get(), out);
    // The sides change places: what the caller wrote as From is where this goes.
    header("From", call.to.get(), out);
    out.truncate(out.len() - 2);
    out.extend_from_slice(format!(";tag={}\r\n", call.local_tag()).as_bytes());
    header("To", call.from.get(), out);
    header("Call-ID", call_id, out);
    let line = format!("CSeq: {} BYE\r\nContent-Length: 0\r\n\r\n", call.local_cseq.get());
    out.extend_from_slice(line.as_bytes());
}

/// The branch of our BYE: the same for each retransmission, also by another process.
pub(crate) fn bye_branch(call: &Call) -> String {
    format!("z9hG4bK{}-{}", call.local_tag(), call.local_cseq.get())
}

/// The `Via` values of a request, one a line, the first completed with the packet's source.
pub(crate) fn collect_vias(request: &SipMessage<'_>, source: SocketAddr, out: &mut Vec<u8>) {
    for (index, value) in request.vias().enumerate() {
        if index > 0 {
            out.extend_from_slice(LINE_MARK);
        }
        match Via::top(value) {
            Some(top) if index == 0 => top.write_received(value, source, out),
            _ => out.extend_from_slice(value),
        }
    }
}

/// The `Record-Route` values of a request, one a line.
pub(crate) fn collect_routes(request: &SipMessage<'_>) -> Vec<u8> {
    let values: Vec<&[u8]> = request.record_routes().collect();
    values.join(LINE_MARK)
}

/// Between two values kept in one text. No value contains it: the parser lets no such character in.
const LINE_MARK: &[u8] = b"\0";

fn header_lines(name: &str, values: &[u8], out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    for value in values.split(|byte| *byte == LINE_MARK[0]) {
        header(name, value, out);
    }
}

fn status_line(status: Status, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("SIP/2.0 {} {}\r\n", status.0, status.phrase()).as_bytes());
}

fn finish(echo: &Echo<'_>, extra: &Extra<'_>, out: &mut Vec<u8>) {
    header_lines("Record-Route", extra.routes, out);
    header("From", echo.from, out);
    header("To", echo.to, out);
    if let Some(tag) = echo.to_tag {
        out.truncate(out.len() - 2);
        out.extend_from_slice(format!(";tag={tag}\r\n").as_bytes());
    }
    header("Call-ID", echo.call_id, out);
    out.extend_from_slice(format!("CSeq: {} ", echo.cseq).as_bytes());
    out.extend_from_slice(echo.method);
    out.extend_from_slice(b"\r\n");
    if let Some(contact) = extra.contact {
        out.extend_from_slice(b"Contact: <");
        out.extend_from_slice(contact);
        out.extend_from_slice(b">\r\n");
    }
    out.extend_from_slice(extra.headers.as_bytes());
    if !extra.body.is_empty() {
        out.extend_from_slice(b"Content-Type: application/sdp\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", extra.body.len()).as_bytes());
    out.extend_from_slice(extra.body);
}

fn header(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

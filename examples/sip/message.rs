//! A borrowed view of one SIP message, as far as a user-agent server over UDP needs it.
//!
//! ```text
//!   INVITE sip:bob@example.com SIP/2.0        start line: who is asked for what
//!   Via: SIP/2.0/UDP 10.0.0.1:5060;branch=…   ┐
//!   From: <sip:alice@example.com>;tag=1928    │ head: read once, each value stays where
//!   To: <sip:bob@example.com>                 │ the packet has it
//!   Call-ID: a84b4c76e66710                   │
//!   CSeq: 314159 INVITE                       ┘
//!
//!   v=0 …                                     body: as long as Content-Length says, unread
//! ```
//!
//! # Why not a parser crate
//! A worker reads the packet in place in the region and answers with most of its values verbatim, so
//! it wants slices, no allocation and a refusal that is a value. `rsip` 0.4 builds owned strings and
//! rests on generations of its dependencies that are no longer maintained (bstr 0.2, sha2 0.9, syn 1);
//! `sipmsg` is as old; `ezk-sip-types` is alive, but its headers are typed over reference-counted
//! buffers, which costs a copy of each packet to read seven values. What is left to write is this file.
//!
//! # What counts as malformed
//! A start line that is not SIP/2.0, a header line without a colon, control characters in the head, a
//! missing or doubled mandatory header, a `CSeq` of another method, a body shorter than
//! `Content-Length` says. Folded lines, compact names and bare line feeds are accepted.

use std::str;

use crate::fields;

/// Why a packet is not a SIP message that this server can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the first line is neither a request nor a response of SIP/2.0")]
    StartLine,
    #[error("header line {line} has no name or no colon")]
    HeaderLine { line: usize },
    #[error("header line {line} has a control character")]
    Control { line: usize },
    #[error("the head does not end with an empty line")]
    Unfinished,
    #[error("there is no {name}")]
    Missing { name: &'static str },
    #[error("there are two of {name}")]
    Doubled { name: &'static str },
    #[error("{name} cannot be read")]
    Value { name: &'static str },
    #[error("CSeq names another method than the first line")]
    OtherMethod,
    #[error("the body has {actual} bytes, Content-Length says {claimed}")]
    Body { claimed: usize, actual: usize },
}

/// The methods this server tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Other,
}

impl Method {
    fn of(token: &[u8]) -> Method {
        match token {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartLine<'a> {
    Request { method: Method, uri: &'a [u8] },
    Response { status: u16 },
}

/// A sequence number and the method it counts, the latter as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CSeq<'a> {
    pub(crate) number: u32,
    pub(crate) method: &'a [u8],
}

/// One message whose mandatory headers are all there, once each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SipMessage<'a> {
    pub(crate) start: StartLine<'a>,
    /// The value of the first `Via` header; its first element is the transaction's.
    pub(crate) top_via: &'a [u8],
    pub(crate) from: &'a [u8],
    pub(crate) to: &'a [u8],
    pub(crate) call_id: &'a [u8],
    pub(crate) cseq: CSeq<'a>,
    pub(crate) contact: Option<&'a [u8]>,
    pub(crate) require: Option<&'a [u8]>,
    head: Head<'a>,
}

impl<'a> SipMessage<'a> {
    /// Reads a whole datagram.
    pub(crate) fn parse(packet: &'a [u8]) -> Result<SipMessage<'a>, Malformed> {
        let (start, head) = start_line(packet)?;
        let mut found = Found::default();
        let mut headers = head;
        for header in headers.by_ref() {
            found.note(header?)?;
        }
        let rest = headers.rest();
        // We have no use for the body, but a datagram that was cut is not to be believed (18.3).
        if let Some(claimed) = found.length.filter(|claimed| *claimed > rest.len()) {
            return Err(Malformed::Body { claimed, actual: rest.len() });
        }
        let cseq = found.cseq.ok_or(Malformed::Missing { name: "CSeq" })?;
        if let StartLine::Request { method, .. } = start {
            // Two methods outside our vocabulary are both `Other`; we refuse them alike.
            if Method::of(cseq.method) != method {
                return Err(Malformed::OtherMethod);
            }
        }
        Ok(SipMessage {
            start,
            top_via: found.via.ok_or(Malformed::Missing { name: "Via" })?,
            from: found.from.ok_or(Malformed::Missing { name: "From" })?,
            to: found.to.ok_or(Malformed::Missing { name: "To" })?,
            call_id: found.call_id.ok_or(Malformed::Missing { name: "Call-ID" })?,
            cseq,
            contact: found.contact,
            require: found.require,
            head,
        })
    }

    /// The values of all `Via` headers, in order. A value may hold several elements.
    pub(crate) fn vias(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.values("Via")
    }

    /// The values of all `Record-Route` headers, in order.
    pub(crate) fn record_routes(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.values("Record-Route")
    }

    /// The caller's tag.
    pub(crate) fn caller_tag(&self) -> Option<&'a [u8]> {
        fields::param(self.from, b"tag")
    }

    /// Our tag, if the sender knows one: the request belongs to a dialog.
    pub(crate) fn callee_tag(&self) -> Option<&'a [u8]> {
        fields::param(self.to, b"tag")
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        // `parse` has walked this head to its end: nothing in it is an error any more.
        self.head
            .filter_map(Result::ok)
            .filter(move |header| header.is(name))
            .map(|header| header.value)
    }
}

/// What `parse` collects while it walks the head.
#[derive(Default)]
struct Found<'a> {
    via: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    call_id: Option<&'a [u8]>,
    cseq: Option<CSeq<'a>>,
    contact: Option<&'a [u8]>,
    require: Option<&'a [u8]>,
    length: Option<usize>,
}

impl<'a> Found<'a> {
    fn note(&mut self, header: Header<'a>) -> Result<(), Malformed> {
        let value = header.value;
        if header.is("Via") {
            // The others are read again, in order, when an answer is written.
            if self.via.is_none() {
                fields::Via::top(value).ok_or(Malformed::Value { name: "Via" })?;
                self.via = Some(value);
            }
        } else if header.is("From") {
            once(&mut self.from, value, "From")?;
        } else if header.is("To") {
            once(&mut self.to, value, "To")?;
        } else if header.is("Call-ID") {
            if value.is_empty() || value.iter().any(u8::is_ascii_whitespace) {
                return Err(Malformed::Value { name: "Call-ID" });
            }
            once(&mut self.call_id, value, "Call-ID")?;
        } else if header.is("CSeq") {
            let cseq = read_cseq(value).ok_or(Malformed::Value { name: "CSeq" })?;
            once(&mut self.cseq, cseq, "CSeq")?;
        } else if header.is("Content-Length") {
            let length = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let length = length.ok_or(Malformed::Value { name: "Content-Length" })?;
            once(&mut self.length, length, "Content-Length")?;
        } else if header.is("Contact") {
            self.contact.get_or_insert(value);
        } else if header.is("Require") {
            self.require.get_or_insert(value);
        }
        Ok(())
    }
}

fn once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), Malformed> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Doubled { name }),
    }
}

fn read_cseq(value: &[u8]) -> Option<CSeq<'_>> {
    let gap = value.iter().position(u8::is_ascii_whitespace)?;
    let (number, method) = value.split_at(gap);
    let number: u32 = str::from_utf8(number).ok()?.parse().ok()?;
    let method = method.trim_ascii();
    // RFC 3261, 8.1.1.5: less than 2^31, so that it can be compared without wrapping.
    let sound = number < 1 << 31 && is_token(method);
    sound.then_some(CSeq { number, method })
}

/// Splits a packet into its first line and the head that follows it.
pub(crate) fn start_line(packet: &[u8]) -> Result<(StartLine<'_>, Head<'_>), Malformed> {
    let (line, rest) = split_line(packet).ok_or(Malformed::StartLine)?;
    if line.iter().any(|byte| byte.is_ascii_control()) {
        return Err(Malformed::StartLine);
    }
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let third = words.next().unwrap_or_default();
    let start = if first == b"SIP/2.0" {
        let status = str::from_utf8(second).ok().and_then(|text| text.parse().ok());
        let status = status.filter(|code| (100..700).contains(code));
        StartLine::Response { status: status.ok_or(Malformed::StartLine)? }
    } else if third == b"SIP/2.0" && is_token(first) && !second.is_empty() {
        StartLine::Request { method: Method::of(first), uri: second }
    } else {
        return Err(Malformed::StartLine);
    };
    Ok((start, Head { rest, line: 0, state: HeadState::Open }))
}

fn is_token(bytes: &[u8]) -> bool {
    let mark = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(mark)
}

/// One header, its value without the white space around it, folded lines still inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Header<'_> {
    /// Whether this is the header of that full name, also in its compact form.
    pub(crate) fn is(&self, name: &str) -> bool {
        let compact = match name {
            "Via" => "v",
            "From" => "f",
            "To" => "t",
            "Call-ID" => "i",
            "Contact" => "m",
            "Content-Length" => "l",
            _ => name,
        };
        [name, compact].iter().any(|form| self.name.eq_ignore_ascii_case(form.as_bytes()))
    }
}

/// The headers of a message, one after the other, up to the empty line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    rest: &'a [u8],
    line: usize,
    state: HeadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadState {
    Open,
    Ended,
}

impl<'a> Head<'a> {
    /// After the last header: what follows the empty line.
    fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn next_header(&mut self) -> Result<Option<Header<'a>>, Malformed> {
        self.line += 1;
        let line = self.line;
        let (first, mut after) = split_line(self.rest).ok_or(Malformed::Unfinished)?;
        if first.is_empty() {
            self.rest = after;
            return Ok(None);
        }
        let mut length = first.len();
        // A line that starts with white space continues the one before (RFC 3261, 7.3.1).
        while matches!(after.first(), Some(b' ' | b'\t')) {
            let (more, next) = split_line(after).ok_or(Malformed::Unfinished)?;
            length = self.rest.len() - after.len() + more.len();
            after = next;
        }
        let whole = &self.rest[..length];
        self.rest = after;
        if has_control(whole) {
            return Err(Malformed::Control { line });
        }
        let colon = whole.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or(Malformed::HeaderLine { line })?;
        let name = whole[..colon].trim_ascii_end();
        if !is_token(name) {
            return Err(Malformed::HeaderLine { line });
        }
        Ok(Some(Header { name, value: whole[colon + 1..].trim_ascii() }))
    }
}

impl<'a> Iterator for Head<'a> {
    type Item = Result<Header<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == HeadState::Ended {
            return None;
        }
        let header = self.next_header();
        if !matches!(header, Ok(Some(_))) {
            self.state = HeadState::Ended;
        }
        header.transpose()
    }
}

/// A carriage return or line feed is only legal where `next_header` found a fold: followed by white
/// space in the end. Everything else could smuggle a line into an answer that repeats the value.
fn has_control(whole: &[u8]) -> bool {
    let mut bytes = whole.iter().peekable();
    while let Some(byte) = bytes.next() {
        let legal = match byte {
            b'\r' => bytes.peek() == Some(&&b'\n'),
            b'\n' => matches!(bytes.peek(), Some(b' ' | b'\t')),
            b'\t' => true,
            other => !other.is_ascii_control(),
        };
        if !legal {
            return true;
        }
    }
    false
}

/// The bytes before the next line end, and those after it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

#[cfg(test)]
mod tests;

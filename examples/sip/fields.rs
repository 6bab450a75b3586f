//! Structured values: addresses with parameters, the top `Via`, and where its answer goes.

use std::net::{IpAddr, SocketAddr};
use std::str;

/// The port of a `Via` that names none.
const DEFAULT_PORT: u16 = 5060;

/// A parameter of an address header (`From`, `To`, `Contact`), looked for behind the address.
///
/// `Some` of an empty slice: the parameter is there without a value.
pub(crate) fn param<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let address = split_outside_quotes(value, b'>').map_or(value, |(_, after)| after);
    let (_, params) = split_outside_quotes(address, b';')?;
    find_param(params, name)
}

/// The URI of an address header: what stands in angle brackets, or all before the parameters.
pub(crate) fn uri(value: &[u8]) -> &[u8] {
    let element = first_element(value);
    let uri = match split_outside_quotes(element, b'<') {
        Some((_, inner)) => split_at_byte(inner, b'>').0,
        None => split_at_byte(element, b';').0,
    };
    uri.trim_ascii()
}

/// Whether a URI can stand in the first line of a request: a scheme, and nothing that ends a word.
pub(crate) fn is_plain_uri(uri: &[u8]) -> bool {
    let scheme = uri.iter().position(|byte| *byte == b':').unwrap_or(0);
    scheme > 0 && uri.iter().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(byte))
}

/// Whether it is a SIP URI that names a host, so that we can call it our address.
pub(crate) fn is_sip_address(uri: &[u8]) -> bool {
    let (scheme, _) = split_at_byte(uri, b':');
    let sip = scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips");
    sip && is_plain_uri(uri) && split_host(host_of(uri)).is_some()
}

/// `host[:port]` of a `sip:` URI.
pub(crate) fn host_of(uri: &[u8]) -> &[u8] {
    let (_, after_scheme) = split_at_byte(uri, b':');
    let (address, _) = split_at_byte(after_scheme, b';');
    let (address, _) = split_at_byte(address, b'?');
    match address.iter().rposition(|byte| *byte == b'@') {
        Some(at) => &address[at + 1..],
        None => address,
    }
}

/// The first element of a comma-separated value.
fn first_element(value: &[u8]) -> &[u8] {
    let mut quotes = Quotes::default();
    let mut inside_brackets = false;
    for (at, &byte) in value.iter().enumerate() {
        if quotes.hides(byte) {
            continue;
        }
        match byte {
            b'<' => inside_brackets = true,
            b'>' => inside_brackets = false,
            b',' if !inside_brackets => return &value[..at],
            _ => {}
        }
    }
    value
}

fn find_param<'a>(mut params: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    loop {
        let (one, rest) = match split_outside_quotes(params, b';') {
            Some((one, rest)) => (one, Some(rest)),
            None => (params, None),
        };
        let (key, value) = split_at_byte(one, b'=');
        if key.trim_ascii().eq_ignore_ascii_case(name) {
            return Some(value.trim_ascii());
        }
        params = rest?;
    }
}

/// Splits at the first `byte`; all of it and nothing if there is none.
fn split_at_byte(bytes: &[u8], byte: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|other| *other == byte) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

fn split_outside_quotes(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let mut quotes = Quotes::default();
    let at = bytes.iter().position(|&byte| !quotes.hides(byte) && byte == wanted)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Follows quoted strings, in which separators are text.
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    fn hides(&mut self, byte: u8) -> bool {
        if !self.open {
            self.open = byte == b'"';
            return self.open;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.open = false,
            _ => {}
        }
        true
    }
}

/// The first element of a `Via` value: it identifies the transaction and says where to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Via<'a> {
    /// `SIP/2.0/UDP host:port` and its parameters, without the elements behind it.
    element: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
    branch: &'a [u8],
    wants_source_port: bool,
}

impl<'a> Via<'a> {
    /// Reads the first element; `None` if it is not a `Via` of SIP/2.0.
    pub(crate) fn top(value: &'a [u8]) -> Option<Via<'a>> {
        let element = first_element(value).trim_ascii();
        let (sent, params) = match split_outside_quotes(element, b';') {
            Some((sent, params)) => (sent, params),
            None => (element, &[] as &[u8]),
        };
        let sent_by = sent_by(sent)?;
        let (host, port) = split_host(sent_by)?;
        Some(Via {
            element,
            host,
            port,
            branch: find_param(params, b"branch").unwrap_or_default(),
            wants_source_port: find_param(params, b"rport").is_some(),
        })
    }

    /// Whether both belong to one transaction (RFC 3261, 17.2.3; the caller compares the CSeq).
    ///
    /// A branch from before RFC 3261 (or none) is compared the same way: with the sequence number
    /// beside it, that tells retransmissions from new requests within one Call-ID.
    pub(crate) fn same_transaction(&self, other: &Via<'_>) -> bool {
        self.branch == other.branch && self.host == other.host && self.port == other.port
    }

    /// Whether this is the branch that was made for one of our own requests.
    pub(crate) fn has_branch(&self, branch: &[u8]) -> bool {
        self.branch == branch
    }

    /// One number for branch and sender, to remember a transaction without its text.
    pub(crate) fn fingerprint(&self) -> u64 {
        let port = self.port.unwrap_or(0).to_be_bytes();
        fingerprint(&[self.branch, self.host, &port])
    }

    /// Where the answer goes (RFC 3261, 18.2.2 and RFC 3581): always to the host the request came
    /// from, to the port it came from only if the sender asked for that.
    ///
    /// `maddr` is not followed: it would let anybody aim our answers at a third host.
    pub(crate) fn answer_to(&self, source: SocketAddr) -> SocketAddr {
        let port = match self.wants_source_port {
            true => source.port(),
            false => self.port.unwrap_or(DEFAULT_PORT),
        };
        SocketAddr::new(source.ip(), port)
    }

    /// Writes the value of which this is the first element, with what the sender cannot know about
    /// itself: the address its packet bore.
    pub(crate) fn write_received(&self, value: &[u8], source: SocketAddr, out: &mut Vec<u8>) {
        let offset = self.element.as_ptr() as usize - value.as_ptr() as usize;
        let end = offset + self.element.len();
        let mut element = self.element;
        if self.wants_source_port {
            // `rport` gets its value in place; a value that was sent is not believed.
            let (before, after) = split_param(element, b"rport");
            out.extend_from_slice(before);
            out.extend_from_slice(format!(";rport={}", source.port()).as_bytes());
            element = after;
        }
        out.extend_from_slice(element);
        if self.wants_source_port || !names(self.host, source.ip()) {
            out.extend_from_slice(format!(";received={}", source.ip()).as_bytes());
        }
        out.extend_from_slice(&value[end..]);
    }
}

/// A number that two different lists of values hardly share (FNV-1a, with the lengths mixed in).
pub(crate) fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        part.len().to_le_bytes().iter().chain(*part).for_each(|byte| mix(*byte));
    }
    hash
}

/// What precedes a parameter (without its semicolon), and what follows it.
fn split_param<'a>(element: &'a [u8], name: &[u8]) -> (&'a [u8], &'a [u8]) {
    let mut quotes = Quotes::default();
    let mut from = None;
    for (at, &byte) in element.iter().enumerate() {
        if quotes.hides(byte) || byte != b';' {
            continue;
        }
        if let Some(start) = from {
            return (&element[..start], &element[at..]);
        }
        let key = split_at_byte(&element[at + 1..], b';').0;
        if split_at_byte(key, b'=').0.trim_ascii().eq_ignore_ascii_case(name) {
            from = Some(at);
        }
    }
    match from {
        Some(start) => (&element[..start], &[]),
        None => (element, &[]),
    }
}

/// What stands behind `SIP / 2.0 / UDP`, white space being allowed around each slash.
fn sent_by(sent: &[u8]) -> Option<&[u8]> {
    let (name, rest) = split_at_byte(sent, b'/');
    let (version, rest) = split_at_byte(rest, b'/');
    if !name.trim_ascii().eq_ignore_ascii_case(b"SIP") || version.trim_ascii() != b"2.0" {
        return None;
    }
    let rest = rest.trim_ascii();
    let gap = rest.iter().position(u8::is_ascii_whitespace)?;
    let (transport, sent_by) = rest.split_at(gap);
    let word = transport.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    word.then_some(sent_by.trim_ascii())
}

fn split_host(sent_by: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let after_host = match sent_by.first()? {
        // The colons inside an IPv6 reference are not the one before the port.
        b'[' => sent_by.iter().position(|byte| *byte == b']')? + 1,
        _ => sent_by.iter().position(|byte| *byte == b':').unwrap_or(sent_by.len()),
    };
    let (host, port) = sent_by.split_at(after_host);
    let host = host.trim_ascii();
    let in_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(byte);
    if host.is_empty() || !host.iter().all(in_host) {
        return None;
    }
    match port.trim_ascii() {
        [] => Some((host, None)),
        [b':', digits @ ..] => {
            let port = str::from_utf8(digits.trim_ascii()).ok()?.parse().ok()?;
            Some((host, Some(port)))
        }
        _ => None,
    }
}

fn names(host: &[u8], ip: IpAddr) -> bool {
    let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    let parsed: Option<IpAddr> = str::from_utf8(bare).ok().and_then(|text| text.parse().ok());
    parsed == Some(ip)
}

#[cfg(test)]
mod tests;

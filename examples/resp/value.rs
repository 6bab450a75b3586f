//! How values lie in the region: a letter for the type, and the content.
//!
//! ```text
//!   s │ bytes                                        string
//!   l │ length:4 │ bytes │ length:4 │ bytes │ …      list, its tail first: a push at the head appends
//!   h │ length:4 │ field │ length:4 │ value │ …      hash
//! ```
//!
//! A value is written as a whole, so a list and a hash are meant to be small: they cost what they are long.

/// Of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    List,
    Hash,
}

impl Type {
    fn letter(self) -> u8 {
        match self {
            Type::String => b's',
            Type::List => b'l',
            Type::Hash => b'h',
        }
    }

    /// As `TYPE` says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::String => "string",
            Type::List => "list",
            Type::Hash => "hash",
        }
    }

    /// That of a value.
    pub(crate) fn of(value: &[u8]) -> Option<Type> {
        let is = |kind: &Type| value.first() == Some(&kind.letter());
        [Type::String, Type::List, Type::Hash].into_iter().find(is)
    }

    /// The content of a value, if it is of this type.
    pub(crate) fn content(self, value: &[u8]) -> Option<&[u8]> {
        value.strip_prefix(&[self.letter()])
    }

    /// A value of this type.
    pub(crate) fn value(self, content: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(1 + content.len());
        value.push(self.letter());
        value.extend_from_slice(content);
        value
    }
}

/// The parts of a list, or the fields and values of a hash in turns. What makes no sense ends them.
pub(crate) fn parts(mut content: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        content = rest;
        Some(part)
    })
}

/// Adds a part at the end.
pub(crate) fn push(value: &mut Vec<u8>, part: &[u8]) {
    // No command is longer than 4 GiB.
    value.extend_from_slice(&(part.len() as u32).to_le_bytes());
    value.extend_from_slice(part);
}

/// What one part takes.
pub(crate) fn bytes_of(part: &[u8]) -> usize {
    4 + part.len()
}

/// The value of a field.
pub(crate) fn field<'v>(content: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    let mut parts = parts(content);
    while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
        if field == name {
            return Some(value);
        }
    }
    None
}

/// Sets a field of a hash; whether it is a new one.
pub(crate) fn set_field(hash: &mut Vec<u8>, name: &[u8], to: &[u8]) -> bool {
    let mut at = 1;
    let mut found = None;
    {
        let mut all = parts(&hash[1..]);
        while let (Some(field), Some(value)) = (all.next(), all.next()) {
            let end = at + bytes_of(field) + bytes_of(value);
            if field == name {
                found = Some((at + bytes_of(field), end));
                break;
            }
            at = end;
        }
    }
    match found {
        Some((begin, end)) => {
            let mut value = Vec::with_capacity(bytes_of(to));
            push(&mut value, to);
            hash.splice(begin..end, value);
            false
        }
        None => {
            push(hash, name);
            push(hash, to);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_replaced() {
        let mut hash = Type::Hash.value(b"");
        assert!(set_field(&mut hash, b"a", b"1"));
        assert!(set_field(&mut hash, b"b", b"22"));
        assert!(!set_field(&mut hash, b"a", b"333"));
        let content = Type::Hash.content(&hash).expect("a hash");
        assert_eq!(field(content, b"a"), Some(&b"333"[..]));
        assert_eq!(field(content, b"b"), Some(&b"22"[..]));
        assert_eq!(field(content, b"1"), None, "a value is no field");
        assert_eq!(Type::List.content(&hash), None);
    }

    #[test]
    fn what_makes_no_sense_has_no_parts() {
        assert_eq!(parts(&[255, 255, 255, 255, 1]).count(), 0);
        assert_eq!(parts(&[1, 0]).count(), 0);
        assert_eq!(Type::of(b"?"), None);
        assert_eq!(Type::of(b""), None);
    }
}

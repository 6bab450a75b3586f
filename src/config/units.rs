//! Values with units, as people write them: `5ms`, `64KiB`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A duration written with its unit: `250us`, `5ms`, `2s`, `1m`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    /// Reads a duration; the error says what a right one looks like.
    pub(crate) fn parse(text: &str) -> Result<Span, String> {
        let wrong =
            || format!("`{text}` is not a duration; write a number and us, ms, s, m, h or d");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let nanos_per_unit: u64 = match unit.trim_start() {
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(wrong()),
        };
        let nanos = number.checked_mul(nanos_per_unit).ok_or_else(wrong)?;
        Ok(Span(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0 => write!(f, "0us"),
            _ if micros.is_multiple_of(1_000_000) => write!(f, "{}s", micros / 1_000_000),
            _ if micros.is_multiple_of(1_000) => write!(f, "{}ms", micros / 1_000),
            _ => write!(f, "{micros}us"),
        }
    }
}

/// A number of bytes written with its unit: `512B`, `64KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    /// Reads a size; the error says what a right one looks like.
    pub(crate) fn parse(text: &str) -> Result<Size, String> {
        let wrong = || format!("`{text}` is not a size; write a number and B, KiB, MiB or GiB");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes_per_unit: u64 = match unit.trim_start() {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        Ok(Size(number.checked_mul(bytes_per_unit).ok_or_else(wrong)?))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0B"),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size with its unit, such as \"64KiB\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"5ms\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        #[rustfmt::skip]
        let cases = [
            ("250us", Some(250_000)),
            ("5ms",   Some(5_000_000)),
            ("5 ms",  Some(5_000_000)),
            ("2s",    Some(2_000_000_000)),
            ("1m",    Some(60_000_000_000)),
            ("5",     None),
            ("ms",    None),
            ("-5ms",  None),
            ("5min",  None),
            ("18446744073709551615s", None),
        ];
        for (text, nanos) in cases {
            let span = Span::parse(text).ok().map(|span| span.0.as_nanos());
            assert_eq!(span, nanos, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_number_and_a_unit_and_print_in_the_largest() {
        let cases = [("512B", 512), ("64KiB", 64 << 10), ("1 MiB", 1 << 20), ("2GiB", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(Size::parse(text).map(|size| size.0), Ok(bytes), "{text}");
        }
        for text in ["1", "KiB", "1KB", "-1B", "18446744073709551615KiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
        for text in ["512B", "64KiB", "1MiB", "2048MiB"] {
            assert_eq!(Size::parse(text).expect("a size").to_string(), text);
        }
    }

    #[test]
    fn durations_print_in_the_largest_whole_unit() {
        for text in ["250us", "5ms", "2s", "1500ms"] {
            assert_eq!(Span::parse(text).expect("a duration").to_string(), text);
        }
    }
}

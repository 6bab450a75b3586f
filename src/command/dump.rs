//! `hotpair dump` and `hotpair get`: the objects of a region, copied without taking part.

use hotpair_shm::{ObjectImage, QueueId, Region};
use serde_json::{Value, json};

use super::{hex, observe, readable};
use crate::cli::RegionChoice;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// Prints all objects, or those of one queue.
pub(crate) fn run(choice: &RegionChoice, queue: Option<&str>, as_json: bool) -> Outcome {
    let region = observe(choice)?;
    let queue = queue.map(|name| find_queue(&region, name)).transpose()?;
    for object in region.objects() {
        if queue.is_none_or(|queue| queue == object.queue) {
            print(&region, &object, as_json)?;
        }
    }
    Ok(Exit::Ok)
}

/// Prints the object with this key.
pub(crate) fn get(choice: &RegionChoice, queue: &str, key: &str, as_json: bool) -> Outcome {
    let region = observe(choice)?;
    let found = region.find(find_queue(&region, queue)?, &key_bytes(key));
    let Some(object) = found else {
        return Err(Failure::new(format!("cannot get {key}"))
            .because(format!("queue {queue} of region {} has no such object", region.name())));
    };
    print(&region, &object, as_json)?;
    Ok(Exit::Ok)
}

pub(super) fn find_queue(region: &Region, name: &str) -> Result<QueueId, Failure> {
    region.queue(name).ok_or_else(|| {
        let queues = &region.geometry().queues;
        let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
        Failure::new(format!("cannot look at queue {name}")).because(format!(
            "region {} has no such queue; it has: {}",
            region.name(),
            names.join(", ")
        ))
    })
}

/// `0x00ff` is bytes, everything else is text.
pub(super) fn key_bytes(key: &str) -> Vec<u8> {
    let digits = key.strip_prefix("0x").filter(|digits| digits.len().is_multiple_of(2));
    let bytes = digits.and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<Vec<u8>>>()
    });
    bytes.unwrap_or_else(|| key.as_bytes().to_vec())
}

fn print(region: &Region, object: &ObjectImage, as_json: bool) -> Result<(), Failure> {
    let queues = &region.geometry().queues;
    let queue =
        queues.get(usize::from(object.queue.index())).map_or("?", |queue| queue.name.as_str());
    if as_json {
        return print_json(&as_value(queue, object));
    }
    print_data(&format!(
        "{queue} {} {}, {} attempts, {} waiting, changed at {}: {}\n",
        if object.key.is_empty() { "-".to_owned() } else { readable(&object.key) },
        object.state,
        object.attempts,
        object.waiting,
        object.seq,
        readable(&object.value)
    ))
}

pub(super) fn as_value(queue: &str, object: &ObjectImage) -> Value {
    json!({
        "v": 1,
        "queue": queue,
        "key": readable(&object.key),
        "key_hex": hex(&object.key),
        // A value that is JSON text is shown as what it says, any other text as text.
        "value": text_of(&object.value),
        "value_hex": hex(&object.value),
        "state": object.state.to_string(),
        "attempts": object.attempts,
        "waiting": object.waiting,
        "priority": object.priority,
        "letter": object.letter,
        "slot": object.slot,
        "incarnation": object.incarnation,
        "seq": object.seq.to_string(),
        "timer": object.deadline.is_some(),
    })
}

pub(super) fn text_of(value: &[u8]) -> Value {
    let Ok(text) = std::str::from_utf8(value) else { return Value::Null };
    if text.is_empty()
        || text.chars().any(|letter| letter.is_control() && !"\t\r\n".contains(letter))
    {
        return Value::Null;
    }
    if text.starts_with(['{', '['])
        && let Ok(json) = serde_json::from_str(text)
    {
        return json;
    }
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_or_hexadecimal() {
        assert_eq!(key_bytes("call-1"), b"call-1");
        assert_eq!(key_bytes("0x00ff"), [0, 255]);
        assert_eq!(key_bytes("0x0"), b"0x0");
        assert_eq!(key_bytes("0xzz"), b"0xzz");
    }

    #[test]
    fn values_show_what_they_are() {
        assert_eq!(text_of(b"{\"a\":1}"), json!({"a": 1}));
        assert_eq!(text_of(b"plain"), json!("plain"));
        assert_eq!(text_of(&[0, 1]), Value::Null);
        assert_eq!(text_of(b"{not json"), json!("{not json"));
    }
}

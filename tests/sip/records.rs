//! The records of ended calls: one for each call, and each tells of a whole one.

use std::collections::HashSet;

use serde_json::Value;

/// Every call has one record, which says that it rang for a second, talked for so long, was hung up by its caller, and
/// carried out so many requests.
pub(crate) fn check(records: &[Value], calls: u32, requests: u32, talk_ms: u64) {
    let mut seen = HashSet::new();
    for record in records {
        check_one(record, requests, talk_ms);
        assert!(seen.insert(record["key"].to_string()), "twice: {record}");
    }
    assert_eq!(records.len(), calls as usize, "one record for each call");
}

fn check_one(object: &Value, requests: u32, talk_ms: u64) {
    let record = &object["value"];
    assert_eq!(record["call_id"], object["key"], "{object}");
    assert_eq!(record["reason"], "bye", "{object}");
    assert_eq!(record["requests"], requests, "{object}");
    let at = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("no {name}: {object}"));
    let (start, answered, end) = (at("start_ms"), at("answered_ms"), at("end_ms"));
    assert!(answered >= start + 900 && end >= answered + talk_ms, "{object}");
}

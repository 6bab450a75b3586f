//! What must hold in every run, whatever was done to it: found in the events of both nodes and in what was seen at the switches.

use std::collections::{BTreeMap, BTreeSet};

use super::capture::{Seen, Sent};
use super::host::Told;
use crate::config::Member;

/// A successor that comes sooner than this leaves no time for an announcement.
const ANNOUNCED_WITHIN_NS: u64 = 100_000_000;

/// No epoch has two primaries.
pub(super) fn epochs(told: &[Told]) -> Vec<String> {
    let mut primaries: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for told in told.iter().filter(|told| told.name == "primary") {
        let epoch = told.event["epoch"].as_u64().unwrap_or(0);
        primaries.entry(epoch).or_default().insert(told.member.letter());
    }
    let double = primaries.iter().filter(|(_, nodes)| nodes.len() > 1);
    double.map(|(epoch, nodes)| format!("epoch {epoch} has two primaries: {nodes:?}")).collect()
}

/// The pair compares the states of both nodes as it goes; they never differ.
pub(super) fn digests(told: &[Told]) -> Vec<String> {
    let differ = told.iter().filter(|told| told.name == "digest_differs");
    differ.map(|told| format!("the states differed: {}", told.event)).collect()
}

/// When each epoch began, as the first that speaks of it knows, and whose it is.
fn begins(told: &[Told]) -> Vec<(u64, Member)> {
    let mut epochs: BTreeMap<u64, (u64, Member)> = BTreeMap::new();
    for told in told {
        let whose = match told.name.as_str() {
            "primary" => Some(told.member),
            "view" | "fenced" | "handed_over" => match told.event["primary"].as_str() {
                Some("a") => Some(Member::A),
                Some("b") => Some(Member::B),
                _ => None,
            },
            _ => None,
        };
        let (Some(whose), Some(epoch)) = (whose, told.event["epoch"].as_u64()) else { continue };
        let first = epochs.entry(epoch).or_insert((told.t_ns, whose));
        first.0 = first.0.min(told.t_ns);
    }
    epochs.into_values().collect()
}

/// Once an epoch has begun on one node, the other's host says nothing of its own: a port that stood still with a packet in its
/// hands may send it when it goes on, and what it says then is what the new primary says too, since nobody told it that the
/// packet was sent. Anything else would be of the epoch that is over.
pub(super) fn fenced(told: &[Told], seen: &Seen) -> Vec<String> {
    if seen.cut {
        return vec!["there were more answers than can be noted".to_owned()];
    }
    let mut late: BTreeMap<(&str, u64), (u64, u64)> = BTreeMap::new();
    let begins = begins(told);
    for sent in late_answers(&begins, seen).filter(|late| !is_said_by(late.now, late.sent, seen)) {
        let entry = late.entry((sent.now.other().letter(), sent.begin_ns)).or_default();
        entry.0 += 1;
        entry.1 = entry.1.max(sent.sent.t_ns - sent.begin_ns);
    }
    late.into_iter()
        .map(|((host, _), (count, last_ns))| {
            format!(
                "host {host} sent {count} answers of its own after its epoch had ended, the last {} us later",
                last_ns / 1_000
            )
        })
        .collect()
}

/// Answers from a host that is primary no more, whatever they say.
pub(super) fn late_count(told: &[Told], seen: &Seen) -> usize {
    late_answers(&begins(told), seen).count()
}

struct Late<'s> {
    sent: &'s Sent,
    /// Who is primary now, and since when.
    now: Member,
    begin_ns: u64,
}

fn late_answers<'s>(begins: &'s [(u64, Member)], seen: &'s Seen) -> impl Iterator<Item = Late<'s>> {
    seen.answers.iter().filter_map(|sent| {
        let (begin_ns, now) = *begins.iter().rfind(|(begin_ns, _)| *begin_ns <= sent.t_ns)?;
        (now != sent.host).then_some(Late { sent, now, begin_ns })
    })
}

fn is_said_by(host: Member, sent: &Sent, seen: &Seen) -> bool {
    seen.answers.iter().any(|other| other.host == host && other.said == sent.said)
}

/// Who becomes primary under load tells the network where the address is.
pub(super) fn announced(told: &[Told], seen: &Seen, load_ns: u64) -> Vec<String> {
    let primaries: Vec<&Told> = told.iter().filter(|told| told.name == "primary").collect();
    let mut wrong = Vec::new();
    for (index, told) in primaries.iter().enumerate().filter(|(_, told)| told.t_ns >= load_ns) {
        let next_ns = primaries.get(index + 1).map_or(u64::MAX, |next| next.t_ns);
        let own = |(at_ns, host): &&(u64, Member)| {
            *host == told.member && (told.t_ns..next_ns).contains(at_ns)
        };
        let brief = next_ns - told.t_ns < ANNOUNCED_WITHIN_NS;
        if !brief && seen.announcements.iter().find(own).is_none() {
            wrong.push(format!(
                "host {} became primary in epoch {} and did not announce the address",
                told.member.letter(),
                told.event["epoch"]
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MS: u64 = 1_000_000;

    fn told(member: Member, t_ms: u64, name: &str, event: Value) -> Told {
        Told { member, t_ns: t_ms * MS, name: name.to_owned(), event }
    }

    fn primary(member: Member, t_ms: u64, epoch: u64) -> Told {
        told(member, t_ms, "primary", json!({ "epoch": epoch }))
    }

    /// Each answer says something else.
    fn seen(answers: &[(u64, Member)], announcements: &[(u64, Member)]) -> Seen {
        let sent = |(said, (ms, host)): (usize, &(u64, Member))| Sent {
            t_ns: ms * MS,
            host: *host,
            said: said as u64,
        };
        let at = |list: &[(u64, Member)]| list.iter().map(|(ms, host)| (ms * MS, *host)).collect();
        Seen {
            answers: answers.iter().enumerate().map(sent).collect(),
            announcements: at(announcements),
            cut: false,
        }
    }

    #[test]
    fn two_primaries_of_an_epoch_are_found() {
        let one_each = [primary(Member::A, 1, 1), primary(Member::B, 2, 2)];
        assert!(epochs(&one_each).is_empty());
        let again = [primary(Member::A, 1, 1), primary(Member::A, 2, 1)];
        assert!(epochs(&again).is_empty(), "the same node");
        let two = [primary(Member::A, 1, 5), primary(Member::B, 2, 5)];
        assert_eq!(epochs(&two), ["epoch 5 has two primaries: {\"a\", \"b\"}"]);
    }

    #[test]
    fn states_that_differed_are_found() {
        let differs = told(Member::A, 1, "digest_differs", json!({"seq": "1:2"}));
        assert_eq!(digests(&[differs]).len(), 1);
        assert!(digests(&[primary(Member::A, 1, 1)]).is_empty());
    }

    #[test]
    fn answers_of_an_epoch_that_is_over_are_found() {
        let view = |t_ms| told(Member::B, t_ms, "view", json!({"epoch": 2, "primary": "b"}));
        let told = [primary(Member::A, 10, 1), view(100), primary(Member::B, 102, 2)];
        #[rustfmt::skip]
        let cases = [
            ("each in its own time",   vec![(20, Member::A), (99, Member::A), (103, Member::B)],  0),
            ("between view and role",  vec![(101, Member::A)],                                    1),
            ("long after",             vec![(5_000, Member::A), (5_001, Member::A)],              1),
            ("before its time",        vec![(50, Member::B)],                                     1),
            ("before everything",      vec![(5, Member::B)],                                      0),
        ];
        for (why, answers, expected) in cases {
            let found = fenced(&told, &seen(&answers, &[]));
            assert_eq!(found.len(), expected, "{why}: {found:?}");
        }
        let found = fenced(&told, &seen(&[(150, Member::A), (160, Member::A)], &[]));
        assert_eq!(
            found,
            ["host a sent 2 answers of its own after its epoch had ended, the last 60000 us later"]
        );
        let mut both = seen(&[(150, Member::A), (120, Member::B)], &[]);
        both.answers[0].said = both.answers[1].said;
        assert!(fenced(&told, &both).is_empty(), "the new primary says it too");
        assert_eq!(late_count(&told, &both), 1);
        let cut = Seen { cut: true, ..Seen::default() };
        assert_eq!(fenced(&told, &cut).len(), 1, "what is not known is not held for good");
    }

    #[test]
    fn a_primary_that_announces_nothing_is_found() {
        let told = [primary(Member::A, 10, 1), primary(Member::B, 500, 2)];
        #[rustfmt::skip]
        let cases = [
            ("announced",            vec![(501, Member::B)],   100, 0),
            ("by the wrong host",    vec![(501, Member::A)],   100, 1),
            ("before it was",        vec![(499, Member::B)],   100, 1),
            ("both under load",      vec![(501, Member::B)],     5, 1),
            ("neither under load",   vec![],                   900, 0),
        ];
        for (why, announcements, load_ms, expected) in cases {
            let found = announced(&told, &seen(&[], &announcements), load_ms * MS);
            assert_eq!(found.len(), expected, "{why}: {found:?}");
        }
        let brief = [primary(Member::B, 500, 2), primary(Member::A, 550, 3)];
        let own = seen(&[], &[(551, Member::A)]);
        assert!(announced(&brief, &own, 0).is_empty(), "no time to");
    }
}

//! Whole calls against the logic alone, told as what the caller sends and what it gets.

use zerocopy::{FromBytes, IntoBytes};

use super::*;

mod mutations;

const CALL_ID: &str = "c1@10.0.0.1";
const RING: Duration = Duration::from_secs(1);

/// A call and a clock. Between two claims the value is only bytes, as it is in the region.
pub(super) struct Bench {
    value: Vec<u8>,
    settings: Settings,
    effects: Effects,
    wall_ms: u64,
    random: u64,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench {
            value: Call::empty().as_bytes().to_vec(),
            settings: Settings::default(),
            effects: Effects::default(),
            wall_ms: 1_000_000,
            random: 0xabcd,
        }
    }

    pub(super) fn turn(&mut self, packets: &[&[u8]], timer_due: bool) -> usize {
        let mut call = Call::read_from_bytes(&self.value).expect("the value keeps its length");
        self.effects.clear();
        // Drawn anew for each claim: a tag that stays the same can only come from the value.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut turn = Turn {
            call: &mut call,
            call_id: CALL_ID.as_bytes(),
            moment: Moment { wall_ms: self.wall_ms, random: self.random },
            settings: &self.settings,
            effects: &mut self.effects,
        };
        let source = "10.0.0.1:5066".parse().expect("it is an address");
        let read = |packet: &&&[u8]| {
            turn.on_packet(packet, source).expect("the value is a call's").is_err()
        };
        let malformed = packets.iter().filter(read).count();
        turn.finish(timer_due).expect("the value is a call's");
        self.value = call.as_bytes().to_vec();
        malformed
    }

    /// Sends one request and returns the first lines of the answers.
    fn send(&mut self, packet: &str) -> Vec<String> {
        assert_eq!(self.turn(&[packet.as_bytes()], false), 0, "malformed: {packet}");
        self.answers()
    }

    fn fire(&mut self) -> Vec<String> {
        self.turn(&[], true);
        self.answers()
    }

    fn answers(&self) -> Vec<String> {
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        self.texts().into_iter().map(first).collect()
    }

    fn texts(&self) -> Vec<String> {
        let packets = self.effects.packets();
        packets.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The header of the only answer.
    fn header(&self, name: &str) -> String {
        let texts = self.texts();
        assert_eq!(texts.len(), 1, "{texts:?}");
        let start = format!("{name}: ");
        let line = texts[0].lines().find(|line| line.starts_with(&start));
        line.expect(name)[start.len()..].to_owned()
    }

    fn call(&self) -> Call {
        Call::read_from_bytes(&self.value).expect("the value keeps its length")
    }

    fn record(&self) -> Option<Record> {
        let bytes = self.effects.record.as_ref()?;
        Some(serde_json::from_slice(bytes).expect("a record is JSON"))
    }

    /// Brings a call to where the caller has acknowledged the answer.
    fn established() -> Bench {
        let mut bench = Bench::new();
        assert_eq!(bench.send(&invite(1, "b1", None)), ["SIP/2.0 180 Ringing"]);
        bench.wall_ms += 1_000;
        assert_eq!(bench.fire(), ["SIP/2.0 200 OK"]);
        let tag = bench.tag();
        assert!(bench.send(&request("ACK", 1, "b2", Some(&tag))).is_empty());
        assert_eq!(bench.call().phase(), Some(Phase::Established));
        bench
    }

    fn tag(&self) -> String {
        self.call().local_tag()
    }
}

pub(super) fn request(method: &str, cseq: u32, branch: &str, tag: Option<&str>) -> String {
    let tag = tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
    format!(
        "{method} sip:bob@10.0.0.9 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{branch}\r\n\
         From: <sip:alice@example.com>;tag=a1\r\nTo: <sip:bob@example.com>{tag}\r\n\
         Call-ID: {CALL_ID}\r\nCSeq: {cseq} {method}\r\nContact: <sip:alice@10.0.0.1:5066>\r\n\
         Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\nContent-Length: 0\r\n\r\n"
    )
}

pub(super) fn invite(cseq: u32, branch: &str, tag: Option<&str>) -> String {
    request("INVITE", cseq, branch, tag)
}

/// Goal: the plain call, with one record of it, and the object gone after it has lingered.
#[test]
fn a_call_is_answered_counted_and_recorded_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(&invite(1, "b1", None)), ["SIP/2.0 180 Ringing"]);
    assert_eq!(bench.effects.timer, TimerChange::Set(RING));
    let early = bench.header("To");
    bench.wall_ms += 1_000;
    assert_eq!(bench.fire(), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.header("To"), early, "one tag for the whole dialog");
    assert_eq!(bench.header("CSeq"), "1 INVITE");
    assert!(
        bench.texts()[0].contains("Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\n")
    );
    assert!(bench.texts()[0].contains(" 1 IN IP4"), "first version of the description");
    let tag = bench.tag();
    assert!(bench.send(&request("ACK", 1, "b2", Some(&tag))).is_empty());

    assert_eq!(bench.send(&invite(2, "b3", Some(&tag))), ["SIP/2.0 200 OK"]);
    assert!(bench.texts()[0].contains(" 2 IN IP4"), "the version counts up");
    assert_eq!(bench.header("CSeq"), "2 INVITE");
    assert!(bench.send(&request("ACK", 2, "b4", Some(&tag))).is_empty());

    assert_eq!(bench.send(&request("OPTIONS", 3, "b5", Some(&tag))), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.header("Hotpair-Requests"), "2");
    bench.wall_ms += 4_000;
    assert_eq!(bench.send(&request("BYE", 4, "b6", Some(&tag))), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.header("Hotpair-Requests"), "3");
    let record = bench.record().expect("the BYE ends the call");
    assert_eq!((record.call_id.as_str(), record.reason.as_str()), (CALL_ID, "bye"));
    assert_eq!(
        (record.from.as_str(), record.to.as_str()),
        ("sip:alice@example.com", "sip:bob@example.com")
    );
    assert_eq!(
        (record.start_ms, record.answered_ms, record.end_ms),
        (1_000_000, Some(1_001_000), 1_005_000)
    );
    assert_eq!(record.requests, 3);

    // Its 200 was lost: the same answer, and no second record.
    assert_eq!(bench.send(&request("BYE", 4, "b6", Some(&tag))), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.header("Hotpair-Requests"), "3");
    assert!(bench.record().is_none());
    assert!(!bench.effects.withdraw);
    assert!(bench.fire().is_empty());
    assert!(bench.effects.withdraw);
}

/// Goal: what is repeated is answered as before, and what is not known is refused; each answer
/// depends on the state, so that a server that lost it is found out.
#[test]
fn retransmissions_repeat_the_answer_and_strangers_get_481() {
    let mut bench = Bench::new();
    let first = invite(1, "b1", None);
    bench.send(&first);
    let ringing = bench.texts();
    assert_eq!(bench.send(&first), ["SIP/2.0 180 Ringing"]);
    assert_eq!(bench.texts(), ringing);
    assert_eq!(bench.effects.timer, TimerChange::Keep, "a repeated INVITE does not ring longer");
    assert_eq!(bench.send(&invite(1, "other", None)), ["SIP/2.0 482 Loop Detected"]);
    bench.fire();
    let answered = bench.texts();
    assert_eq!(bench.send(&first), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.texts(), answered);
    let tag = bench.tag();
    bench.send(&request("ACK", 1, "b2", Some(&tag)));
    assert!(bench.send(&first).is_empty(), "acknowledged");

    let unknown = "SIP/2.0 481 Call/Transaction Does Not Exist";
    #[rustfmt::skip]
    let cases = [
        ("another tag of ours",   request("BYE", 2, "b3", Some("ffff")),           unknown),
        ("no tag of ours",        request("BYE", 2, "b3", None),                   unknown),
        ("a caller's other tag",  request("BYE", 2, "b3", Some(&tag)).replace("tag=a1", "tag=a2"), unknown),
        ("a CANCEL of nothing",   request("CANCEL", 2, "b3", None),                unknown),
        ("an old number",         request("OPTIONS", 1, "b3", Some(&tag)),         "SIP/2.0 500 Server Internal Error"),
        ("an unknown method",     request("INFO", 2, "b3", Some(&tag)),            "SIP/2.0 405 Method Not Allowed"),
        ("outside of the dialog", request("OPTIONS", 9, "b3", None),               "SIP/2.0 200 OK"),
    ];
    for (why, packet, answer) in cases {
        assert_eq!(bench.send(&packet), [answer], "{why}");
        assert!(bench.record().is_none() && !bench.effects.withdraw, "{why}");
    }
    assert_eq!(bench.send(&request("BYE", 3, "b9", Some(&tag))), ["SIP/2.0 200 OK"]);
}

/// Goal: with the state lost, nothing of the messages themselves carries a call on.
#[test]
fn a_server_without_the_state_refuses_the_call() {
    let before = Bench::established();
    let tag = before.tag();
    for method in ["BYE", "INVITE", "OPTIONS", "CANCEL", "INFO"] {
        let mut after = Bench::new();
        let answers = after.send(&request(method, 2, "b3", Some(&tag)));
        assert_eq!(answers, ["SIP/2.0 481 Call/Transaction Does Not Exist"], "{method}");
        assert!(after.effects.withdraw, "{method}: nothing stays of it");
        let once = after.texts();
        after.send(&request(method, 2, "b3", Some(&tag)));
        assert_eq!(after.texts(), once, "{method}: a repeated request gets the same");
    }
    let mut after = Bench::new();
    assert!(after.send(&request("ACK", 1, "b2", Some(&tag))).is_empty(), "no answer to an ACK");
    assert!(after.effects.withdraw);
}

#[test]
fn a_cancelled_call_is_refused_until_acknowledged() {
    let mut bench = Bench::new();
    bench.send(&invite(1, "b1", None));
    let tag = bench.tag();
    let cancel = request("CANCEL", 1, "b1", None);
    assert_eq!(bench.send(&cancel), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert!(bench.texts().iter().all(|text| text.contains(&tag)));
    let record = bench.record().expect("the CANCEL ends the call");
    assert_eq!((record.reason.as_str(), record.answered_ms), ("cancelled", None));

    assert_eq!(bench.send(&cancel), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.send(&invite(1, "b1", None)), ["SIP/2.0 487 Request Terminated"]);
    assert_eq!(bench.fire(), ["SIP/2.0 487 Request Terminated"]);
    assert!(bench.record().is_none(), "one record");
    bench.send(&request("ACK", 1, "b1", Some(&tag)));
    assert_eq!(bench.call().phase(), Some(Phase::Over));
    assert!(bench.fire().is_empty() && bench.effects.withdraw);
}

#[test]
fn a_bye_while_it_rings_ends_both_transactions() {
    let mut bench = Bench::new();
    bench.send(&invite(1, "b1", None));
    let bye = request("BYE", 2, "b2", Some(&bench.tag()));
    assert_eq!(bench.send(&bye), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert_eq!(bench.record().map(|record| record.reason), Some("bye".to_owned()));
    assert_eq!(bench.send(&bye), ["SIP/2.0 200 OK"]);
}

/// Goal: 200 is repeated at T1, doubling to T2, for 64*T1; then we hang up, which is repeated too.
#[test]
fn an_answer_nobody_acknowledges_is_repeated_and_then_taken_back() {
    let mut bench = Bench::new();
    bench.send(&invite(1, "b1", None));
    let mut waits = Vec::new();
    while bench.fire() == ["SIP/2.0 200 OK"] {
        let TimerChange::Set(wait) = bench.effects.timer else { panic!("it would never go on") };
        waits.push(wait.as_millis());
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 500]);
    assert_eq!(waits.iter().sum::<u128>(), 32_000);
    assert_eq!(bench.record().map(|record| record.reason), Some("no-ack".to_owned()));
    assert_eq!(bench.answers(), ["BYE sip:alice@10.0.0.1:5066 SIP/2.0"]);
    let bye = bench.texts().remove(0);
    SipMessage::parse(bye.as_bytes()).expect("our own request is well formed");
    assert!(bye.contains("Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\n"), "{bye}");
    assert!(bye.contains(&format!("From: <sip:bob@example.com>;tag={}\r\n", bench.tag())), "{bye}");
    assert!(bye.contains("To: <sip:alice@example.com>;tag=a1\r\n"), "{bye}");

    bench.fire();
    assert_eq!(bench.texts(), std::slice::from_ref(&bye), "repeated as it was");
    let via = bye.lines().find(|line| line.starts_with("Via")).expect("it has one");
    let ok = format!(
        "SIP/2.0 200 OK\r\n{via}\r\nFrom: <sip:bob@example.com>\r\nTo: <sip:alice@example.com>\r\n\
         Call-ID: {CALL_ID}\r\nCSeq: 1 BYE\r\n\r\n"
    );
    bench.send(&ok.replace("z9hG4bK", "z9hG4bKother"));
    assert_eq!(bench.call().phase(), Some(Phase::HangingUp), "not our branch");
    bench.send(&ok);
    assert_eq!(bench.call().phase(), Some(Phase::Over));
    assert!(bench.record().is_none(), "one record");
}

#[test]
fn a_caller_that_is_never_heard_again_is_hung_up() {
    let mut bench = Bench::established();
    bench.fire();
    assert_eq!(bench.record().map(|record| record.reason), Some("idle".to_owned()));
    let fired = std::iter::from_fn(|| {
        bench.fire();
        (!bench.effects.withdraw).then_some(())
    });
    assert_eq!(fired.count(), 10, "as often as the 200, then the object is withdrawn");
}

/// Goal: an expired timer that a message of the same claim has overtaken does nothing.
#[test]
fn a_message_overtakes_the_timer_of_its_claim() {
    let mut bench = Bench::new();
    bench.send(&invite(1, "b1", None));
    bench.fire();
    let ack = request("ACK", 1, "b2", Some(&bench.tag()));
    bench.turn(&[ack.as_bytes()], true);
    assert!(bench.answers().is_empty());
    assert_eq!(bench.effects.timer, TimerChange::Set(bench.settings.idle_limit));

    let mut bench = Bench::new();
    bench.send(&invite(1, "b1", None));
    bench.turn(&[invite(1, "b1", None).as_bytes()], true);
    assert_eq!(bench.answers(), ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
}

#[test]
fn a_call_that_cannot_be_kept_is_refused_without_a_trace() {
    #[rustfmt::skip]
    let cases = [
        ("no contact",      invite(1, "b", None).replace("Contact", "Kontakt"),           "SIP/2.0 400 Bad Request"),
        ("no tag",          invite(1, "b", None).replace(";tag=a1", ""),                  "SIP/2.0 400 Bad Request"),
        ("a telephone",     invite(1, "b", None).replacen("sip:bob@10.0.0.9", "tel:+49", 1), "SIP/2.0 416 Unsupported URI Scheme"),
        ("an extension",    invite(1, "b", None).replace("\r\n\r\n", "\r\nRequire: 100rel\r\n\r\n"), "SIP/2.0 420 Bad Extension"),
        ("too long a Via",  invite(1, &"b".repeat(600), None),                            "SIP/2.0 513 Message Too Large"),
        ("another method",  request("REGISTER", 1, "b", None),                            "SIP/2.0 405 Method Not Allowed"),
    ];
    for (why, packet, answer) in cases {
        let mut bench = Bench::new();
        assert_eq!(bench.send(&packet), [answer], "{why}");
        assert!(bench.effects.withdraw && bench.effects.record.is_none(), "{why}");
    }
}

/// Goal: a value that is not a call's is an error, and neither a panic nor a new call.
#[test]
fn a_damaged_value_is_reported() {
    let mut call = Call::empty();
    call.as_mut_bytes()[0] = 99;
    let (settings, mut effects) = (Settings::default(), Effects::default());
    let mut turn = Turn {
        call: &mut call,
        call_id: CALL_ID.as_bytes(),
        moment: Moment { wall_ms: 0, random: 0 },
        settings: &settings,
        effects: &mut effects,
    };
    let source = "10.0.0.1:5066".parse().expect("it is an address");
    assert!(turn.on_packet(invite(1, "b", None).as_bytes(), source).is_err());
    assert!(turn.finish(true).is_err());
}

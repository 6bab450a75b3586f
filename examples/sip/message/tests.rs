use super::*;
use crate::classify;

pub(crate) const INVITE: &str = "INVITE sip:bob@10.0.0.9:5060 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK776asdhds, SIP/2.0/UDP far.example.com\r\n\
    v: SIP/2.0/UDP third.example.com\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice, \\\"A\\\" <x>\" <sip:alice@example.com;tag=no>;tag=1928301774\r\n\
    t: Bob <sip:bob@example.com>\r\n\
    CALL-ID : a84b4c76e66710@pc33\r\n\
    CSeq: 314159\r\n\x20  INVITE\r\n\
    m: <sip:alice@10.0.0.1:5066>\r\n\
    Content-Length: 4\r\n\r\nv=0\nignored";

/// Goal: values stay as they were written, wherever the packet has them.
#[test]
fn a_request_is_read_in_place() {
    let message = SipMessage::parse(INVITE.as_bytes()).expect("it is well formed");
    assert!(matches!(message.start, StartLine::Request { method: Method::Invite, .. }));
    assert_eq!(message.call_id, b"a84b4c76e66710@pc33");
    assert_eq!(message.caller_tag(), Some(b"1928301774" as &[u8]));
    assert_eq!(message.callee_tag(), None);
    assert_eq!((message.cseq.number, message.cseq.method), (314_159, b"INVITE" as &[u8]));
    assert_eq!(message.vias().count(), 2);
    assert_eq!(classify::call_id(INVITE.as_bytes()), Ok(message.call_id));
}

/// Goal: each way to be malformed is named, and none is taken for a message.
#[test]
fn malformed_messages_are_refused() {
    let well = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z\r\nFrom: <sip:a>;tag=1\r\n\
                To: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
    SipMessage::parse(well.as_bytes()).expect("the base of the cases is well formed");
    let missing = |name| Malformed::Missing { name };

    #[rustfmt::skip]
    let cases = [
        // what is replaced           by                               what is wrong
        ("OPTIONS sip:x SIP/2.0",    "OPTIONS sip:x SIP/3.0",         Malformed::StartLine),
        ("OPTIONS sip:x SIP/2.0",    "SIP/2.0 99 Low",                Malformed::StartLine),
        ("OPTIONS sip:x SIP/2.0",    "",                              Malformed::StartLine),
        ("OPTIONS sip:x SIP/2.0",    "OPT\0ONS sip:x SIP/2.0",        Malformed::StartLine),
        ("Call-ID: c\r\n",           "",                              missing("Call-ID")),
        ("Via: ",                    "Vie: ",                         missing("Via")),
        ("To: <sip:b>\r\n",          "",                              missing("To")),
        ("To: <sip:b>\r\n",          "To: <sip:b>\r\nt: <sip:b>\r\n", Malformed::Doubled { name: "To" }),
        ("Call-ID: c",               "Call-ID: c d",                  Malformed::Value { name: "Call-ID" }),
        ("CSeq: 1 ",                 "CSeq: 2147483648 ",             Malformed::Value { name: "CSeq" }),
        ("CSeq: 1 ",                 "CSeq: one ",                    Malformed::Value { name: "CSeq" }),
        ("CSeq: 1 OPTIONS",          "CSeq: 1 BYE",                   Malformed::OtherMethod),
        ("SIP/2.0/UDP h",            "SIP/2.0/UDP",                   Malformed::Value { name: "Via" }),
        ("SIP/2.0/UDP h",            "SIP/2.0/UDP h:70000",           Malformed::Value { name: "Via" }),
        ("To: <sip:b>",              "To: <sip:b>\rX: y",             Malformed::Control { line: 3 }),
        ("To: <sip:b>",              "To <sip;b>",                    Malformed::HeaderLine { line: 3 }),
        ("\r\n\r\n",                 "\r\n",                          Malformed::Unfinished),
        ("\r\n\r\n",                 "\r\nl: 5\r\n\r\nfour",
                                                          Malformed::Body { claimed: 5, actual: 4 }),
        ("\r\n\r\n",                 "\r\nl: -1\r\n\r\n",
                                                          Malformed::Value { name: "Content-Length" }),
    ];

    for (what, by, wrong) in cases {
        let packet = well.replacen(what, by, 1);
        assert_eq!(SipMessage::parse(packet.as_bytes()).err(), Some(wrong), "{packet:?}");
    }
}

/// Goal: the port refuses what has no usable key, and reads no further than the Call-ID.
#[test]
fn the_classifier_wants_a_call_id_of_bounded_length() {
    let packet = |call_id: &str| format!("BYE sip:x SIP/2.0\nCall-ID: {call_id}\nno colon\n");
    assert_eq!(classify::call_id(packet("abc").as_bytes()), Ok(b"abc" as &[u8]));
    assert!(classify::call_id(packet(&"a".repeat(128)).as_bytes()).is_ok());
    let long = packet(&"a".repeat(129));
    let long = classify::call_id(long.as_bytes());
    assert_eq!(long, Err(classify::Unclassified::TooLong { actual: 129 }));
    assert!(classify::call_id(packet("").as_bytes()).is_err());
    assert!(classify::call_id(b"\r\n\r\n").is_err(), "a keep-alive is no message");
    assert!(classify::call_id(b"").is_err());
}

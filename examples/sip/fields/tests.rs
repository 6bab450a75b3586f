use super::*;

/// Goal: parameters are found behind the address, never inside it or inside a quoted name.
#[test]
fn parameters_belong_to_the_header_and_not_to_the_uri() {
    #[rustfmt::skip]
    let cases: [(&str, Option<&str>, &str); 7] = [
        // value                                     tag          uri
        ("<sip:a@b>;tag=1",                          Some("1"),   "sip:a@b"),
        ("<sip:a@b;tag=no>",                         None,        "sip:a@b;tag=no"),
        ("sip:a@b;tag=2",                            Some("2"),   "sip:a@b"),
        ("\"q;tag=no <x>\" <sip:a@b> ; x ; TAG = 3", Some("3"),   "sip:a@b"),
        ("A B <sip:a@b>;x=\";tag=no\";tag=4",        Some("4"),   "sip:a@b"),
        ("<sip:a@b>;tagged=5",                       None,        "sip:a@b"),
        ("<sip:a,b@c>, <sip:d>",                     None,        "sip:a,b@c"),
    ];
    for (value, tag, address) in cases {
        assert_eq!(param(value.as_bytes(), b"tag"), tag.map(str::as_bytes), "{value}");
        assert_eq!(uri(value.as_bytes()), address.as_bytes(), "{value}");
    }
    assert_eq!(host_of(b"sip:bob@10.0.0.9:5060;lr?x=y"), b"10.0.0.9:5060");
    assert_eq!(host_of(b"sip:10.0.0.9"), b"10.0.0.9");
}

/// Goal: answers go where RFC 3261 18.2.2 and RFC 3581 send them, and say what the source was.
#[test]
fn the_top_via_says_where_the_answer_goes() {
    #[rustfmt::skip]
    let cases = [
        // value                                  source           answer to        repeated as
        ("SIP/2.0/UDP 1.2.3.4:9;branch=b",       "1.2.3.4:7",     "1.2.3.4:9",     "SIP/2.0/UDP 1.2.3.4:9;branch=b"),
        ("SIP / 2.0 / UDP 1.2.3.4 : 9 ;branch=b","1.2.3.4:7",     "1.2.3.4:9",     "SIP / 2.0 / UDP 1.2.3.4 : 9 ;branch=b"),
        ("SIP/2.0/UDP 1.2.3.4",                  "1.2.3.5:7",     "1.2.3.5:5060",  "SIP/2.0/UDP 1.2.3.4;received=1.2.3.5"),
        ("SIP/2.0/UDP a.b:9;branch=b, SIP/2.0/UDP c", "1.2.3.5:7", "1.2.3.5:9",
                                                                   "SIP/2.0/UDP a.b:9;branch=b;received=1.2.3.5, SIP/2.0/UDP c"),
        ("SIP/2.0/UDP a:9;rport;branch=b",       "1.2.3.5:7",     "1.2.3.5:7",     "SIP/2.0/UDP a:9;rport=7;branch=b;received=1.2.3.5"),
        ("SIP/2.0/UDP a:9;branch=b;rport=99",    "1.2.3.5:7",     "1.2.3.5:7",     "SIP/2.0/UDP a:9;branch=b;rport=7;received=1.2.3.5"),
        ("SIP/2.0/UDP [::1]:9;branch=b",         "[::1]:7",       "[::1]:9",       "SIP/2.0/UDP [::1]:9;branch=b"),
        ("SIP/2.0/UDP [::1]",                    "[::2]:7",       "[::2]:5060",    "SIP/2.0/UDP [::1];received=::2"),
    ];
    for (value, source, answer_to, repeated) in cases {
        let source: SocketAddr = source.parse().expect("the table has addresses");
        let via = Via::top(value.as_bytes()).expect(value);
        assert_eq!(via.answer_to(source).to_string(), answer_to, "{value}");
        let mut out = Vec::new();
        via.write_received(value.as_bytes(), source, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), repeated);
    }
}

#[test]
fn a_transaction_is_branch_and_sender() {
    let via = |value: &'static str| Via::top(value.as_bytes()).expect(value);
    let first = via("SIP/2.0/UDP 1.2.3.4:9;branch=z9hG4bK1");
    let completed = via("SIP/2.0/UDP 1.2.3.4:9;rport=7;branch=z9hG4bK1;received=1.2.3.4");
    assert!(first.same_transaction(&completed));
    assert_eq!(first.fingerprint(), completed.fingerprint());
    for other in ["SIP/2.0/UDP 1.2.3.4:8;branch=z9hG4bK1", "SIP/2.0/UDP 1.2.3.4:9;branch=z9hG4bK2"]
    {
        assert!(!first.same_transaction(&via(other)), "{other}");
        assert_ne!(first.fingerprint(), via(other).fingerprint(), "{other}");
    }
}

//! The bytes that an etcd holds under the pair's key: whoever may write there may write anything. Built with
//! `--cfg canary` it panics as soon as bytes of its own become a record with a view.

#![no_main]

use hotpair_replica::protocol::{NodeId, Record, Request, Testimony, View};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(view) = bytes.first_chunk::<{ View::BYTES }>()
        && let Ok(view) = View::from_bytes(view)
    {
        assert_eq!(View::from_bytes(&view.to_bytes()).as_ref(), Ok(&view));
    }
    let Some(mut record) = Record::from_bytes(bytes) else { return };
    assert_eq!(Record::from_bytes(&record.to_bytes()).as_ref(), Some(&record));
    #[cfg(canary)]
    assert!(record.view().is_none(), "canary");
    for node in [NodeId(1), NodeId(2)] {
        for testimony in [Testimony::Nothing, Testimony::Something(7)] {
            let _ = record.judge(node, testimony, &Request::Read);
            assert_eq!(Record::from_bytes(&record.to_bytes()).as_ref(), Some(&record));
        }
    }
});

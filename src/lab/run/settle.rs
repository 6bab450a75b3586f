//! Waiting until a pair is whole, and what it is when it is not.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Lab;
use crate::config::Member;
use crate::report::Failure;

/// Equal digests need a moment without commits.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between rounds the load goes on, and a look costs two processes.
const ROUND_LOOK_EVERY: Duration = Duration::from_millis(40);

impl Lab<'_> {
    /// Waits until one node is primary, the other its back-up in step, and their states are the same.
    pub(super) fn settle(&mut self, last_step: Instant) -> Result<(), Failure> {
        self.wait_whole(last_step, LOOK_EVERY, true)
    }

    /// The same under load, where two looks never see the same state: the pair itself compares its digests then, and says so
    /// where they differ.
    pub(super) fn come_together(&mut self, last_step: Instant) -> Result<(), Failure> {
        let until = last_step + self.scenario.expect.whole_within.0;
        let from_ns = self.findings.fault_ns.unwrap_or(self.findings.load_ns);
        let scenario = self.scenario;
        let all_told = |lab: &Lab<'_>| {
            scenario.expect.events.iter().all(|wanted| lab.has_told(wanted, from_ns))
        };
        self.pump_until(until, all_told)?;
        self.wait_whole(last_step, ROUND_LOOK_EVERY, false)
    }

    fn wait_whole(
        &mut self,
        last_step: Instant,
        every: Duration,
        digests: bool,
    ) -> Result<(), Failure> {
        let within = self.scenario.expect.whole_within.0;
        let until = (last_step + within).max(Instant::now() + Duration::from_secs(5));
        loop {
            let looks = [self.look(Member::A)?, self.look(Member::B)?];
            if is_whole(&looks, digests) {
                // Where none was needed it was never less than whole.
                let after = self.last_admission_ns().unwrap_or(0);
                self.findings.whole_after = Some(Duration::from_nanos(after));
                return Ok(());
            }
            if Instant::now() >= until {
                self.findings.not_whole =
                    Some(format!("a: {}; b: {}", state(&looks[0]), state(&looks[1])));
                return Ok(());
            }
            self.pump_until(Instant::now() + every, |_| false)?;
        }
    }

    /// From the last step to the admission that made the pair whole, where one was needed.
    fn last_admission_ns(&self) -> Option<u64> {
        let step_ns = self.last_step_ns?;
        let admitted = self.told.iter().filter(|told| told.name == "admitted");
        admitted.map(|told| told.t_ns).max()?.checked_sub(step_ns)
    }

    fn look(&self, member: Member) -> Result<Value, Failure> {
        let region = self.region(member);
        let output = self.host(member).place.output(&["status", "--json", "--region", &region])?;
        Ok(serde_json::from_str(&output).unwrap_or_default())
    }
}

/// One primary, protected, and one back-up; and, where asked for, the same state after the same commit.
fn is_whole(looks: &[Value; 2], digests: bool) -> bool {
    let one_each = matches!(
        (looks[0]["role"].as_str(), looks[1]["role"].as_str()),
        (Some("primary"), Some("backup")) | (Some("backup"), Some("primary"))
    );
    let protected = looks.iter().any(|look| look["role"] == "primary" && look["protected"] == true);
    let equal = ["digest", "digest_seq"].iter().all(|field| looks[0][field] == looks[1][field]);
    let known = looks[0]["digest_seq"] != 0 && !looks[0]["digest_seq"].is_null();
    one_each && protected && (!digests || (equal && known))
}

fn state(look: &Value) -> String {
    ["role", "epoch", "protected", "connected", "digest", "digest_seq"]
        .map(|field| look[field].to_string())
        .join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pair_is_whole_with_one_of_each_and_equal_states() {
        let look = |role: &str, protected: bool, digest: u64, seq: u64| json!({"role": role, "protected": protected, "digest": digest, "digest_seq": seq});
        let (primary, backup) = (look("primary", true, 7, 3), look("backup", false, 7, 3));
        #[rustfmt::skip]
        let cases = [
            ("whole",              primary.clone(),                   backup.clone(),                    true,  true ),
            ("the other way",      backup.clone(),                    primary.clone(),                   true,  true ),
            ("unprotected",        look("primary", false, 7, 3),      backup.clone(),                    false, false),
            ("two primaries",      primary.clone(),                   primary.clone(),                   false, false),
            ("nobody",             Value::Null,                       backup.clone(),                    false, false),
            ("digests differ",     primary.clone(),                   look("backup", false, 8, 3),       true,  false),
            ("at other commits",   primary.clone(),                   look("backup", false, 7, 4),       true,  false),
            ("nothing compared",   look("primary", true, 0, 0),       look("backup", false, 0, 0),       true,  false),
        ];
        for (why, a, b, together, same) in cases {
            let looks = [a, b];
            assert_eq!(
                (is_whole(&looks, false), is_whole(&looks, true)),
                (together, same),
                "{why}"
            );
        }
    }
}

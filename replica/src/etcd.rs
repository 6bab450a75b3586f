//! etcd as an arbiter: one key, changed only by a transaction that names the revision that was read.
//!
//! ```text
//!   range(key) ──► record at revision r ──► judge ──► txn: if revision is still r, put(record)
//!        ▲                                             │
//!        └────────────── somebody was faster ◄─────────┘
//! ```
//!
//! The value is a whole [`Record`], so that a key that was deleted, or a cluster that was restored
//! from an older snapshot, is found out as a witness without its disk is. Reads are linearizable, as
//! is etcd's default. No lease: nothing here expires. Spoken is the JSON gateway of the v3 protocol,
//! over plain HTTP: the endpoints belong on a network that only the pair and its etcd can reach.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::arbiter::{Arbiter, AttemptError, Question};
use crate::pki::Cluster;
use crate::protocol::{Answer, NodeId, Record};

/// Where there is another endpoint, one that says nothing for so long is left for it.
const ENDPOINT_PATIENCE: Duration = Duration::from_millis(150);
/// More than any answer about one key of a few hundred bytes.
const REPLY_BYTES_MAX: u64 = 64 << 10;

/// Why etcd did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// It cannot be reached, or not in time.
    #[error("cannot ask {endpoint}")]
    Http {
        /// Who was asked.
        endpoint: String,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// It refused, for instance because it has no leader.
    #[error("{endpoint} answered with status {status}: {reply}")]
    Status {
        /// Who was asked.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        reply: String,
    },
    /// Not an answer of etcd, or not what this pair stored there.
    #[error("{endpoint} answered without {missing}")]
    Reply {
        /// Who was asked.
        endpoint: String,
        /// What was looked for.
        missing: &'static str,
    },
    /// Others changed the key again and again.
    #[error("no attempt came through in time")]
    TimedOut,
}

/// The way to etcd.
#[derive(Debug)]
pub struct Etcd {
    agent: ureq::Agent,
    endpoints: Vec<String>,
    /// The endpoint that is asked next.
    at: usize,
    answers: bool,
    key: String,
    node: NodeId,
}

impl Etcd {
    /// Endpoints such as `http://10.0.0.5:2379`, asked in turn until one answers. At least one.
    pub fn new(endpoints: &[String], cluster: &Cluster, node: NodeId) -> Etcd {
        assert!(!endpoints.is_empty(), "there is somebody to ask");
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        Etcd {
            agent: config.into(),
            endpoints: endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            at: 0,
            answers: false,
            key: Self::key(cluster),
            node,
        }
    }

    /// The one key of a pair.
    pub fn key(cluster: &Cluster) -> String {
        format!("hotpair/{}-{:016x}/view", cluster.name, cluster.id)
    }

    fn judge(&self, question: &Question, deadline: Instant) -> Result<Answer, EtcdError> {
        loop {
            let (before, revision) = self.read(deadline)?;
            let mut record = before.clone();
            let judgement = record.judge(self.node, question.testimony, &question.request);
            if record == before || self.swap(revision, &record, deadline)? {
                return Ok(judgement.answer);
            }
        }
    }

    /// The record and the revision of the key; an empty one at 0 where there is none.
    fn read(&self, deadline: Instant) -> Result<(Record, String), EtcdError> {
        let reply = self.post("range", &json!({ "key": BASE64.encode(&self.key) }), deadline)?;
        let Some(found) = reply["kvs"].get(0) else {
            // An answer without keys is one only if it is etcd's.
            reply["header"]["revision"].as_str().ok_or_else(|| self.without("a revision"))?;
            return Ok((Record::default(), "0".to_owned()));
        };
        let revision = found["mod_revision"].as_str().ok_or_else(|| self.without("a revision"))?;
        let value = found["value"].as_str().and_then(|value| BASE64.decode(value).ok());
        let record = value.and_then(|value| Record::from_bytes(&value));
        let record = record.ok_or_else(|| self.without("a record of this version"))?;
        Ok((record, revision.to_owned()))
    }

    /// Whether the record was stored in place of the one at that revision.
    fn swap(&self, revision: String, record: &Record, until: Instant) -> Result<bool, EtcdError> {
        let key = BASE64.encode(&self.key);
        let transaction = json!({
            "compare": [{
                "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision,
            }],
            "success": [{ "request_put": { "key": key, "value": BASE64.encode(record.to_bytes()) } }],
        });
        let reply = self.post("txn", &transaction, until)?;
        reply["header"]["revision"].as_str().ok_or_else(|| self.without("a revision"))?;
        // The gateway leaves out what is false.
        Ok(reply["succeeded"].as_bool().unwrap_or(false))
    }

    fn post(&self, what: &str, body: &Value, deadline: Instant) -> Result<Value, EtcdError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(EtcdError::TimedOut);
        }
        let patience = if self.endpoints.len() > 1 { left.min(ENDPOINT_PATIENCE) } else { left };
        let failed = |source| {
            let source = Box::new(source);
            EtcdError::Http { endpoint: self.endpoint().to_owned(), source }
        };
        let mut response = self
            .agent
            .post(format!("{}/v3/kv/{what}", self.endpoint()))
            .config()
            .timeout_global(Some(patience))
            .build()
            .header("content-type", "application/json")
            .send(body.to_string())
            .map_err(failed)?;
        let status = response.status().as_u16();
        let limited = response.body_mut().with_config().limit(REPLY_BYTES_MAX);
        let reply = limited.read_to_string().map_err(failed)?;
        if status != 200 {
            let reply = reply.trim().chars().take(200).collect();
            return Err(EtcdError::Status { endpoint: self.endpoint().to_owned(), status, reply });
        }
        serde_json::from_str(&reply).map_err(|_| self.without("JSON"))
    }

    fn endpoint(&self) -> &str {
        &self.endpoints[self.at]
    }

    fn without(&self, missing: &'static str) -> EtcdError {
        EtcdError::Reply { endpoint: self.endpoint().to_owned(), missing }
    }
}

impl Arbiter for Etcd {
    fn attempt(&mut self, question: &Question, deadline: Instant) -> Result<Answer, AttemptError> {
        let answer = self.judge(question, deadline);
        self.answers = answer.is_ok();
        if answer.is_err() {
            self.at = (self.at + 1) % self.endpoints.len();
        }
        Ok(answer?)
    }

    fn is_connected(&self) -> bool {
        self.answers
    }

    fn name(&self) -> String {
        format!("etcd {}", self.endpoints.join(", "))
    }
}

//! `redis-benchmark`, run for a number of requests, and what it says about them.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::keys::KEYS;
use crate::helper::Core;
use crate::objects::VALUE_BYTES;
use crate::redis::end_with_us;
use crate::registry::BenchError;

const PROGRAM: &str = "redis-benchmark";

const RUN: &str = "run redis-benchmark";

/// What is not over by then never will be.
const PATIENCE: Duration = Duration::from_secs(60);

/// How it is run.
pub(crate) struct Benchmark {
    core: Option<Core>,
    connections: usize,
    pipeline: u16,
}

/// What it found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) requests: u64,
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Benchmark {
    /// Makes sure that it is there.
    pub(crate) fn find(
        core: Option<Core>,
        connections: usize,
        pipeline: u16,
    ) -> Result<Self, BenchError> {
        let version = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output();
        version.map_err(|error| {
            BenchError::setup(RUN)(format!("{error}; Debian has it in the package redis-tools"))
        })?;
        Ok(Benchmark { core, connections, pipeline })
    }

    /// `requests` commands of a kind, `set` or `get`.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        command: &str,
        requests: u64,
    ) -> Result<Found, BenchError> {
        let _pinned = self.core.map(Core::hold).transpose()?;
        let mut benchmark = Command::new(PROGRAM);
        benchmark
            .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
            .args(["-c", &self.connections.to_string(), "-P", &self.pipeline.to_string()])
            .args(["-d", &VALUE_BYTES.to_string(), "-r", &KEYS.to_string()])
            .args(["-n", &requests.to_string(), "-t", command, "--csv"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        end_with_us(&mut benchmark);
        let (said, complaint) = finish(benchmark.spawn().map_err(BenchError::setup(RUN))?)
            .map_err(BenchError::setup(RUN))?;
        found(&said, requests).ok_or_else(|| {
            BenchError::setup(RUN)(format!("it said `{}` and `{}`", said.trim(), complaint.trim()))
        })
    }
}

/// What a child has said by its end, on stdout and on stderr: a few lines, which a pipe holds.
fn finish(mut child: Child) -> io::Result<(String, String)> {
    let begun = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) => break Ok(()),
            Ok(None) => break Err(io::Error::other(format!("it did not end within {PATIENCE:?}"))),
            Err(error) => break Err(error),
        }
    };
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ended?;
    let (mut said, mut complaint) = (String::new(), String::new());
    child.stdout.take().map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut said))?;
    child.stderr.take().map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut complaint))?;
    Ok((said, complaint))
}

/// Reads `"test","rps",…` and the line behind it.
fn found(csv: &str, requests: u64) -> Option<Found> {
    let mut lines = csv.lines().map(|line| line.split(',').map(|field| field.trim_matches('"')));
    let (head, row) = (lines.next()?, lines.next()?);
    let columns: Vec<(&str, &str)> = head.zip(row).collect();
    let figure = |name| columns.iter().find(|(column, _)| *column == name)?.1.parse::<f64>().ok();
    let us = |name| figure(name).map(|ms| ms * 1e3);
    let per_s = figure("rps").filter(|rate| rate.is_finite() && *rate > 0.0)?;
    Some(Found { requests, per_s, p50_us: us("p50_latency_ms")?, p99_us: us("p99_latency_ms")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_table_is_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                   \"SET\",\"54054.05\",\"0.484\",\"0.192\",\"0.455\",\"0.727\",\"1.031\",\"1.471\"\n";
        let expected = Found { requests: 7, per_s: 54_054.05, p50_us: 455.0, p99_us: 1_031.0 };
        let read = found(csv, 7).expect("a table");
        assert_eq!((read.requests, read.per_s), (expected.requests, expected.per_s));
        assert!((read.p50_us - expected.p50_us).abs() < 0.01, "{read:?}");
        assert!((read.p99_us - expected.p99_us).abs() < 0.01, "{read:?}");
        for other in ["", "Error from server: no", "\"test\",\"rps\"\n\"SET\",\"0.00\"\n"] {
            assert_eq!(found(other, 7), None, "{other}");
        }
    }

    #[test]
    fn who_talks_and_ends_is_heard() {
        let mut talker = Command::new("sh");
        talker.args(["-c", "echo one; echo two >&2"]);
        let child = talker.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
        let said = finish(child).expect("it ends");
        assert_eq!(said, ("one\n".to_owned(), "two\n".to_owned()));
    }
}


"use strict";
// Numbers and words, as people read them. Nothing here knows of the page.

/** Three digits: 0.04, 1.2, 57, 1,234. */
function number(value) {
  if (value === 0) return "0";
  if (value < 0.1) return value.toFixed(2);
  if (value < 9.95) return value.toFixed(1).replace(/\.0$/, "");
  return Math.round(value).toLocaleString("en");
}

/** Nanoseconds, with three digits and a unit. */
function duration(ns) {
  const units = [["ns", 1], ["µs", 1e3], ["ms", 1e6], ["s", 1e9], ["min", 60e9], ["h", 3600e9]];
  const [unit, size] = units.findLast(([, least]) => ns >= least) ?? units[0];
  const value = ns / size;
  const digits = unit === "ns" || value >= 100 ? 0 : value < 10 ? 2 : 1;
  return `${value.toFixed(digits)} ${unit}`;
}

/** Bytes, by powers of 1024. */
function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  while (count >= 1024 && at + 1 < units.length) { count /= 1024; at += 1; }
  return `${at === 0 ? count : count.toFixed(count < 10 ? 1 : 0)} ${units[at]}`;
}

/** 23:01:05.123 of a time that hotpair writes. */
const timeOfDay = (utc) => utc.slice(11, 23);

const ROLES = { primary: "Primary", backup: "Back-up", draining: "Draining", changing: "Changing", fenced: "Fenced", empty: "Empty" };

const CAUSES = {
  tripwire: "the other side's processes ended: its kernel closed their connection",
  supervisor: "the other node's process died: its supervisor said so",
  silent: "the heartbeats of the other node stopped",
  disconnected: "the other node did not connect again in time",
  slow: "the other node acknowledged nothing for too long",
  not_in_step: "the other node came back and is not in step",
  started: "the node started, and went on from the state that it had",
  planned: "the primary handed over",
  ordered: "a person ordered it",
};

/** What a cause is, in words; its own name where there are none. */
const causeInWords = (cause) => CAUSES[cause] ?? String(cause).replaceAll("_", " ");

const STAGES = {
  receive: "port: from the socket to the object's inbox",
  queue: "from the inbox until a worker takes it",
  claim: "worker: from the look for an object to its claim",
  work: "worker: the application's own work",
  commit: "worker: from the call of the commit until it holds",
  batch: "node: until it is sealed in a batch for the other node",
  wire: "the network there and back, and both ends' waking",
  apply: "back-up: from the arrival of a batch to its acknowledgement",
  ack: "node: from the acknowledgement to the release",
  release: "port: until it takes the released packet",
  send: "port: until the packet has left",
};

const WORDS = [
  ["primary, back-up", "The primary serves. The back-up holds the same state, and takes over when the primary is gone."],
  ["protected", "Everything that was released is on both nodes: either may be lost, and nothing that anybody was told of is."],
  ["epoch", "Counts the primaries: each change of role begins a new one."],
  ["view", "What the arbiter has decided: who is primary, and who is in step. Each decision has a number."],
  ["object, claim, commit", "An object is a piece of state with a key. A worker claims one that has messages, changes it and commits: then it counts."],
  ["emits", "Packets that ports have sent, a second. Each waits until its commit is on both nodes."],
  ["unacknowledged", "Commits that the other node has not confirmed yet. Some are always under way; many, or old ones, say that it does not keep up."],
  ["waiting, oldest", "Messages that no worker has taken yet, and how long the oldest has waited."],
  ["parked", "Objects whose handler failed too often in a row. Nobody works on them until the next change of roles."],
  ["p50, p99, p99.9, max", "Half of all, 99 of 100, 999 of 1000, and all took no longer than that."],
  ["drops", "Packets and messages that were not brought where they belong, by the reason."],
];

/** What an event means for the eye: a change of role, trouble, or its end. */
function weight(event) {
  const { event: name, how } = event;
  if (["promoted", "primary", "backup", "detected", "asking", "failover"].includes(name)) return "role";
  if (["admitted", "in_sync", "link_up", "drops_ended"].includes(name)) return "good";
  const trouble = ["fenced", "solo", "error", "killed_silent_node", "parked", "diverged", "drops_begun", "lease_expired", "link_lost", "undetermined", "reaped"];
  return trouble.includes(name) || name === "died" && how !== "exit code 0" ? "bad" : "";
}

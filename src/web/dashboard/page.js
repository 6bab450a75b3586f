
// What the stream says, put where it belongs. Texts from outside are only ever text, never markup.

const KEEP_SECONDS = 600;
/** Silence after which the page says that it hears nothing: three beats. */
const SILENT_MS = 15_000;

const $ = (id) => document.getElementById(id);
/** Writes only what has changed: a screen reader is told of each change of the verdict, and of nothing else. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function mark(element, standing) {
  for (const name of ["ok", "warning", "critical"]) element.classList.toggle(name, name === standing);
}
function made(name, text, kind) {
  const element = document.createElement(name);
  if (text != null) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

let state = null;
let log = { events: [], errors: [], others: 0 };
let heardAt = null;
/** When the state came. */
let stateAt = null;
let source = null;
let paused = false;
const past = { names: [], columns: {} };
const shown = { span: "minute", stage: "work" };

// Role and protection.

/** Standing, words for it, and what it means for whoever reads it at night. */
function verdict({ status, gone, node }) {
  const other = node === "a" ? "b" : "a";
  if (!status) return ["critical", "No region", "", "No node has made its region yet. `hotpair node` does."];
  const role = ROLES[status.role] ?? status.role;
  if (gone) return ["critical", role, "Region removed", "The node was stopped for good. This is what it held at last."];
  if (!status.node_alive) {
    return ["critical", role, "No node runs", `That is what the region says; the process of node ${node} has died. Its supervisor starts it again, if that runs.`];
  }
  switch (status.role) {
    case "primary":
    case "draining":
      return status.protected
        ? ["ok", role, "Protected", `Node ${other} holds everything that was released: either host may be lost.`]
        : ["warning", role, "Not protected", `Node ${other} is not in step: if this host is lost now, what it has done since is lost with it.`];
    case "backup":
      return status.connected
        ? ["ok", role, "Connected", `Node ${other} is primary, and this one follows it.`]
        : ["warning", role, "Not connected", `Node ${other}, the primary, is not connected: this node hears of no changes.`];
    default:
      return ["critical", role, "Serves nobody", "Neither primary nor back-up yet: it waits for the other node or for the arbiter."];
  }
}

function showState() {
  const { status, reasons, pair, node, gone } = state;
  const [standing, role, protection, meaning] = verdict(state);
  const worst = gone || !status ? "critical" : state.standing.toLowerCase();
  mark($("state"), worst);
  put($("role"), role);
  put($("protection"), protection && `${{ ok: "✓", warning: "!", critical: "✕" }[standing]} ${protection}`);
  mark($("protection"), standing);
  put($("meaning"), meaning);
  list($("reasons"), reasons);
  put($("pair"), `pair ${pair}, node ${node}`);
  document.title = [role, protection].filter(Boolean).join(", ").toLowerCase() + ` · ${pair}/${node}`;
  showPair(standing);
}

function list(element, texts) {
  const same = element.children.length === texts.length && texts.every((text, at) => element.children[at].textContent === text);
  if (!same) element.replaceChildren(...texts.map((text) => made("li", text)));
}

function box(id, standing, name, what, more) {
  const element = $(id);
  mark(element, standing);
  for (const [part, text] of Object.entries({ name, what, more })) {
    const place = element.querySelector(`.${part}`);
    if (place) put(place, text);
  }
}

function showPair(standing) {
  const { status, node, region, gone } = state;
  const other = node === "a" ? "b" : "a";
  const lives = status?.node_alive && !gone;
  const own = status ? `${ROLES[status.role] ?? status.role}${lives ? "" : ", not running"}` : "no region";
  box("own", lives ? standing : "critical", `node ${node} (this one)`, own, status ? `epoch ${status.epoch}, view ${status.view}\nregion ${region}` : region);
  const reached = lives && status.connected;
  const used = (status?.links ?? []).filter((link) => link.alive);
  const trip = used.find((link) => link.in_use)?.rtt_us ?? used[0]?.rtt_us;
  const step = status?.role === "backup" ? "follows the primary" : "in step";
  const inStep = reached && (status.protected || status.role === "backup");
  const link = !lives ? ["critical", "unknown"] : !reached ? ["critical", "not connected"] : inStep ? ["ok", step] : ["warning", "not in step"];
  const count = (status?.links ?? []).length;
  const more = [reached && trip != null ? `round trip ${duration(trip * 1e3)}` : "", count > 1 ? `${used.length} of ${count} networks` : ""];
  box("link", link[0], "", link[1], more.filter(Boolean).join(", "));
  const peer = !lives ? ["", "unknown"] : !reached ? ["critical", "not reached"]
    : status.role === "backup" ? ["ok", "Primary"] : inStep ? ["ok", "Back-up"] : ["warning", "Back-up, catching up"];
  const where = status?.links?.[0]?.peer;
  box("peer", peer[0], `node ${other}`, peer[1], where ? `at ${where}` : "");
}

// Figures.

function tiles(id, rows) {
  const element = $(id);
  if (element.children.length !== rows.length) {
    element.replaceChildren(...rows.map(([label, , title]) => {
      const tile = made("div");
      tile.title = title;
      tile.append(made("dt", label), made("dd"));
      return tile;
    }));
  }
  rows.forEach(([, value, , warn], at) => {
    put(element.children[at].lastChild, value);
    element.children[at].classList.toggle("warn", Boolean(warn));
  });
}

function showFigures() {
  const { status, missed_rate: missed } = state;
  const now = Object.fromEntries(state.columns.map((name, at) => [name, state.point?.[at] ?? 0]));
  const late = status.times.deadline_missed.n;
  tiles("load-now", [
    ["claims a second", number(now.claims), "Objects that workers took"],
    ["commits a second", number(now.commits), "Changes that came to hold on this node: made here on a primary, received on a back-up"],
    ["emits a second", number(now.emits), "Packets that ports sent"],
    ["drops a second", number(now.drops), "Packets and messages that were dropped, for whatever reason", now.drops > 0],
    ["deadlines missed a second", `${number(missed)}`, `Claims that came later than their queue's deadline; ${late} since the region was made`, missed > 0],
    ["parked objects", number(status.parked), "Objects that failed too often", status.parked > 0],
  ]);
  tiles("behind-now", [
    ["commits", number(status.unacked.commits), "Commits that the other node has not acknowledged"],
    ["bytes", bytes(status.unacked.bytes), "Their size as they are shipped"],
    ["age of the oldest", status.unacked.age_ns ? duration(status.unacked.age_ns) : "–", "How long the oldest of them has waited"],
    ["packets wait to leave", number(status.packets_waiting), "Packets whose commit is not acknowledged yet, or that the port has not taken yet"],
    ["last commit", status.commit_seq, "Epoch and number of the last commit"],
    ["released up to", status.released, "Up to this commit packets may leave"],
  ]);
}

function table(id, head, rows, none) {
  const element = $(id);
  if (!rows.length) return element.replaceChildren(made("p", none, "none"));
  const all = made("table");
  const titles = all.appendChild(made("thead")).appendChild(made("tr"));
  head.forEach(({ name, title, text }) => {
    const cell = titles.appendChild(made("th", name, text ? "text" : ""));
    cell.scope = "col";
    if (title) cell.title = title;
  });
  const body = all.appendChild(made("tbody"));
  for (const row of rows) {
    const line = body.appendChild(made("tr"));
    row.forEach((value, at) => {
      const warn = value?.warn;
      const cell = line.appendChild(made(at ? "td" : "th", String(value?.text ?? value), warn ? "warn" : head[at].text ? "text" : ""));
      if (!at) cell.scope = "row";
    });
  }
  // What somebody has scrolled to stays where it is.
  const left = element.scrollLeft;
  element.replaceChildren(all);
  element.scrollLeft = left;
}

function showTables() {
  const { status, drops } = state;
  const warn = (value) => ({ text: number(value), warn: value > 0 });
  table("queue-table", [
    { name: "queue" }, { name: "messages waiting", title: "Messages that no worker has taken" }, { name: "oldest", title: "How long the oldest has waited" },
    { name: "objects", title: "Objects that there are" }, { name: "ready", title: "Objects with something to do" },
    { name: "claimed", title: "Objects that workers have in hand" }, { name: "parked", title: "Objects that failed too often" },
    { name: "leases expired", title: "Claims that lasted longer than the queue allows" },
  ], status.queues.map((queue) => [
    queue.name, number(queue.waiting), queue.oldest_ns == null ? "–" : duration(queue.oldest_ns), number(queue.objects), number(queue.ready),
    number(queue.claimed), warn(queue.parked), warn(queue.leases_expired),
  ]), "There are no queues.");
  table("drop-table", [{ name: "port" }, { name: "reason", text: true }, { name: "in all" }, { name: "a second" }],
    drops.map((drop) => [drop.port, drop.reason, number(drop.count), warn(drop.rate)]), "Nothing was dropped.");
  table("worker-table", [{ name: "worker" }, { name: "process" }, { name: "claims" }, { name: "commits" }, { name: "given back", title: "Claims that ended without a commit" }],
    status.workers.map((worker) => [worker.name, worker.pid, number(worker.claims), number(worker.commits), number(worker.given_back)]), "No worker runs.");
  table("port-table", [{ name: "port" }, { name: "process" }, { name: "received" }, { name: "sent" }, { name: "dropped" }],
    status.ports.map((port) => [port.name, port.pid, number(port.received), number(port.sent), number(Object.values(port.drops).reduce((sum, count) => sum + count, 0))]),
    "No port runs.");
}

// Stages.

const percentiles = percentilePlot($("plot-stages"));

function showStages() {
  const { stages, quantiles } = state;
  const at = (part) => quantiles.indexOf(part);
  const element = $("stage-table");
  if (!element.querySelector("table")) {
    table("stage-table", [{ name: "stage" }, ...[["measured", "How many were measured: one in 127"], ["p50", "Half took no longer"], ["p99", "99 of 100 took no longer"],
      ["p99.9", "999 of 1000 took no longer"], ["max", "The longest"]].map(([name, title]) => ({ name, title }))],
    stages.map(({ name }) => [name, "", "", "", "", ""]), "");
    stages.forEach(({ name }, row) => {
      const cell = element.querySelectorAll("tbody th")[row];
      const label = made("label");
      const choice = made("input");
      Object.assign(choice, { type: "radio", name: "stage", value: name, checked: name === shown.stage });
      label.append(choice, ` ${name}`);
      label.title = STAGES[name] ?? "";
      cell.replaceChildren(label);
    });
  }
  element.querySelectorAll("tbody tr").forEach((line, row) => {
    const { name, [shown.span]: times } = stages[row];
    line.classList.toggle("chosen", name === shown.stage);
    const values = [0.5, 0.99, 0.999].map((part) => times.q[at(part)]);
    const texts = [number(times.n), ...[...values, times.max].map((ns) => (times.n ? duration(ns) : "–"))];
    texts.forEach((text, cell) => put(line.cells[cell + 1], text));
  });
  const measured = stages.map(({ name, [shown.span]: times }) => ({ name, times })).filter(({ times }) => times.n > 0);
  percentiles.show(quantiles, measured, shown.stage);
  put($("plot-stages").querySelector("figcaption"),
    `How long it took at most, by how much of all (percent): ${shown.stage} (${STAGES[shown.stage]}), others in grey`);
}

// Events and errors.

function showPromotion() {
  const last = state.status?.last_promotion;
  const element = $("promotion");
  const key = JSON.stringify(last);
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  if (!last) return element.replaceChildren();
  const cause = last.cause ? `: ${causeInWords(last.cause)} (${last.cause})` : "";
  const phases = made("ol", null, "phases");
  last.phases.forEach(({ phase, after_ns: after }) => {
    const item = phases.appendChild(made("li"));
    item.append(made("b", phase.replaceAll("_", " ")), after ? `after ${duration(after)}` : "begins");
  });
  const line = made("p");
  line.append(made("strong", `This node last became primary at ${timeOfDay(last.time)}, epoch ${last.epoch}`), cause);
  element.replaceChildren(line, phases);
}

function showEvents() {
  const grave = $("grave").checked;
  const rows = log.events.filter((event) => !grave || weight(event)).reverse().map((event) => {
    const row = made("li", null, weight(event));
    const time = made("time", timeOfDay(event.time));
    time.dateTime = event.time;
    time.title = event.time;
    const cause = event.cause ? ` – ${causeInWords(event.cause)}` : "";
    row.append(time, made("span", `${event.source} ${event.process}`, "faint"), made("span", event.says + cause, "says"));
    return row;
  });
  $("event-list").replaceChildren(...(rows.length ? rows : [made("li", "There is none.")]));
}

function showLog() {
  showEvents();
  const errors = [...log.errors].reverse();
  table("error-table", [{ name: "error", text: true }, { name: "of", text: true }, { name: "times" }, { name: "first" }, { name: "last" }],
    errors.map((error) => [error.error, error.source, number(error.count), timeOfDay(error.first), timeOfDay(error.last)]), "No errors.");
  if (log.others > 0) $("error-table").append(made("p", `and ${number(log.others)} others, for which there was no room`, "faint"));
  const parked = log.events.filter((event) => event.event === "parked").reverse().slice(0, 20);
  table("parked-table", [{ name: "object" }, { name: "queue", text: true }, { name: "at" }],
    parked.map((event) => [event.key, event.queue, timeOfDay(event.time)]), "No event tells of one.");
}

// Plots over time.

let timePlots = [];
/** Changes of role, by their time in seconds. */
const marks = () => log.events.filter((event) => event.event === "primary" || event.event === "backup").map((event) => event.at_ms / 1e3);

function setColumns(names) {
  if (names.join() === past.names.join()) return;
  past.names = names;
  past.columns = Object.fromEntries(names.map((name) => [name, []]));
  const of = (what) => names.filter((name) => name.startsWith(`${what}:`)).map((column) => ({ name: column.slice(what.length + 1), column }));
  const plain = (column, name = column) => ({ name, column });
  timePlots.forEach((plot) => plot.remove());
  const ms = (value) => duration(value * 1e6);
  const plot = (id, series, format, whole) => timePlot($(id), { series, format, marks, whole });
  timePlots = [
    plot("plot-load", ["claims", "commits", "emits", "drops"].map((name) => plain(name)), number),
    plot("plot-commits", [plain("unacked_commits", "commits")], number, true),
    plot("plot-bytes", [plain("unacked_bytes", "bytes")], bytes, true),
    plot("plot-age", [plain("unacked_ms", "age")], ms),
    plot("plot-waiting", of("waiting"), number, true),
    plot("plot-oldest", of("oldest_ms"), ms),
  ];
}

/** Further rows, after those that are older than them: who served them may have been started anew. */
function addRows(names, rows) {
  setColumns(names);
  const first = rows[0]?.[0];
  if (first === undefined) return;
  const until = rows[0].at(-1) - KEEP_SECONDS;
  const at = past.columns.at ?? [];
  const kept = at.filter((time) => time < first && time >= until).length;
  const skipped = at.findIndex((time) => time >= until);
  names.forEach((name, row) => {
    const old = past.columns[name];
    past.columns[name] = [...old.slice(Math.max(skipped, 0), Math.max(skipped, 0) + kept), ...rows[row]];
  });
}

const showPlots = () => timePlots.forEach((plot) => plot.show(past.columns));

// All of it.

function show() {
  if (paused || !state) return;
  showState();
  if (!state.status) return;
  showFigures();
  showTables();
  showStages();
  showPromotion();
  showPlots();
}

/** How old is what is shown; once a second, and whenever that changes. */
function showAge() {
  const now = performance.now();
  const lost = source?.readyState !== EventSource.OPEN || heardAt == null || now - heardAt > SILENT_MS;
  const heard = $("heard");
  heard.classList.toggle("live-now", !lost && !state?.gone);
  heard.classList.toggle("lost-now", lost || Boolean(state?.gone));
  const seconds = stateAt == null ? "" : `, ${Math.floor((now - stateAt) / 1e3)} s old`;
  put(heard, lost ? (heardAt == null ? "connecting" : `not connected${seconds}`) : `${paused ? "paused" : "live"}${seconds}`);
  const asOf = state?.at_ms ? new Date(state.at_ms).toISOString().slice(11, 19) : null;
  const words = lost && heardAt != null
    ? `This page hears nothing from node ${state?.node ?? ""}: its host, or all its processes there, may be gone. It shows how it stood at ${asOf} UTC, and tries again each second.`
    : state?.gone && asOf ? `There is no region any more. This is how it stood at ${asOf} UTC.` : "";
  put($("lost"), words);
  $("lost").hidden = !words;
}

function connect() {
  source = new EventSource("/stream");
  const on = (name, take) => source.addEventListener(name, (message) => {
    heardAt = performance.now();
    take(JSON.parse(message.data));
    showAge();
  });
  on("history", ({ columns, rows }) => { if (columns.length) addRows(columns, rows); });
  on("log", (news) => { log = news; if (!paused) showLog(); });
  on("state", (news) => {
    state = news;
    stateAt = performance.now();
    if (state.point && !state.gone) addRows(state.columns, state.point.map((value) => [value]));
    show();
  });
  on("beat", () => {});
  source.addEventListener("error", () => {
    showAge();
    // A refusal is final for the browser, not for us: there may be too many pages just now.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  });
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  put($("pause"), paused ? "Go on" : "Pause");
  showAge();
  if (!paused) { show(); showLog(); }
});
$("grave").addEventListener("change", showEvents);
document.addEventListener("change", ({ target }) => {
  if (target.name === "span" || target.name === "stage") {
    shown[target.name] = target.value;
    if (state?.status) showStages();
  }
});
$("word-list").append(...WORDS.flatMap(([word, meaning]) => [made("dt", word), made("dd", meaning)]));
setInterval(showAge, 1000);
connect();

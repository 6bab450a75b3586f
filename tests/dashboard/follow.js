// Follows a failover in a real browser, as somebody does who has the pages of both nodes open, and looks at them without a mouse, in the
// dark, on a narrow screen.
//
// Usage: node follow.js CHROMIUM URL_OF_A URL_OF_B [DIRECTORY_FOR_SCREENSHOTS]
// What is to happen to the pair it says on stdout, a line each: `kill a`, `start a`; `done` is the last one.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [browserPath, urlA, urlB, shots] = process.argv.slice(2);
const PATIENCE = 60_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

/** A page, with all that must not happen in it. */
async function open(url, colorScheme) {
  const context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 1060 }, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`${error.stack}`));
  page.on("console", (message) => {
    // That nobody answers is what the page is there to say.
    if (message.type() === "error" && !message.text().includes("net::ERR_")) wrong.push(message.text());
  });
  page.on("request", (request) => { if (!request.url().startsWith(url)) wrong.push(`asked ${request.url()}`); });
  await page.goto(url);
  // What a screen reader is told: the verdict, each time that it changes.
  await page.evaluate(() => {
    window.told = [];
    new MutationObserver(() => window.told.push(document.querySelector(".verdict").innerText))
      .observe(document.querySelector(".verdict"), { subtree: true, childList: true, characterData: true });
  });
  return { page, wrong };
}

const says = (page, selector, text) =>
  page.waitForFunction(([at, part]) => document.querySelector(at)?.innerText.includes(part), [selector, text]);

const luminance = (page) => page.evaluate(() => {
  const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
});

/** The pixels of a plot that are drawn, as one text. */
const drawn = (page, id) => page.evaluate((at) => {
  const canvas = document.querySelector(`#${at} canvas`);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  for (let alpha = 3; alpha < pixels.length; alpha += 4) if (pixels[alpha] > 0) return canvas.toDataURL();
  return "";
}, id);

async function isAccessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join("; ")}`);
  assert.deepEqual(found, [], what);
}

/** From the first Tab to the last: each stop is seen, the order is that of the page, and everything that can be done is reached. */
async function keyboardReaches(page) {
  const focused = () => page.evaluate(() => {
    const { activeElement: at } = document;
    if (at === document.body) return null;
    const style = getComputedStyle(at);
    const visible = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return { name: at.id || at.value || at.getAttribute("aria-label") || at.textContent.trim(), top: at.getBoundingClientRect().top + scrollY, visible, fixed: Boolean(at.closest("header, .skip")) };
  });
  await page.evaluate(() => document.activeElement.blur());
  const stops = [];
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press("Tab");
    const stop = await focused();
    if (!stop) break;
    stops.push(stop);
  }
  assert.ok(stops.every(({ visible }) => visible), `focus is seen: ${JSON.stringify(stops.filter(({ visible }) => !visible))}`);
  const names = stops.map(({ name }) => name);
  const wanted = ["Skip to the state of the pair", "Load", "Events", "pause", "minute", "work", "grave", "Events, the newest first", "worker-table"];
  let from = -1;
  for (const name of wanted) {
    const at = names.indexOf(name, from + 1);
    assert.ok(at > from, `${name} comes after ${wanted[wanted.indexOf(name) - 1]} in ${names}`);
    from = at;
  }
  const inPage = stops.filter(({ fixed }) => !fixed).map(({ top }) => top);
  inPage.forEach((top, at) => assert.ok(at === 0 || top >= inPage[at - 1] - 400, `no jump back: ${names}`));

  // The first stop leads past the navigation.
  await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  // A link of the navigation leads to its part.
  await page.locator("nav a[href='#events']").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => Math.abs(document.querySelector("#events").getBoundingClientRect().top) < 200);
  // What is shown can be held, and goes on.
  await page.locator("#pause").focus();
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "true");
  await says(page, "#heard", "paused");
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "false");
  // Another stage, another span.
  await page.locator("input[name=stage]:checked").focus();
  await page.keyboard.press("ArrowDown");
  await says(page, "tr.chosen", "commit");
  await says(page, "#plot-stages figcaption", "commit");
  await page.locator("input[name=span]:checked").focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("input[name=span]:checked").getAttribute("value"), "ever");
  await page.keyboard.press("ArrowLeft");
  await page.locator("#grave").focus();
  await page.keyboard.press("Space");
  assert.ok(await page.locator("#event-list li").evaluateAll((rows) => rows.every((row) => row.className)), "only what matters");
  await page.keyboard.press("Space");
}

async function shoot(page, name) {
  if (!shots) return;
  await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
  await page.screenshot({ path: join(shots, `${name}.png`) });
}

async function shootPart(page, selector, name) {
  if (shots) await page.locator(selector).screenshot({ path: join(shots, `${name}.png`) });
}

const a = await open(urlA, "light");
const b = await open(urlB, "dark");

// Both are there, and each says who it is.
await says(a.page, "#role", "Primary");
await says(a.page, "#protection", "Protected");
await says(b.page, "#role", "Back-up");
await says(b.page, "#protection", "Connected");
await says(a.page, "#own", "Primary");
await says(a.page, "#peer", "Back-up");
await says(a.page, "#link", "in step");
await says(b.page, "#peer", "Primary");
assert.match(await a.page.title(), /^primary, protected · \w+\/a$/);
for (const landmark of ["banner", "navigation", "main", "contentinfo"]) {
  assert.equal(await a.page.getByRole(landmark).count(), 1, landmark);
}

// Every stage that a request passes on a primary is measured, every plot is drawn.
await a.page.waitForFunction(() => [...document.querySelectorAll("#stage-table tbody tr")].filter((row) => row.cells[2].innerText !== "–").length >= 9);
await a.page.waitForFunction(() => document.querySelector("#load-now dd").innerText !== "0");
if (shots) await a.page.waitForTimeout(45_000); // something to see in the plots
for (const id of ["plot-load", "plot-commits", "plot-bytes", "plot-age", "plot-waiting", "plot-oldest", "plot-stages"]) {
  assert.notEqual(await drawn(a.page, id), "", `${id} is drawn`);
}
await shoot(a.page, "primary-light");
await shootPart(a.page, "#latency", "latency-light");

await keyboardReaches(a.page);
assert.ok(await luminance(a.page) > 0.9, "light");
assert.ok(await luminance(b.page) < 0.1, "dark");
await isAccessible(a.page, "light");
await isAccessible(b.page, "dark");

// Another scheme, while the page is open: plots are drawn in its colours. News would draw them as well: it is held.
await a.page.locator("#pause").click();
await says(a.page, "#heard", "paused");
const light = await drawn(a.page, "plot-stages");
await a.page.emulateMedia({ colorScheme: "dark" });
await a.page.waitForFunction(() => getComputedStyle(document.body).backgroundColor !== "rgb(251, 252, 253)");
assert.ok(await luminance(a.page) < 0.1, "dark now");
// The plots too, with the next frame.
await a.page.waitForFunction(([at, before]) => document.querySelector(`#${at} canvas`).toDataURL() !== before, ["plot-stages", light]);
assert.notEqual(await drawn(a.page, "plot-stages"), "", "drawn anew");
await a.page.emulateMedia({ colorScheme: "light" });
await a.page.locator("#pause").click();

// On a narrow screen nothing sticks out.
await a.page.setViewportSize({ width: 400, height: 800 });
await a.page.waitForFunction(() => document.documentElement.scrollWidth <= innerWidth);
await a.page.setViewportSize({ width: 1280, height: 1060 });

// The primary goes, with its host's processes. Its page says that it hears nothing; the other one becomes primary.
console.log("kill a");
await says(b.page, "#role", "Primary");
await says(b.page, "#protection", "Not protected");
await says(b.page, "#reasons", "the other node is not in step");
await says(b.page, "#peer", "not reached");
await says(b.page, "#promotion", "became primary");
await says(b.page, "#promotion", "epoch 2");
await says(b.page, "#promotion", "its kernel closed their connection (tripwire)");
await says(b.page, "#event-list", "promoted, cause tripwire");
assert.match(await b.page.title(), /^primary, not protected · \w+\/b$/);
const told = await b.page.evaluate(() => window.told);
assert.ok(told.some((text) => text.includes("Primary") && text.includes("Not protected")), `it was told: ${told}`);
await says(a.page, "#heard", "not connected");
await says(a.page, "#lost", "This page hears nothing from node a");
assert.ok((await a.page.locator("#role").innerText()) === "Primary", "and shows what it was");
await isAccessible(b.page, "dark, unprotected");
await isAccessible(a.page, "light, lost");
if (shots) await b.page.waitForTimeout(12_000);
await shoot(b.page, "failover-dark");
await shootPart(b.page, "#events", "events-dark");

// It comes back, as back-up; its page finds it by itself.
console.log("start a");
await says(b.page, "#protection", "✓ Protected");
await says(a.page, "#heard", "live");
await says(a.page, "#role", "Back-up");
await a.page.waitForFunction(() => document.querySelector("#lost").hidden);
await says(b.page, "#event-list", "admitted");

assert.deepEqual([...a.wrong, ...b.wrong], []);
await browser.close();
console.log("done");

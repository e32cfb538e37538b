// The live page in headless Chromium, used as a person does: look, type, click.
//
//   node page.mjs STORY PAGE_URL CLIENT_URL
//
// Says `{"event": "done"}` when the story went as it should; else it ends with an error.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [story, pageUrl, clientUrl] = process.argv.slice(2);

// Chromium has things to tell and to ask at home, which has nothing to do with the page.
const QUIET = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** What each tab asked for, and what its scripts complained of. */
const requests = [];
const complaints = [];

async function openTab(context) {
  const tab = await context.newPage();
  tab.on('request', (request) => requests.push(request.url()));
  tab.on('websocket', (socket) => requests.push(socket.url()));
  tab.on('pageerror', (error) => complaints.push(error.message));
  tab.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await tab.goto(pageUrl);
  await tab.locator('#socket-state', { hasText: /^connected/ }).waitFor();
  return tab;
}

async function subscribe(tab, topics) {
  await tab.fill('#subscribe-topic', topics.join(' '));
  await tab.click('#subscribe-button');
  for (const topic of topics) {
    await tab.locator(`#subscriptions li[data-topic="${topic}"][data-state="subscribed"]`).waitFor();
  }
}

async function unsubscribe(tab, topic) {
  await tab.getByRole('button', { name: `Unsubscribe from ${topic}` }).click();
  await tab.locator(`#subscriptions li[data-topic="${topic}"]`).waitFor({ state: 'detached' });
}

async function send(tab, box, target, data) {
  await tab.fill(box === 'publish' ? '#publish-topic' : '#broadcast-topics', target);
  await tab.fill(`#${box}-data`, JSON.stringify(data));
  await tab.click(`#${box}-button`);
  await tab.locator(`#${box}-result[data-tone="good"]`).waitFor();
}

/** What the tab shows as arrived, the oldest first: `topic data`. */
async function arrived(tab) {
  const lines = await tab.locator('#log li').evaluateAll((rows) =>
    rows.map((row) => `${row.querySelector('.topic').textContent} ${row.querySelector('code').textContent}`));
  return lines.reverse();
}

async function expectArrived(tab, lines) {
  await tab.waitForFunction((count) => document.querySelectorAll('#log li').length >= count, lines.length);
  assert.deepEqual((await arrived(tab)).sort(), [...lines].sort());
}

/** The picture that a chart shows at the moment. */
const picture = (tab, name) => tab.locator(`#chart-${name}`).evaluate((canvas) => canvas.toDataURL());

/** The demo makes orders and prices move, and the charts with them. */
async function liveAtOnce(context) {
  const tab = await openTab(context);
  await tab.locator('#log li').first().waitFor();
  await tab.waitForFunction(() => parseFloat(document.getElementById('value-deliveries').textContent) > 0);
  const before = await picture(tab, 'deliveries');
  await tab.waitForFunction(
    ([id, old]) => document.getElementById(id).toDataURL() !== old,
    ['chart-deliveries', before],
  );
  assert.match(await tab.locator('#state-mode').textContent(), /embedded/i);
  await tab.waitForFunction(() => document.getElementById('state-clients').textContent.trim().startsWith('1'));
}

/** Where the engine wants its key for everything, the page asks for it once, and then lives. */
async function key(context) {
  const tab = await context.newPage();
  tab.on('request', (request) => requests.push(request.url()));
  await tab.goto(pageUrl);
  await tab.locator('#key-form').waitFor();
  assert.equal(await tab.locator('#value-clients').textContent(), '–');
  await tab.fill('#key-input', 'secret');
  await tab.click('#key-button');
  await tab.locator('#socket-state', { hasText: /^connected/ }).waitFor();
  await tab.waitForFunction(() => parseFloat(document.getElementById('value-clients').textContent) > 0);
  assert.equal(await tab.locator('#key-form').isVisible(), false);
}

/** What the page needs is reached by the name by which it was opened itself. */
async function connected(context) {
  const tab = await openTab(context);
  assert.equal(await tab.locator('#socket-url').inputValue(), clientUrl);
  await subscribe(tab, ['A']);
}

/** When the engine is gone, nothing of what it said is shown as if it were still so. */
async function gone(context) {
  const tab = await openTab(context);
  await tab.waitForFunction(() => parseFloat(document.getElementById('value-clients').textContent) > 0);
  await context.route('**/*', (route) => route.abort());
  await tab.locator('#notice', { hasText: 'does not answer' }).waitFor();
  for (const id of ['value-clients', 'value-deliveries', 'state-clients', 'state-memory', 'state-uptime', 'state-rabbitmq']) {
    assert.equal(await tab.locator(`#${id}`).textContent(), '–', id);
  }
  complaints.length = 0; // the browser tells of each request that failed
}

/** On a telephone nothing is wider than the screen, and nothing lies over something else. */
async function narrow(context) {
  const tab = await openTab(context);
  await tab.setViewportSize({ width: 390, height: 844 });
  const boxes = await tab.evaluate(() => {
    const box = (element) => element.getBoundingClientRect().toJSON();
    return {
      width: document.documentElement.scrollWidth,
      pause: box(document.getElementById('log-pause')), clear: box(document.getElementById('log-clear')),
      state: box(document.getElementById('socket-state')), hint: box(document.getElementById('log-empty')),
    };
  });
  assert.equal(boxes.width, 390);
  assert.equal(boxes.pause.top, boxes.clear.top, 'the buttons stand beside each other');
  assert.ok(boxes.hint.top >= Math.max(boxes.clear.bottom, boxes.state.bottom), 'the hint is below what is above it');
}

/** Two tabs; what is broadcast to all reaches both; one leaves A. */
async function topicsABC(context) {
  const tabs = [await openTab(context), await openTab(context)];
  for (const tab of tabs) await subscribe(tab, ['A', 'B', 'C']);
  await send(tabs[0], 'broadcast', 'A, B, C', { n: 1 });
  const first = ['A {"n":1}', 'B {"n":1}', 'C {"n":1}'];
  for (const tab of tabs) await expectArrived(tab, first);

  await unsubscribe(tabs[0], 'A');
  await send(tabs[1], 'broadcast', 'A B C', { n: 2 });
  await expectArrived(tabs[1], [...first, 'A {"n":2}', 'B {"n":2}', 'C {"n":2}']);
  await expectArrived(tabs[0], [...first, 'B {"n":2}', 'C {"n":2}']);

  await send(tabs[1], 'publish', 'A', { n: 3 });
  await send(tabs[1], 'publish', 'B', { n: 4 });
  await expectArrived(tabs[0], [...first, 'B {"n":2}', 'C {"n":2}', 'B {"n":4}']);
}

/** What is wrong with the input is said before anything is sent. */
async function mistakes(context) {
  const tab = await openTab(context);
  await tab.fill('#publish-topic', 'A');
  await tab.fill('#publish-data', '{"half":');
  await tab.locator('#publish-check[data-tone="bad"]').waitFor();
  await tab.click('#publish-button');
  assert.equal(await tab.locator('#publish-result').textContent(), '');
  await subscribe(tab, ['A']);
  await send(tab, 'publish', 'A', '<img src=x onerror=alert(1)>');
  await expectArrived(tab, ['A "<img src=x onerror=alert(1)>"']);
}

/** Any web page can put another one into a sandbox. Its origin is `null`, and it must not reach the engine. */
async function sandboxedFrame(context) {
  await openTab(context);
  const stranger = await context.newPage();
  const answer = await stranger.evaluate((url) => new Promise((resolve) => {
    window.onmessage = ({ data }) => resolve(data);
    const iframe = document.createElement('iframe');
    iframe.setAttribute('sandbox', 'allow-scripts');
    iframe.srcdoc = `<script>
      const socket = new WebSocket(${JSON.stringify(url)});
      socket.onopen = () => parent.postMessage('open ' + origin, '*');
      socket.onerror = () => parent.postMessage('refused ' + origin, '*');
    </script>`;
    document.body.append(iframe);
  }), clientUrl);
  assert.equal(answer, 'refused null');
  // A page that the engine serves itself is let in, the example of README too.
  await stranger.goto(new URL('/order.html', pageUrl).href);
  await stranger.locator('#state').waitFor();
  assert.equal(await stranger.evaluate((url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('refused');
  }), clientUrl), 'open');
}

const stories = {
  live_at_once: liveAtOnce, topics_a_b_c: topicsABC, mistakes, sandboxed_frame: sandboxedFrame, key, gone, narrow, connected,
};

const profile = await mkdtemp(join(tmpdir(), 'fanfare-page-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium', args: QUIET, headless: true,
});
context.setDefaultTimeout(20_000);
try {
  await stories[story](context);
  const ours = [new URL(pageUrl).host, new URL(clientUrl).host];
  const foreign = requests.filter((url) => !url.startsWith('data:') && !ours.includes(new URL(url).host));
  assert.deepEqual(foreign, [], 'fetched from outside');
  assert.deepEqual(complaints, [], 'complaints of the page');
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
// Who reads this may end the script, so that nothing is left to do.
process.stdout.write(`${JSON.stringify({ event: 'done', requests: requests.length })}\n`);

// Opens a page in headless Chromium, and says what it shows, each time that changes.
//
//   node browse.mjs URL

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const url = process.argv[2];
const profile = await mkdtemp(join(tmpdir(), 'fanfare-browse-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
const page = await context.newPage();
page.on('request', (request) => {
  const ours = request.url().startsWith('ws:') || new URL(request.url()).origin === new URL(url).origin;
  if (!ours) process.stdout.write(`fetched from outside: ${request.url()}\n`);
});
await page.exposeFunction('report', (text) => process.stdout.write(`${text}\n`));
await page.goto(url);
await page.evaluate(() => {
  const tell = () => window.report(document.body.innerText);
  new MutationObserver(tell).observe(document.body, { childList: true, subtree: true, characterData: true });
  tell();
});

process.on('SIGTERM', async () => {
  await context.close();
  await rm(profile, { recursive: true, force: true });
  process.exit(0);
});

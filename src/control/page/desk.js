// The boxes to try it by hand: subscribe, publish, broadcast, and the log of what arrived.

import { Client } from "./client.js";
import { askForKey, hasKey, keyHeaders, keyRefused } from "./key.js";

const LOG_MAX = 200;
const $ = (id) => document.getElementById(id);
const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/** A topic's own hue, wherever it shows. The golden angle keeps those that came one after the other apart. */
const hues = new Map();
function dot(topic) {
  if (!hues.has(topic)) hues.set(topic, (215 + hues.size * 137.5) % 360);
  const made = element("span", { className: "dot" });
  made.style.background = `hsl(${hues.get(topic)} 62% 55%)`;
  return made;
}

/** JSON for the eye: the names stand back behind the values. */
function coloured(data) {
  const made = element("code", {});
  for (const part of JSON.stringify(data).split(/("(?:[^"\\]|\\.)*":)/)) {
    made.append(part.endsWith('":') ? element("span", { className: "name", textContent: part }) : part);
  }
  return made;
}

const topicsIn = (text) => [...new Set(text.split(/[\s,]+/).filter(Boolean))];

const isLoopback = (host) => host === "localhost" || host === "[::1]" || host.startsWith("127.");
const hostOf = (url) => new URL(url).hostname;

/** The client URL that this page can reach: of its own host if there is one. From elsewhere, no loopback one is. */
function choose(urls) {
  const here = location.hostname;
  const near = (url) => isLoopback(hostOf(url)) === isLoopback(here);
  return urls.find((url) => hostOf(url) === here) ?? urls.find(near) ?? urls.find((url) => !isLoopback(hostOf(url)));
}

/** Listeners on all addresses are reached by the name by which this page was. */
function reachable(url) {
  const parsed = new URL(url);
  if (["0.0.0.0", "[::]"].includes(parsed.hostname)) parsed.hostname = location.hostname;
  return parsed.href;
}

export function furnish(settings) {
  const counts = new Map();
  const log = new Log();
  const client = new Client({
    state: showSocket,
    topic: (topic, state, why) => showTopic(client, counts, topic, state, why),
    publication: (topic, publication) => {
      counts.set(topic, (counts.get(topic) ?? 0) + 1);
      log.add(topic, publication.data);
    },
  });
  log.counts = counts;
  furnishSocket(client, settings);
  furnishSubscribe(client, settings);
  furnishSending("publish", "publish-topic", (text) => ({ channel: text.trim() }));
  furnishSending("broadcast", "broadcast-topics", (text) => ({ channels: topicsIn(text) }));
  $("publish-data").value = '{"order":42,"status":"shipped"}';
  $("broadcast-data").value = '{"text":"hello, everybody"}';
  for (const box of ["publish", "broadcast"]) check(box);
  askForKey(settings.key_required && !hasKey());
  // Whoever asked for a demo wants to see it move.
  for (const topic of settings.demo) client.subscribe(topic);
}

function furnishSocket(client, { clients }) {
  const urls = clients.map(reachable);
  $("socket-url").append(...urls.map((url) => element("option", { value: url, textContent: url })));
  if (!urls.length) return showSocket("ended", "the engine listens to no clients");
  const chosen = choose(urls);
  $("socket-url").value = chosen ?? "";
  const connect = () => client.open($("socket-url").value);
  $("socket-url").addEventListener("change", connect);
  $("socket-retry").addEventListener("click", connect);
  if (chosen) return connect();
  showSocket("ended", `clients are let in on ${hostOf(urls[0])} only, which is not ${location.hostname} (server.listen)`);
}

function showSocket(state, detail = "") {
  const words = { connecting: "connecting", connected: "connected", waiting: "reconnecting", refused: "refused", ended: "closed" };
  const moods = { connected: "good", refused: "bad", ended: "bad" };
  const failed = ["waiting", "refused", "ended"].includes(state);
  $("socket-state").textContent = failed && detail ? `${words[state]}: ${detail}` : words[state];
  $("socket-state").title = state === "connected" ? `This page is client ${detail}` : detail;
  $("socket-state").dataset.mood = moods[state] ?? "wait";
  if (state === "connected") $("socket-state").dataset.client = detail;
  $("socket-retry").hidden = !["refused", "ended"].includes(state);
}

function furnishSubscribe(client, { demo }) {
  $("subscribe-form").addEventListener("submit", (event) => {
    event.preventDefault();
    say("subscribe", "");
    topicsIn($("subscribe-topic").value).forEach((topic) => client.subscribe(topic));
    $("subscribe-topic").value = "";
  });
  $("demo").hidden = demo.length === 0;
  $("known-topics").append(...demo.map((topic) => element("option", { value: topic })));
  const chip = (topic) => {
    const made = element("button", { type: "button", textContent: topic, onclick: () => client.subscribe(topic) });
    made.dataset.topic = topic;
    return made;
  };
  const all = { type: "button", id: "demo-all", textContent: "all of them", onclick: () => demo.forEach((topic) => client.subscribe(topic)) };
  $("demo-topics").append(...demo.map(chip), element("button", all));
}

function showTopic(client, counts, topic, state, why) {
  const rows = [...$("subscriptions").children];
  let row = rows.find((candidate) => candidate.dataset.topic === topic);
  for (const chip of $("demo-topics").children) {
    if (chip.dataset.topic === topic) chip.hidden = state !== null;
  }
  const chips = [...$("demo-topics").children];
  $("demo").hidden = chips.every((chip) => chip.id === "demo-all" || chip.hidden);
  if (state === null) {
    row?.remove();
    counts.delete(topic);
    if (why) say("subscribe", `${topic}: ${why}`, "bad");
    return;
  }
  if (!row) {
    const remove = element("button", { type: "button", textContent: "×", onclick: () => client.unsubscribe(topic) });
    remove.setAttribute("aria-label", `Unsubscribe from ${topic}`);
    row = element("li", {}, dot(topic), topic, element("span", { textContent: "0" }), remove);
    row.dataset.topic = topic;
    $("subscriptions").append(row);
  }
  row.dataset.state = state;
}

/** A form that sends JSON: `box` is the API's method, `target` the field that says where to. */
function furnishSending(box, target, parameters) {
  $(`${box}-data`).addEventListener("input", () => check(box));
  $(`${box}-data`).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $(`${box}-form`).requestSubmit();
  });
  $(`${box}-format`).addEventListener("click", () => {
    if (check(box)) $(`${box}-data`).value = JSON.stringify(JSON.parse($(`${box}-data`).value), null, 2);
  });
  $(`${box}-form`).addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!check(box)) return $(`${box}-data`).focus();
    // The text itself is sent, not what JavaScript makes of it: long numbers stay as they are.
    const head = JSON.stringify(parameters($(target).value)).slice(0, -1);
    $(`${box}-button`).disabled = true;
    await send(box, `${head},"data":${$(`${box}-data`).value}}`);
    $(`${box}-button`).disabled = false;
  });
}

/** Whether the box holds JSON; if not, says what is wrong with it. */
function check(box) {
  const show = (text, tone) => {
    $(`${box}-check`).textContent = text;
    $(`${box}-check`).dataset.tone = tone;
  };
  try {
    JSON.parse($(`${box}-data`).value);
    show("valid", "good");
    $(`${box}-data`).removeAttribute("aria-invalid");
    return true;
  } catch (error) {
    show($(`${box}-data`).value.trim() ? `not JSON: ${error.message}` : "empty", "bad");
    $(`${box}-data`).setAttribute("aria-invalid", "true");
    return false;
  }
}

async function send(box, body) {
  const headers = { "content-type": "application/json", ...keyHeaders() };
  const began = performance.now();
  try {
    const response = await fetch(`/api/${box}`, { method: "POST", headers, body });
    const { error, result } = await response.json();
    if (response.status === 401) {
      keyRefused(headers);
    }
    const failed = error ?? result.responses?.find((each) => each.error)?.error;
    if (failed) say(box, `${failed.message} (${failed.code})`, "bad");
    else say(box, `Confirmed after ${(performance.now() - began).toFixed(1)} ms`, "good");
  } catch {
    say(box, "The engine does not answer. Is it running?", "bad");
  }
}

function say(box, text, tone = "") {
  $(`${box}-result`).textContent = text;
  $(`${box}-result`).dataset.tone = tone;
}

/** What arrived, the newest first. Bounded; drawn once per frame of the screen, however much comes. */
class Log {
  constructor() {
    this.fresh = [];
    this.arrived = 0;
    this.paused = false;
    $("log-clear").addEventListener("click", () => { this.fresh = []; $("log").replaceChildren(); this.show(); });
    $("log-pause").addEventListener("click", () => {
      this.paused = !this.paused;
      $("log-pause").setAttribute("aria-pressed", this.paused);
      $("log-pause").textContent = this.paused ? "Go on" : "Pause";
      if (!this.paused) this.show();
    });
    setInterval(() => this.tellRate(), 1000);
  }

  add(topic, data) {
    this.arrived += 1;
    this.fresh.push({ topic, data, time: new Date() });
    if (this.fresh.length > LOG_MAX) this.fresh.shift();
    if (!this.paused && !this.drawing) {
      this.drawing = true;
      requestAnimationFrame(() => { this.drawing = false; this.show(); });
    }
  }

  show() {
    const time = (date) => `${date.toLocaleTimeString([], { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
    const row = (entry) => element("li", {},
      element("time", { textContent: time(entry.time), dateTime: entry.time.toISOString() }),
      element("span", { className: "topic" }, dot(entry.topic), entry.topic),
      coloured(entry.data));
    if (!this.paused) $("log").prepend(...this.fresh.splice(0).reverse().map(row));
    while ($("log").childElementCount > LOG_MAX) $("log").lastChild.remove();
    $("log-empty").hidden = $("log").childElementCount > 0;
    for (const line of $("subscriptions").children) {
      line.querySelector("span:not(.dot)").textContent = (this.counts.get(line.dataset.topic) ?? 0).toLocaleString("en");
    }
  }

  tellRate() {
    $("log-rate").textContent = this.arrived ? `${this.arrived.toLocaleString("en")} per second` : "";
    this.arrived = 0;
  }
}

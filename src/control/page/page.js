// The live page: asks the engine once a second how it is, and lets people try it by hand.

import { Chart, animate } from "./charts.js";
import { furnish } from "./desk.js";
import { keyHeaders, keyRefused } from "./key.js";
import { parse, quantile, rate, sum } from "./metrics.js";

const EVERY = 1000;
const $ = (id) => document.getElementById(id);

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const number = (value) => (value >= 100_000 ? compact : value >= 100 ? plain : fine).format(value);
const whole = (value) => (value >= 100_000 ? compact : plain).format(value);

function duration(seconds) {
  if (seconds < 0.001) return `${plain.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${fine.format(seconds * 1e3)} ms`;
  return `${fine.format(seconds)} s`;
}

function uptime(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

const charts = {
  deliveries: new Chart("deliveries", number),
  publications: new Chart("publications", number),
  frames: new Chart("frames", number),
  lines: new Chart("lines", number),
  clients: new Chart("clients", whole),
  blocked: new Chart("blocked", whole),
  handover: new Chart("handover", duration),
};

/** One point on every chart, from two scrapes and the seconds between them. */
function plot(before, now, seconds, time) {
  const frames = rate(before, now, "fanfare_frames_total", seconds);
  const deliveries = rate(before, now, "fanfare_deliveries_total", seconds);
  const handover = (share) => quantile(before, now, "fanfare_handover_seconds", share);
  charts.deliveries.push(time, [deliveries]);
  charts.publications.push(time, [rate(before, now, "fanfare_publications_total", seconds)]);
  charts.frames.push(time, [frames]);
  charts.lines.push(time, [frames > 0 ? deliveries / frames : null]);
  charts.clients.push(time, [sum(now, "fanfare_clients", { state: "open" })]);
  charts.blocked.push(time, [sum(now, "fanfare_blocked_clients")]);
  charts.handover.push(time, [handover(0.5), handover(0.99)]);
  if (deliveries > 0) beat();
  $("state-clients").textContent = whole(sum(now, "fanfare_clients", { state: "open" }));
  $("state-topics").textContent = whole(sum(now, "fanfare_topics"));
  $("state-cpu").textContent = `${fine.format(100 * rate(before, now, "process_cpu_seconds_total", seconds))} %`;
  $("state-memory").textContent = `${fine.format(sum(now, "process_resident_memory_bytes") / 2 ** 20)} MiB`;
}

/** The mark in the corner beats while something is delivered. */
function beat() {
  $("pulse").classList.remove("beat");
  requestAnimationFrame(() => $("pulse").classList.add("beat"));
}

function mood(id, text, value) {
  $(id).textContent = text;
  $(id).dataset.mood = value;
}

function tellHealth(health) {
  const words = { starting: "starting", serving: health.ready ? "serving" : "waiting", draining: "stopping" };
  mood("state-engine", words[health.phase], health.ready ? "good" : "wait");
  const rabbits = {
    ready: ["connected", "good"], loading: ["reading the stream", "wait"], blocked: ["takes nothing", "bad"],
    away: ["away", "bad"], refused: ["refuses the engine", "bad"], embedded: ["not needed", "good"],
  };
  mood("state-rabbitmq", ...rabbits[health.rabbitmq]);
  $("state-mode").textContent = health.rabbitmq === "embedded" ? "embedded" : "RabbitMQ";
  $("state-uptime").textContent = uptime(health.uptime_seconds);
  const notices = {
    away: "RabbitMQ is away. Clients stay connected; publishing fails until it is back.",
    refused: `RabbitMQ refuses this engine. ${health.reason}. Clients stay connected; publishing fails until that is mended.`,
    blocked: "RabbitMQ has an alarm for memory or disk: it delivers, and takes no publishes until it has room again.",
    loading: "The stream is being read back. Clients are let in when that is done.",
  };
  tell(notices[health.rabbitmq] ?? "");
  document.body.classList.remove("gone");
}

function tell(text) {
  $("notice").hidden = text === "";
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

/** Nobody answers: the charts get a hole, and people are told. */
function missed(time) {
  mood("state-engine", "not reachable", "bad");
  document.body.classList.add("gone");
  // What was true is not known to be true.
  for (const id of ["rabbitmq", "uptime", "clients", "topics", "cpu", "memory"]) {
    $(`state-${id}`).textContent = "–";
    delete $(`state-${id}`).dataset.mood;
  }
  tell("The engine does not answer. This page keeps trying.");
  for (const chart of Object.values(charts)) chart.push(time, null);
}

/** The engine answers, and shows nothing without its key. */
class Locked extends Error {}

async function watch() {
  let before = null;
  let beforeTime = 0;
  for (;;) {
    const time = Date.now();
    try {
      // The same words as under /health, but never with a 503, which browsers report as a fault of the page.
      const headers = keyHeaders();
      const [health, metrics] = await Promise.all([fetch("/health/live"), fetch("/metrics", { headers })]);
      tellHealth(await health.json());
      if (metrics.status === 401) keyRefused(headers);
      if (!metrics.ok) throw new Locked();
      const now = parse(await metrics.text());
      if (before) plot(before, now, (time - beforeTime) / 1000, time);
      [before, beforeTime] = [now, time];
    } catch (error) {
      before = null;
      if (!(error instanceof Locked)) missed(time);
    }
    await new Promise((resume) => setTimeout(resume, Math.max(100, EVERY - (Date.now() - time))));
  }
}

async function begin() {
  animate(Object.values(charts));
  watch();
  for (;;) {
    try {
      const answer = await fetch("/page.json", { headers: keyHeaders() });
      if (!answer.ok) throw new Locked();
      const settings = await answer.json();
      $("about").textContent = `Fanfare ${settings.version}, node ${settings.node}`;
      return furnish(settings);
    } catch {
      await new Promise((resume) => setTimeout(resume, EVERY));
    }
  }
}

begin();

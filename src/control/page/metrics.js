// Reads the engine's /metrics, and turns counters into rates.

/** Samples by name: `[{labels, value}, ...]`. Takes OpenMetrics text. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/i.exec(line);
    if (!match) continue;
    const [, name, labelText = "", value] = match;
    const labels = {};
    for (const [, key, label] of labelText.matchAll(/(\w+)="([^"]*)"/g)) labels[key] = label;
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels, value: Number(value) });
  }
  return samples;
}

/** The sum over all samples of `name` that have these labels. */
export function sum(samples, name, wanted = {}) {
  const fits = ({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value);
  return (samples.get(name) ?? []).filter(fits).reduce((total, { value }) => total + value, 0);
}

/** A histogram's buckets as `[bound, cumulated count]`, all shards together. */
function buckets(samples, name) {
  const counts = new Map();
  for (const { labels, value } of samples.get(`${name}_bucket`) ?? []) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/** The quantile of what was observed between two scrapes; null if that is nothing. */
export function quantile(before, now, name, share) {
  const earlier = new Map(buckets(before, name));
  const grown = buckets(now, name).map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
  const total = grown.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of grown) {
    if (count >= share * total) {
      // Within a bucket nothing is known: its observations count as evenly spread.
      if (bound === Infinity) return low;
      return low + (bound - low) * ((share * total - below) / Math.max(1, count - below));
    }
    [low, below] = [bound, count];
  }
  return low;
}

/** How much a counter grew per second; never negative, for a restarted engine begins at 0. */
export function rate(before, now, name, seconds) {
  return Math.max(0, sum(now, name) - sum(before, name)) / seconds;
}

// Charts that move: the last two minutes glide from right to left, one new point a second.

const WINDOW_MAX = 120_000;
/** A page just opened shows less, so that its charts are not empty for two minutes. */
const WINDOW_MIN = 20_000;
/** Points come in late by up to a second; drawing that much behind lets them glide in instead of jump. */
const DELAY = 1_150;
const FULL_TURN = 2 * Math.PI;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** One canvas with one or two lines; the first is filled, the second is drawn thin. */
export class Chart {
  constructor(name, format) {
    this.canvas = document.getElementById(`chart-${name}`);
    this.output = document.getElementById(`value-${name}`);
    this.color = `--${name}`;
    this.format = format;
    this.points = [];
    this.top = 0;
    this.pointer = null;
    this.canvas.addEventListener("pointermove", (event) => { this.pointer = event.offsetX; });
    this.canvas.addEventListener("pointerleave", () => { this.pointer = null; this.say(this.points.at(-1)); });
  }

  /** Adds what was seen at `time`; null stands for "nothing was seen", and leaves a hole. */
  push(time, values) {
    this.points.push({ time, values });
    while (this.points.length > 2 && this.points[1].time < time - WINDOW_MAX - 2 * DELAY) this.points.shift();
    if (this.pointer === null) this.say(this.points.at(-1));
  }

  say(point, ago = "") {
    const seen = point?.values?.filter((value) => value !== null) ?? [];
    const [first, second] = seen.map(this.format);
    this.output.textContent = first ?? "–";
    const note = [second, ago].filter(Boolean).join(" · ");
    if (note) this.output.append(Object.assign(document.createElement("small"), { textContent: note }));
  }

  draw(now) {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const highest = Math.max(0, ...this.points.flatMap(({ values }) => values?.map((value) => value ?? 0) ?? []));
    const goal = highest > 0 ? highest * 1.18 : 1;
    this.top = this.top && !still.matches ? this.top + (goal - this.top) * 0.08 : goal;
    const age = now - DELAY - (this.points[0]?.time ?? now);
    const shown = Math.min(WINDOW_MAX, Math.max(WINDOW_MIN, age));
    const x = (time) => width - ((now - DELAY - time) / shown) * width;
    const y = (value) => height - 3 - (value / this.top) * (height - 12);
    const color = getComputedStyle(canvas).getPropertyValue(this.color).trim();
    this.line(pen, 1, x, y, { color, width: 1, alpha: 0.55 });
    this.line(pen, 0, x, y, { color, width: 2, alpha: 1, floor: height });
    this.mark(pen, x, y, color, now, height);
  }

  /** The line of one series, in as many stretches as there are without a hole. */
  line(pen, series, x, y, { color, width, alpha, floor }) {
    const stretches = [[]];
    for (const { time, values } of this.points) {
      const value = values?.[series] ?? null;
      if (value === null) stretches.push([]);
      else stretches.at(-1).push([x(time), y(value)]);
    }
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    for (const stretch of stretches.filter((points) => points.length > 1)) {
      const path = smooth(stretch);
      pen.globalAlpha = alpha;
      pen.stroke(path);
      if (floor === undefined) continue;
      path.lineTo(stretch.at(-1)[0], floor);
      path.lineTo(stretch[0][0], floor);
      const fill = pen.createLinearGradient(0, 0, 0, floor);
      fill.addColorStop(0, color);
      // The same colour without any of it: "transparent" is black, and would grey it.
      fill.addColorStop(1, `${color}00`);
      pen.fillStyle = fill;
      pen.globalAlpha = 0.22;
      pen.fill(path);
    }
    pen.globalAlpha = 1;
  }

  /** What stands under the pointer, in words and as a dot. */
  mark(pen, x, y, color, now, height) {
    if (this.pointer === null) return;
    const seen = this.points.filter(({ values }) => (values?.[0] ?? null) !== null);
    const distance = (point) => Math.abs(x(point.time) - this.pointer);
    const nearest = seen.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
    if (!nearest) return;
    this.say(nearest, `${Math.max(0, Math.round((now - nearest.time) / 1000))} s ago`);
    const [atX, atY] = [x(nearest.time), y(nearest.values[0])];
    pen.fillStyle = color;
    pen.globalAlpha = 0.35;
    pen.fillRect(atX - 0.5, 0, 1, height);
    pen.globalAlpha = 1;
    pen.beginPath();
    pen.arc(atX, atY, 3.5, 0, FULL_TURN);
    pen.fill();
  }
}

/** A curve through the points that never swings beyond two neighbours: level tangents, half-way apart. */
function smooth(points) {
  const path = new Path2D();
  path.moveTo(...points[0]);
  for (let i = 1; i < points.length; i += 1) {
    const [[fromX, fromY], [toX, toY]] = [points[i - 1], points[i]];
    const middle = (fromX + toX) / 2;
    path.bezierCurveTo(middle, fromY, middle, toY, toX, toY);
  }
  return path;
}

/** Draws all charts with the screen, or once a second for people who want no motion. */
export function animate(charts) {
  let last = 0;
  const frame = () => {
    const now = Date.now();
    if (!still.matches || now - last >= 1000) {
      last = now;
      for (const chart of charts) chart.draw(now);
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

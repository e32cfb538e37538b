// The Centrifuge client protocol over JSON, as far as a page needs it: connect, subscribe, unsubscribe,
// pongs, several replies in one frame, and coming back after a break.

const GRACE = 10_000;

/** One connection that keeps its subscriptions. Says what happens through `on`: state, publication, topic. */
export class Client {
  constructor(on) {
    this.on = on;
    this.topics = new Map(); // topic -> "waiting" | "subscribed"
    this.pending = new Map(); // id of a command -> what to do with its reply
    this.lastId = 0;
    this.failures = 0;
  }

  /** Connects to `url`, instead of wherever this was before. */
  open(url) {
    clearTimeout(this.timer);
    this.socket?.close();
    this.url = url;
    this.pending.clear();
    this.connected = false;
    this.on.state("connecting");
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => this.greet();
    socket.onmessage = ({ data }) => { if (socket === this.socket) this.take(data); };
    socket.onclose = (event) => { if (socket === this.socket) this.closed(event); };
  }

  /** Connect and all subscriptions in one frame: nothing has to wait for a round trip. */
  greet() {
    const connect = this.command({ connect: { name: "page" } }, (reply) => this.welcomed(reply));
    const subscribes = [...this.topics.keys()].map((topic) => this.subscribeCommand(topic));
    this.socket.send([connect, ...subscribes].join("\n"));
  }

  welcomed({ error, connect }) {
    if (error) return this.on.state("refused", error.message);
    this.connected = true;
    this.failures = 0;
    this.patience = (connect.ping ?? 0) * 1000 + GRACE;
    this.hear();
    this.on.state("connected", connect.client);
  }

  /** Somebody who says nothing for longer than a ping takes is not there any more. */
  hear() {
    clearTimeout(this.timer);
    if (this.connected && this.patience > GRACE) this.timer = setTimeout(() => this.socket.close(), this.patience);
  }

  command(body, done) {
    this.lastId += 1;
    this.pending.set(this.lastId, done);
    return JSON.stringify({ id: this.lastId, ...body });
  }

  subscribeCommand(topic) {
    this.set(topic, "waiting");
    return this.command({ subscribe: { channel: topic } }, ({ error }) => {
      if (!this.topics.has(topic)) return;
      if (!error) return this.set(topic, "subscribed");
      if (error.temporary) return void setTimeout(() => this.resubscribe(topic), 1000);
      this.set(topic, null, `${error.message} (${error.code})`);
    });
  }

  resubscribe(topic) {
    if (this.connected && this.topics.has(topic)) this.socket.send(this.subscribeCommand(topic));
  }

  set(topic, state, why) {
    if (state) this.topics.set(topic, state);
    else this.topics.delete(topic);
    this.on.topic(topic, state, why);
  }

  subscribe(topic) {
    if (this.topics.has(topic)) return;
    this.set(topic, "waiting");
    this.resubscribe(topic);
  }

  unsubscribe(topic) {
    this.set(topic, null);
    if (this.connected) this.socket.send(this.command({ unsubscribe: { channel: topic } }, () => {}));
  }

  take(frame) {
    this.hear();
    for (const line of frame.split("\n").filter((line) => line.trim())) {
      const reply = JSON.parse(line);
      if (reply.push) this.pushed(reply.push);
      else if (reply.id) this.answered(reply);
      else this.socket.send("{}"); // a ping
    }
  }

  answered(reply) {
    this.pending.get(reply.id)?.(reply);
    this.pending.delete(reply.id);
  }

  pushed({ channel, pub, unsubscribe }) {
    if (pub) this.on.publication(channel, pub);
    if (!unsubscribe || !this.topics.has(channel)) return;
    if (unsubscribe.code >= 2500) this.resubscribe(channel);
    else this.set(channel, null, `the server ended it: ${unsubscribe.reason} (${unsubscribe.code})`);
  }

  closed({ code, reason }) {
    clearTimeout(this.timer);
    this.connected = false;
    const why = `${reason || "the connection broke"} (${code})`;
    if ((code >= 3500 && code < 4000) || (code >= 4500 && code < 5000)) return this.on.state("ended", why);
    for (const topic of this.topics.keys()) this.set(topic, "waiting");
    const pause = Math.min(20_000, 500 * 2 ** this.failures) * (0.5 + Math.random() / 2);
    this.failures = Math.min(this.failures + 1, 10);
    this.on.state("waiting", why);
    this.timer = setTimeout(() => this.open(this.url), pause);
  }
}

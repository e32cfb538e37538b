// Clients made of npm `centrifuge` as it comes, for the ledger: each is subscribed to every topic, and says in
// one line what comes.
//
//   node ledger.mjs URL FIRST COUNT TOPIC...
//
// A number on standard input takes the connection from under that client, without a close frame.

import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [url, first, count, ...topics] = process.argv.slice(2);
const cuts = new Map();

// Lines leave together, once per turn of the loop: there are many.
let waiting = [];
function say(...words) {
  if (waiting.push(words.join(' ')) === 1) {
    setImmediate(() => {
      process.stdout.write(`${waiting.join('\n')}\n`);
      waiting = [];
    });
  }
}

function start(index) {
  class Transport extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      cuts.set(index, () => this.terminate());
    }
  }
  const client = new Centrifuge(url, { websocket: Transport, minReconnectDelay: 50, maxReconnectDelay: 500 });
  client.on('connecting', ({ code, reason }) => say(index, 'connecting', code, reason));
  client.on('connected', ({ client: id }) => say(index, 'connected', id));
  client.on('disconnected', ({ code, reason }) => say(index, 'over', 'disconnected', code, reason));
  client.on('error', ({ error }) => say(index, 'error', error.code, error.message));
  topics.forEach((topic) => follow(index, client, topic));
  client.connect();
}

function follow(index, client, topic) {
  const options = { minResubscribeDelay: 50, maxResubscribeDelay: 500 };
  const subscription = client.newSubscription(topic, options);
  subscription.on('publication', ({ data, offset }) => say(index, 'publication', topic, data.n, offset ?? 0));
  subscription.on('subscribed', ({ wasRecovering, recovered, streamPosition, recoverable }) => {
    const { epoch = '-', offset = 0 } = streamPosition ?? {};
    say(index, 'subscribed', topic, wasRecovering && recovered, epoch, offset, wasRecovering, recoverable);
  });
  subscription.on('subscribing', ({ code, reason }) => say(index, 'subscribing', topic, code, reason));
  subscription.on('unsubscribed', ({ code, reason }) => say(index, 'over', 'unsubscribed', topic, code, reason));
  subscription.on('error', ({ error }) => say(index, 'refused', topic, error.code, error.message));
  subscription.subscribe();
}

for (let index = Number(first); index < Number(first) + Number(count); index += 1) start(index);

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => cuts.get(Number(line))());
lines.on('close', () => process.exit(0));

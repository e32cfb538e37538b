// A client made of npm `centrifuge` as it comes, driven by a test: commands on standard input, events on
// standard output, one JSON object a line.
//
//   node subscriber.mjs URL
//
// Commands: {"do": "subscribe" | "unsubscribe" | "publish" | "history" | "presence" | "rpc" | "disconnect" |
// "connect", "channel": ..., "data": ...}. Events carry what the SDK's own events carry.

import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [url] = process.argv.slice(2);
const client = new Centrifuge(url, { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 500 });

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

for (const event of ['connecting', 'connected', 'disconnected', 'error']) {
  client.on(event, ({ code, reason, client: id, error }) => say(event, { code, reason, client: id, error }));
}

function subscribe(channel) {
  const subscription = client.getSubscription(channel) ?? client.newSubscription(channel, { minResubscribeDelay: 50 });
  if (subscription.listeners('publication').length === 0) {
    subscription.on('publication', ({ data, offset, info }) => say('publication', { channel, data, offset, info }));
    for (const event of ['subscribing', 'subscribed', 'unsubscribed']) {
      subscription.on(event, ({ code, reason }) => say(event, { channel, code, reason }));
    }
    subscription.on('error', ({ error }) => say('subscription_error', { channel, code: error.code }));
  }
  subscription.subscribe();
}

// What the SDK answers with a promise becomes one event, `replied` or `refused`.
const ask = (promise) =>
  promise.then(
    (result) => say('replied', { result }),
    (error) => say('refused', { code: error.code, message: error.message, temporary: error.temporary }),
  );

const commands = {
  subscribe: ({ channel }) => subscribe(channel),
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  publish: ({ channel, data }) => ask(client.publish(channel, data)),
  history: ({ channel }) => ask(client.history(channel, { limit: 1 })),
  presence: ({ channel }) => ask(client.presence(channel)),
  rpc: ({ data }) => ask(client.rpc('method', data)),
  disconnect: () => client.disconnect(),
  connect: () => client.connect(),
};

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on('close', () => process.exit(0));
client.connect();

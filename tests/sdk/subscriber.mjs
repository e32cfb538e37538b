// A client made of npm `centrifuge` as it comes, driven by a test: commands on standard input, events on
// standard output, one JSON object a line.
//
//   node subscriber.mjs URL [TOKENS]
//
// Commands: {"do": "subscribe" | "unsubscribe" | "publish" | "history" | "presence" | "rpc" | "disconnect" |
// "connect", "channel": ..., "data": ...}. Events carry what the SDK's own events carry.
//
// TOKENS is {"token": ..., "getToken": true}, both optional; `subscribe` takes the same. With `getToken`, the SDK's
// function of that name says {"event": "token_wanted"}, and waits for {"do": "token", "token": ...}; both name the
// channel if the token is a subscription's.

import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [url, tokens = '{}'] = process.argv.slice(2);

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

// Of tokens that the SDK waits for, by channel.
const wanted = new Map();

/** The SDK's options for tokens. */
function tokenOptions({ token = '', getToken = false }) {
  const ask = ({ channel } = {}) => {
    say('token_wanted', { channel });
    return new Promise((resolve) => wanted.set(channel, resolve));
  };
  return getToken ? { token, getToken: ask } : { token };
}

const client = new Centrifuge(url, {
  websocket: WebSocket,
  minReconnectDelay: 50,
  maxReconnectDelay: 500,
  ...tokenOptions(JSON.parse(tokens)),
});

for (const event of ['connecting', 'connected', 'disconnected', 'error']) {
  client.on(event, ({ code, reason, client: id, error }) => say(event, { code, reason, client: id, error }));
}

// Of subscriptions that the server makes, the client itself tells.
for (const event of ['subscribing', 'subscribed', 'unsubscribed']) {
  client.on(event, ({ channel, data, recovered }) => say(event, { channel, data, recovered }));
}
client.on('publication', ({ channel, data, offset, info }) => say('publication', { channel, data, offset, info }));

function subscribe({ channel, ...tokens }) {
  const options = { minResubscribeDelay: 50, ...tokenOptions(tokens) };
  const subscription = client.getSubscription(channel) ?? client.newSubscription(channel, options);
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
  subscribe,
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  publish: ({ channel, data }) => ask(client.publish(channel, data)),
  history: ({ channel }) => ask(client.history(channel, { limit: 1 })),
  presence: ({ channel }) => ask(client.presence(channel)),
  rpc: ({ data }) => ask(client.rpc('method', data)),
  disconnect: () => client.disconnect(),
  connect: () => client.connect(),
  token: ({ channel, token }) => wanted.get(channel)(token),
};

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on('close', () => process.exit(0));
client.connect();

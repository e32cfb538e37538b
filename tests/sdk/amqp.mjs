// A publisher made of npm `amqplib`, driven by a test: one command a line on standard input, one answer a
// line on standard output, in order.
//
//   node amqp.mjs URL
//
// {"do": "publish", "exchange", "key", "base64", "options"}  answered when RabbitMQ has confirmed it
// {"do": "publish_many", "exchange", "key", "bodies"}        the same for a list of texts
// {"do": "exchange", "exchange", "type", "durable"}          declares an exchange
// {"do": "delete_exchange", "exchange"}                      deletes it
// {"do": "queue", "queue", "exchange", "key"}                declares a durable queue and binds it
// {"do": "get", "queue"}                                     takes one message, or null

import { createInterface } from 'node:readline';
import amqp from 'amqplib';

const connection = await amqp.connect(process.argv[2]);
const channel = await connection.createConfirmChannel();

const commands = {
  async publish({ exchange, key, base64, options }) {
    channel.publish(exchange, key, Buffer.from(base64, 'base64'), options);
    await channel.waitForConfirms();
  },
  async publish_many({ exchange, key, bodies }) {
    for (const body of bodies) channel.publish(exchange, key, Buffer.from(body), {});
    await channel.waitForConfirms();
  },
  exchange: ({ exchange, type, durable }) => channel.assertExchange(exchange, type, { durable }),
  delete_exchange: ({ exchange }) => channel.deleteExchange(exchange),
  async queue({ queue, exchange, key }) {
    await channel.assertQueue(queue, { durable: true });
    await channel.bindQueue(queue, exchange, key);
  },
  async get({ queue }) {
    const message = await channel.get(queue, { noAck: true });
    if (!message) return null;
    return { base64: message.content.toString('base64'), headers: message.properties.headers ?? {} };
  },
};

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ event: 'connected' });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  answer({ event: 'done', result: (await commands[command.do](command)) ?? null });
}
process.exit(0);

"""Clients made of PyPI's centrifuge-python as it comes (JSON), for the ledger: each is subscribed to every
topic, and says in one line what comes; the same lines as ledger.mjs.

    python ledger.py URL FIRST COUNT TOPIC...

A number on standard input takes the connection from under that client, without a close frame.
"""

import asyncio
import sys

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler


def say(*words):
    print(*words, flush=True)


class ClientEvents(ClientEventHandler):
    def __init__(self, index):
        self.index = index

    async def on_connecting(self, context):
        say(self.index, "connecting", context.code, context.reason)

    async def on_connected(self, context):
        say(self.index, "connected", context.client)

    async def on_disconnected(self, context):
        say(self.index, "over disconnected", context.code, context.reason)

    async def on_error(self, context):
        say(self.index, "error", context.code, repr(context.error))


class SubscriptionEvents(SubscriptionEventHandler):
    def __init__(self, index, topic):
        self.index = index
        self.topic = topic

    async def on_subscribing(self, context):
        say(self.index, "subscribing", self.topic, context.code, context.reason)

    async def on_subscribed(self, context):
        recovered = "true" if context.was_recovering and context.recovered else "false"
        position = context.stream_position
        epoch, offset = (position.epoch, position.offset) if position else ("-", 0)
        say(self.index, "subscribed", self.topic, recovered, epoch, offset, context.was_recovering)

    async def on_unsubscribed(self, context):
        say(self.index, "over unsubscribed", self.topic, context.code, context.reason)

    async def on_publication(self, context):
        say(self.index, "publication", self.topic, context.pub.data["n"], context.pub.offset or 0)

    async def on_error(self, context):
        say(self.index, "refused", self.topic, context.code)


async def start(url, index, topics):
    client = Client(url, events=ClientEvents(index), min_reconnect_delay=0.05, max_reconnect_delay=0.5)
    for topic in topics:
        subscription = client.new_subscription(
            topic, SubscriptionEvents(index, topic), min_resubscribe_delay=0.05, max_resubscribe_delay=0.5
        )
        await subscription.subscribe()
    await client.connect()
    return client


async def main(url, first, count, *topics):
    clients = {index: await start(url, index, topics) for index in range(int(first), int(first) + int(count))}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        # The SDK has no door for this: it hides its connection.
        connection = clients[int(line)]._conn
        if connection:
            connection.transport.abort()


asyncio.run(main(*sys.argv[1:]))

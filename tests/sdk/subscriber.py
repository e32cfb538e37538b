"""A client made of PyPI's centrifuge-python as it comes (JSON), driven by a test: commands on standard
input, events on standard output, one JSON object a line; the same ones as subscriber.mjs.

    python subscriber.py URL
"""

import asyncio
import json
import sys
from dataclasses import asdict

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class ClientEvents(ClientEventHandler):
    async def on_connecting(self, context):
        say("connecting", code=context.code, reason=context.reason)

    async def on_connected(self, context):
        say("connected", client=context.client)

    async def on_disconnected(self, context):
        say("disconnected", code=context.code, reason=context.reason)

    async def on_error(self, context):
        say("error", code=context.code, error=str(context.error))


class SubscriptionEvents(SubscriptionEventHandler):
    def __init__(self, channel):
        self.channel = channel

    async def on_subscribing(self, context):
        say("subscribing", channel=self.channel, code=context.code, reason=context.reason)

    async def on_subscribed(self, context):
        say("subscribed", channel=self.channel)

    async def on_unsubscribed(self, context):
        say("unsubscribed", channel=self.channel, code=context.code, reason=context.reason)

    async def on_publication(self, context):
        publication = context.pub
        info = publication.info and asdict(publication.info)
        say("publication", channel=self.channel, data=publication.data, offset=publication.offset, info=info)

    async def on_error(self, context):
        say("subscription_error", channel=self.channel, code=context.code)


async def ask(request):
    """What the SDK answers becomes one event, `replied` or `refused`."""
    try:
        await request
        say("replied")
    except ReplyError as error:
        say("refused", code=error.code, message=error.message, temporary=error.temporary)


async def obey(client, command):
    channel = command.get("channel", "")
    match command["do"]:
        case "subscribe":
            subscription = client.get_subscription(channel)
            if subscription is None:
                subscription = client.new_subscription(channel, SubscriptionEvents(channel))
            await subscription.subscribe()
        case "unsubscribe":
            await client.get_subscription(channel).unsubscribe()
        case "publish":
            await ask(client.publish(channel, command["data"]))
        case "history":
            await ask(client.history(channel, limit=1))
        case "presence":
            await ask(client.presence(channel))
        case "rpc":
            await ask(client.rpc("method", command["data"]))
        case "disconnect":
            await client.disconnect()


async def main(url):
    client = Client(url, events=ClientEvents(), min_reconnect_delay=0.05, max_reconnect_delay=0.5)
    await client.connect()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await obey(client, json.loads(line))


asyncio.run(main(sys.argv[1]))

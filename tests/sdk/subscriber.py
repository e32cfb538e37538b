"""A client made of PyPI's centrifuge-python as it comes (JSON), driven by a test: commands on standard
input, events on standard output, one JSON object a line; the same ones as subscriber.mjs, and the same TOKENS.

    python subscriber.py URL [TOKENS]
"""

import asyncio
import json
import sys
from dataclasses import asdict

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def say_publication(channel, publication):
    info = publication.info and asdict(publication.info)
    say("publication", channel=channel, data=publication.data, offset=publication.offset, info=info)


class ClientEvents(ClientEventHandler):
    async def on_connecting(self, context):
        say("connecting", code=context.code, reason=context.reason)

    async def on_connected(self, context):
        say("connected", client=context.client)

    async def on_disconnected(self, context):
        say("disconnected", code=context.code, reason=context.reason)

    async def on_error(self, context):
        say("error", code=context.code, error=str(context.error))

    # Of subscriptions that the server makes, the client itself tells.

    async def on_subscribing(self, context):
        say("subscribing", channel=context.channel)

    async def on_subscribed(self, context):
        say("subscribed", channel=context.channel, data=context.data, recovered=context.recovered)

    async def on_unsubscribed(self, context):
        say("unsubscribed", channel=context.channel)

    async def on_publication(self, context):
        say_publication(context.channel, context.pub)


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
        say_publication(self.channel, context.pub)

    async def on_error(self, context):
        say("subscription_error", channel=self.channel, code=context.code)


# Futures of tokens that the SDK waits for, by channel.
wanted = {}


def token_options(token="", getToken=False, **_):
    """The SDK's options for tokens."""

    async def ask_for_token(channel=None):
        say("token_wanted", channel=channel)
        wanted[channel] = asyncio.get_running_loop().create_future()
        return await wanted[channel]

    return {"token": token, "get_token": ask_for_token if getToken else None}


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
                subscription = client.new_subscription(
                    channel, SubscriptionEvents(channel), min_resubscribe_delay=0.05, **token_options(**command)
                )
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
        case "connect":
            await client.connect()
        case "token":
            wanted[command.get("channel")].set_result(command["token"])


async def main(url, tokens="{}"):
    options = token_options(**json.loads(tokens))
    client = Client(url, events=ClientEvents(), min_reconnect_delay=0.05, max_reconnect_delay=0.5, **options)
    loop = asyncio.get_running_loop()
    tasks = set()

    def begin(work):
        # A task, because it may wait for the token that a later command brings. They begin in order.
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    begin(client.connect())
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        begin(obey(client, json.loads(line)))


asyncio.run(main(*sys.argv[1:]))

"""PyPI's `cent` as it comes, against the server API. Prints one JSON object a line for the test to judge.

    python server_api.py URL KEY CLIENT
"""

import json
import sys

from cent import Client, CentApiResponseError, CentUnauthorizedError
from cent import (
    BroadcastRequest,
    ChannelsRequest,
    DisconnectRequest,
    InfoRequest,
    PresenceRequest,
    PublishRequest,
    UnsubscribeRequest,
)

url, key, someone = sys.argv[1:]
api = Client(f"{url}/api", key)


def say(step, **fields):
    print(json.dumps({"step": step, **fields}), flush=True)


api.publish(PublishRequest(channel="A", data={"n": 1}))
broadcast = api.broadcast(BroadcastRequest(channels=["A", "B"], data={"n": 2}))
say("broadcast", responses=len(broadcast.responses), errors=[r.error for r in broadcast.responses if r.error])
# Sent again because the answer was lost, say: a key names one publication of each channel.
for _ in range(2):
    api.publish(PublishRequest(channel="A", data={"n": 3}, idempotency_key="once"))
repeated = api.broadcast(BroadcastRequest(channels=["A", "B"], data={"n": 3}, idempotency_key="once"))
say("repeated", responses=len(repeated.responses), errors=[r.error for r in repeated.responses if r.error])
kept = api.publish(PublishRequest(channel="kept:A", data={"n": 1}))
say("kept", offset=kept.offset, epoch=kept.epoch)
try:
    api.presence(PresenceRequest(channel="A"))
except CentApiResponseError as error:
    say("unknown", code=error.code)
say("channels", channels={name: info.num_clients for name, info in api.channels(ChannelsRequest()).channels.items()})
nodes = api.info(InfoRequest()).nodes
say("info", nodes=len(nodes), clients=nodes[0].num_clients, channels=nodes[0].num_channels)
try:
    api.publish(PublishRequest(channel="", data={}))
except CentApiResponseError as error:
    say("refused", code=error.code)
try:
    Client(f"{url}/api", "wrong").info(InfoRequest())
except CentUnauthorizedError:
    say("unauthorized")
api.unsubscribe(UnsubscribeRequest(user="", client=someone, channel="A"))
say("unsubscribed")
sys.stdin.readline()
api.disconnect(DisconnectRequest(user="", client=someone))
say("disconnected")

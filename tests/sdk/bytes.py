"""A publisher whose routing keys and properties are any bytes, driven by a test: RabbitMQ passes on what client
libraries of other languages send, and pika's own checks are no help here. One command a line on standard input, one
answer a line on standard output. What RabbitMQ refuses ends it.

    python bytes.py URL

    {"exchange": NAME, "key": HEX, "properties": HEX, "body": TEXT}  ->  {"event": "confirmed"}

`properties` are the flags and what follows them, as they stand in a content header.
"""

import json
import ssl
import sys

import pika


class Bytes(pika.BasicProperties):
    def __init__(self, encoded):
        super().__init__()
        self.encoded = encoded

    def encode(self):
        return [self.encoded]


def say(event):
    print(json.dumps({"event": event}), flush=True)


parameters = pika.URLParameters(sys.argv[1])
if sys.argv[1].startswith("amqps:"):
    # Whom the engine trusts is tested; whom this trusts is not.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    parameters.ssl_options = pika.SSLOptions(context)
# Tests are short, and it answers nobody while it waits for a command.
parameters.heartbeat = 0
with pika.BlockingConnection(parameters) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    say("connected")
    for line in sys.stdin:
        command = json.loads(line)
        key, properties = bytes.fromhex(command["key"]), Bytes(bytes.fromhex(command["properties"]))
        channel.basic_publish(command["exchange"], key, command["body"].encode(), properties)
        say("confirmed")

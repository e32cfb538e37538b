"""A service that knows RabbitMQ and nothing else: publishes one message with PyPI's pika and waits for the
confirm.

    python publish.py URL KEY BODY
"""

import sys

import pika

url, key, body = sys.argv[1:]
with pika.BlockingConnection(pika.URLParameters(url)) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("fanfare", key, body.encode(), mandatory=True)

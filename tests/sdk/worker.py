"""A worker behind RabbitMQ, made of pika, that answers requests of clients as a test says.

    python worker.py URL QUEUE [KEY]

It shares QUEUE, which is bound to the exchange `fanfare.rpc` by KEY (`rpc.#`), with other workers, takes one request at a
time, and prints a JSON line for each. A request's data says what it does with it:

    {"n": 7}                          it answers {"n": 7, "user": ...}
    {"n": 7, "seconds": 0.5}          so much later
    {"n": 7, "times": 2}              so many times
    {"n": 7, "say": "text"}           with this instead of an answer
    {"n": 7, "bytes": 1000000}        with so many bytes
    {"n": 7, "never": true}           not at all
"""

import json
import sys
import time

import pika

url, queue, *key = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare("fanfare.rpc", "topic", durable=True)
channel.queue_declare(queue, durable=True)
channel.queue_bind(queue, "fanfare.rpc", *(key or ["rpc.#"]))
channel.basic_qos(prefetch_count=1)


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def answer(channel, method, properties, body):
    asked = json.loads(body) if body else {}
    say("asked", key=method.routing_key, data=asked, headers=properties.headers, again=method.redelivered)
    time.sleep(asked.get("seconds", 0))
    if "say" in asked:
        reply = asked["say"]
    elif "bytes" in asked:
        reply = json.dumps({"result": {"data": "x" * asked["bytes"]}})
    else:
        user = (properties.headers or {}).get("x-user")
        reply = json.dumps({"result": {"data": {"n": asked.get("n"), "user": user}}})
    if properties.reply_to and not asked.get("never"):
        for _ in range(asked.get("times", 1)):
            to = pika.BasicProperties(correlation_id=properties.correlation_id)
            channel.basic_publish("", properties.reply_to, reply, to)
    channel.basic_ack(method.delivery_tag)
    say("answered", data=asked)


channel.basic_consume(queue, answer)
say("ready")
channel.start_consuming()

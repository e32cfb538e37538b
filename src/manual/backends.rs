//! Backends: clients ask your application over the connection that they have, and the engine asks it about them.
//!
//! A *backend* is a program of yours that answers *calls*. There are two kinds of calls:
//!
//! * **Requests of clients.** A client calls `rpc(method, data)` of its SDK, and gets the backend's answer. With
//!   `send(data)` it sends a message that has no answer.
//! * **Hooks.** The engine asks whether a client may connect, subscribe or publish, and on what terms; and for how long a
//!   connection or a subscription that expires may stay.
//!
//! A backend is reached by **AMQP**, through the RabbitMQ that you have, or by **HTTP**. By HTTP the engine sends and
//! understands what Centrifugo's HTTP proxies do, so a backend that was written for them works unchanged.
//!
//! # Requests, answered by workers behind RabbitMQ
//!
//! Say who answers which methods. `amqp` is the backend behind RabbitMQ:
//!
//! <!-- test: file shop.toml -->
//! ```toml
//! [namespaces.order]     # the topics order:...
//!
//! [rpc.methods]
//! "order.*" = "amqp"     # who answers the methods order.…
//! ```
//!
//! Start RabbitMQ on this machine, and an engine:
//!
//! <!-- test: rabbitmq -->
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve --config shop.toml --amqp amqp://127.0.0.1:5672
//! ```
//!
//! A worker, in **Python** with `pip install pika`, as `worker.py`. Requests come to the exchange `fanfare.rpc` with the
//! routing key `rpc.<method>`. Their body is the client's data, which may be any JSON, or nothing; the headers `x-client` and
//! `x-user` say who asks. A worker must not end by what a client sends: RabbitMQ would give the request to the next worker.
//! As many workers as you like can share a queue:
//!
//! <!-- test: file worker.py -->
//! ```python
//! import json
//!
//! import pika
//!
//! connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1"))
//! channel = connection.channel()
//! channel.exchange_declare("fanfare.rpc", "topic", durable=True)
//! channel.queue_declare("orders", durable=True)
//! channel.queue_bind("orders", "fanfare.rpc", "rpc.order.*")
//! channel.basic_qos(prefetch_count=10)
//!
//!
//! def status(body):
//!     try:
//!         order = json.loads(body)["order"]
//!     except (ValueError, KeyError, TypeError):
//!         return {"error": {"code": 400, "message": "which order?"}}
//!     if order != 42:
//!         return {"error": {"code": 404, "message": "no such order"}}
//!     return {"result": {"data": {"order": order, "status": "shipped"}}}
//!
//!
//! def answer(channel, method, properties, body):
//!     channel.basic_publish(
//!         "",
//!         properties.reply_to,
//!         json.dumps(status(body)),
//!         pika.BasicProperties(correlation_id=properties.correlation_id),
//!     )
//!     channel.basic_ack(method.delivery_tag)
//!
//!
//! channel.basic_consume("orders", answer)
//! print("waiting for requests", flush=True)
//! channel.start_consuming()
//! ```
//!
//! <!-- test: start worker until "waiting for requests" -->
//! ```sh
//! python3 worker.py
//! ```
//!
//! The same in **Node** with `npm install amqplib`, as `worker.mjs`. It shares the queue with the first one:
//!
//! <!-- test: file worker.mjs -->
//! ```js
//! import amqp from 'amqplib';
//!
//! const connection = await amqp.connect('amqp://127.0.0.1:5672');
//! const channel = await connection.createChannel();
//! await channel.assertExchange('fanfare.rpc', 'topic', { durable: true });
//! await channel.assertQueue('orders', { durable: true });
//! await channel.bindQueue('orders', 'fanfare.rpc', 'rpc.order.*');
//! await channel.prefetch(10);
//!
//! function status(body) {
//!   try {
//!     const { order } = JSON.parse(body);
//!     if (order === undefined) throw new Error('no order');
//!     return order === 42
//!       ? { result: { data: { order, status: 'shipped' } } }
//!       : { error: { code: 404, message: 'no such order' } };
//!   } catch {
//!     return { error: { code: 400, message: 'which order?' } };
//!   }
//! }
//!
//! await channel.consume('orders', (message) => {
//!   if (message === null) throw new Error('the queue was deleted');
//!   const { replyTo, correlationId } = message.properties;
//!   const reply = Buffer.from(JSON.stringify(status(message.content)));
//!   channel.sendToQueue(replyTo, reply, { correlationId });
//!   channel.ack(message);
//! });
//! console.log('waiting for requests');
//! ```
//!
//! <!-- test: start node-worker until "waiting for requests" -->
//! ```sh
//! node worker.mjs
//! ```
//!
//! A client, with `npm install centrifuge ws`, as `ask.mjs` (a browser needs neither `ws` nor the option). It gets pushes
//! and asks over one connection:
//!
//! <!-- test: file ask.mjs -->
//! ```js
//! import { Centrifuge } from 'centrifuge';
//! import WebSocket from 'ws';
//!
//! const client = new Centrifuge('ws://127.0.0.1:8000/connection/websocket', { websocket: WebSocket });
//! client.newSubscription('order:42').subscribe();
//! client.connect();
//! await client.ready();
//! for (let asked = 0; asked < 4; asked += 1) {
//!   const { data } = await client.rpc('order.get', { order: 42 });
//!   console.log(`order ${data.order} is ${data.status}`);
//! }
//! for (const wrong of [{ order: 7 }, null, 'nonsense']) {
//!   await client.rpc('order.get', wrong).catch(({ code, message }) => console.log(code, message));
//! }
//! process.exit();
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! node ask.mjs
//! ```
//!
//! <!-- test: printed order 42 is shipped -->
//! <!-- test: printed 404 no such order -->
//! <!-- test: printed 400 which order? -->
//! <!-- test: stop worker -->
//! <!-- test: stop node-worker -->
//! <!-- test: stop engine -->
//!
//! # Hooks, answered by HTTP
//!
//! A backend with a `url` is asked by HTTP. What it is sent does not say which hook it is asked for, so each hook has a URL of
//! its own, and with it a `[backends.NAME]`; they may be of one program. This one says who clients are by the cookie of their
//! session, which rooms they may read, and what they may write:
//!
//! <!-- test: file rooms.toml -->
//! ```toml
//! [backends.connect]
//! url = "http://127.0.0.1:3000/connect"
//! headers = ["Cookie"]         # of the client's request, sent along
//!
//! [backends.subscribe]
//! url = "http://127.0.0.1:3000/subscribe"
//!
//! [backends.publish]
//! url = "http://127.0.0.1:3000/publish"
//!
//! [hooks]
//! connect = "connect"          # asked about clients without a token
//!
//! [namespaces.room]            # the topics room:...
//! subscribe_hook = "subscribe"
//! publish_hook = "publish"
//! ```
//!
//! The backend, in **Python** with `pip install fastapi uvicorn`, as `rooms.py`:
//!
//! <!-- test: file rooms.py -->
//! ```python
//! import uvicorn
//! from fastapi import FastAPI, Request
//!
//! app = FastAPI()
//!
//!
//! @app.post("/connect")
//! async def connect(request: Request):
//!     user = request.cookies.get("session")  # whom your login says
//!     if user is None:
//!         return {"disconnect": {"code": 4501, "reason": "log in first"}}
//!     return {"result": {"user": user, "info": {"name": user.title()}, "data": {"motd": "welcome"}}}
//!
//!
//! @app.post("/subscribe")
//! async def subscribe(call: dict):
//!     if call["channel"].endswith("-staff") and call["user"] != "eve":
//!         return {"error": {"code": 403, "message": "staff only"}}
//!     return {"result": {"data": {"topic": "gardening"}}}
//!
//!
//! @app.post("/publish")
//! async def publish(call: dict):
//!     message = call["data"]
//!     if not isinstance(message, dict) or not isinstance(message.get("text"), str):
//!         return {"error": {"code": 400, "message": "a message has a text"}}
//!     return {"result": {"data": {"text": message["text"].replace("damn", "****")}}}
//!
//!
//! print("backend at http://127.0.0.1:3000/", flush=True)
//! uvicorn.run(app, host="127.0.0.1", port=3000, log_level="warning")
//! ```
//!
//! <!-- test: start backend until "backend at" -->
//! ```sh
//! python3 rooms.py
//! ```
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve --config rooms.toml
//! ```
//!
//! Answer what a client must not send with an `error`, and status 200. A backend that fails at it (status 500) is left alone
//! after ten of these in a row (`failures`), for all clients: any one of them could bring that about.
//!
//! A client, as `room.mjs`. A browser sends its cookies by itself, if the page may ([Origins](super::operating)):
//!
//! <!-- test: file room.mjs -->
//! ```js
//! import { Centrifuge } from 'centrifuge';
//! import WebSocket from 'ws';
//!
//! class WithCookie extends WebSocket {
//!   constructor(url, protocols) {
//!     super(url, protocols, { headers: { Cookie: 'session=ann' } });
//!   }
//! }
//!
//! const client = new Centrifuge('ws://127.0.0.1:8000/connection/websocket', { websocket: WithCookie });
//! client.on('connected', ({ data }) => console.log(data.motd));
//! const staff = client.newSubscription('room:1-staff');
//! staff.on('unsubscribed', ({ code, reason }) => console.log(code, reason));
//! staff.subscribe();
//! const room = client.newSubscription('room:1');
//! room.on('subscribed', ({ data }) => {
//!   console.log(data.topic);
//!   room.publish('no text').catch(({ code, message }) => console.log(code, message));
//!   room.publish({ text: 'damn weeds' });
//! });
//! room.on('publication', ({ data, info }) => console.log(`${info.connInfo.name}: ${data.text}`));
//! room.subscribe();
//! client.connect();
//! ```
//!
//! <!-- test: start client until "Ann: **** weeds" -->
//! ```sh
//! node room.mjs
//! ```
//!
//! <!-- test: client said welcome -->
//! <!-- test: client said gardening -->
//! <!-- test: client said 403 staff only -->
//! <!-- test: client said 400 a message has a text -->
//!
//! # Which calls there are
//!
//! | Call | When | Configured by | `result` of the answer |
//! |---|---|---|---|
//! | `rpc` | a client asks | `rpc.methods` | `data` |
//! | `send` | a client sends a message | `rpc.send` | none; only a `disconnect` counts |
//! | `connect` | a client without a token connects | `hooks.connect` | `user`, `info`, `meta`, `expire_at`, `data`, `channels`, `subs`, `caps`. Without a `result`, the client is anonymous, if `tokens.anonymous` lets it in |
//! | `refresh` | a connection has expired | `hooks.refresh` | `expire_at`, `info`, `meta`, `caps`: without `expire_at` the connection does not expire any more, and what else is left out, or is an empty list, stays as it was; or `expired: true`, an `error`, or no `result`: the client is closed (3005) |
//! | `subscribe` | a client without a subscription token subscribes | `subscribe_hook` of the namespace | `info`, `data`, `expire_at`, `override` |
//! | `sub_refresh` | a subscription has expired | `sub_refresh_hook` of the namespace | `expire_at`, `info`; or `expired: true`, an `error`, or no `result`: the subscription ends (2501) |
//! | `publish` | a client publishes | `publish_hook` of the namespace | `data`: published instead; `skip_history` |
//!
//! Instead of `result`, an answer may have `error`, with `code`, `message` and `temporary`: the client's command fails with
//! that. Or `disconnect`, with `code` and `reason` (at most 123 bytes): the client is closed. Codes:
//!
//! | Code | | What SDKs do |
//! |---|---|---|
//! | error 400 to 1999 | yours | tell your application; with `temporary: true` they connect or subscribe again |
//! | error 1 to 399, and from 2000 on | passed on, as with Centrifugo; avoid them | take those of the protocol at their word (109: get another token), and those below 100 for their own, after which they try again without end |
//! | disconnect 4000 to 4499 | yours | connect again |
//! | disconnect 4500 to 4999 | yours | do not connect again |
//! | disconnect 3000 to 3999 | passed on, as with Centrifugo; avoid them | connect again up to 3499, and not from 3500 on |
//! | all others | the answer is not understood, and the client gets error 100 | try connects and subscribes again |
//!
//! `b64data` and `b64info` are taken for `data` and `info` in base64.
//!
//! **An answer without `result`, `error` and `disconnect`, such as `{}`, grants** a `subscribe`, a `publish` and an `rpc`, as
//! with Centrifugo. So does an answer in which these names are misspelt. But it **ends** a connection that `refresh` is asked
//! about, and a subscription that `sub_refresh` is asked about: these stay only if `result` says so.
//!
//! What a backend is told, as JSON. Everything has `client`, `transport`, `protocol` and `encoding`. What is empty is left out,
//! but for `user`:
//!
//! | Call | Besides |
//! |---|---|
//! | `connect` | `data`, `name`, `version`, `channels` |
//! | `refresh` | `user`, `meta` |
//! | `subscribe` | `user`, `channel`, `data`, `meta` |
//! | `sub_refresh` | `user`, `channel`, `meta` |
//! | `publish` | `user`, `channel`, `data`, `meta` |
//! | `rpc`, by HTTP | `user`, `method`, `data`, `meta` |
//! | `send`, by HTTP | `user`, `data`, `meta` |
//!
//! `meta` is told only if the backend has `meta = true`. By AMQP, the routing key of a hook is `hook.connect`,
//! `hook.refresh`, `hook.subscribe`, `hook.sub_refresh` or `hook.publish`, and its body is that JSON. The body of a
//! request is what the client has sent; it is empty if the client has sent nothing. A message of a client is like a
//! request, with the routing key `send` and without `reply_to`: nobody waits for an answer. No method of a client reaches
//! a hook; but a queue that is bound by `#` gets hooks as well as requests, and whatever its workers answer counts. If
//! `x-client`, `x-user` and `x-meta` do not fit into AMQP's headers, a request has the header `x-envelope: true`, and its
//! body is JSON with `client`, `user`, `meta`, `method` and `data`.
//!
//! Hooks and permissions: a token counts before a hook. A client that shows a token, valid or not, is not asked about at
//! connect, and one that shows a subscription token is not asked about at subscribe. With a `subscribe_hook`, the backend
//! decides instead of `client_subscribe`; private topics still need a token, topics that list users still admit these alone,
//! without asking, and `caps` of a token or of the connect hook that allow the subscription are enough. With a
//! `publish_hook`, the backend decides instead of `client_publish` and of `caps`.
//!
//! # Order
//!
//! Commands behind a connect wait for its answer. Two publishes of a client to one topic keep their order: the second waits
//! until the first one is published, and so do the commands behind it. Requests do not wait for each other, and their answers
//! come when they come; only where the requests of a client that are not answered have more bytes together than a message may
//! have (`limits.message_bytes`), its next one waits. Messages may overtake each other on their way to a backend.
//!
//! # When a backend does not answer
//!
//! A call is sent at most once. When a link is lost after it was sent, nobody knows whether the backend saw it: the client
//! gets error 100, which is temporary, and its SDK tries again with connects and subscribes; whether a request may be
//! repeated is for your application to say.
//!
//! | What happens | What the client sees |
//! |---|---|
//! | no answer within `timeout` (1 s); a status that is neither 200 nor named by `statuses`; an answer that is not understood, or larger than `answer_bytes`; the connection is lost or refused; RabbitMQ is away | error 100, temporary |
//! | no key of `rpc.methods` fits the method; by AMQP, no queue is bound for the call | error 108, at once |
//! | too many calls wait: `queue` of the backend, `limits.calls`, `limits.calls_bytes`; a call has waited for `queue_timeout`, which for a publish counts since it was read; a client has `limits.rpcs_per_client` requests that are not answered | error 111, temporary |
//! | a method with more than 251 bytes | error 107 |
//! | a backend has failed `failures` times in a row: it was away, did not answer in time, lost the connection, or answered with a status from 500 on; by AMQP, a lost link to RabbitMQ does not count | error 100 at once, for 1 s; then one call tries again, and each failure doubles the time, up to 30 s |
//!
//! So connects, subscribes and publishes are refused while the backend is away. `hook_failure = "allow"` in a namespace lets
//! clients subscribe and publish then. Beware: a backend that fails at what a client has sent (status 500, no answer in time)
//! lets it through with that. An answer that is not understood still refuses. Whatever keeps the backend of `refresh` or
//! `sub_refresh` from answering, connections and subscriptions that expire stay for another minute, and it is asked again.
//! One client may have an eighth of what is free of `queue` and of `limits.calls`; of `concurrency` it may have all. A message
//! (`send`) beyond that is dropped, and counted as `busy`.
//!
//! Set `concurrency` to what the backend can answer within `timeout`: of a backend that is sent more at the same time, the
//! engine gives up calls that the backend still works on. All methods and hooks by AMQP are one backend, with one
//! `concurrency`, and are left alone together. By HTTP, the `concurrency` of each backend is kept from the descriptors of
//! clients (`limits.clients`). Connections are kept for 60 s: let the backend keep them for longer, as a call that it meets
//! with a closing connection is lost (error 100).
//!
//! When a client leaves, what waits in the queue about it is dropped: its connect, its subscribes, and what prolongs it. That
//! is counted with the outcome `left`. Requests, messages and publishes of a client that has left are sent all the same.
//! A subscribe that the backend is asked about gets error 103 when the API's `unsubscribe` names its topic. If it waits in the
//! queue, the backend is not asked any more; if not, the answer changes nothing.
//!
//! An answer that cannot be used, by its content, its length or its status, is told in the log with the backend, the call and
//! what is wrong with it, and so is a message of a client that no backend gets: once in ten seconds for each backend, with how
//! many there were since. What a backend said is never shown.
//!
//! A late answer, and a second one, is dropped and counted (`fanfare_call_answers_unexpected_total`). `/health` names the
//! backends that are left alone, and `fanfare_calls_total{backend,call,outcome}`, `fanfare_calls_in_flight`,
//! `fanfare_calls_waiting`, `fanfare_backend_suspended` and `fanfare_call_seconds` show the rest.
//!
//! # By HTTP
//!
//! Each call is a `POST` with `Content-Type: application/json`, over connections that are kept. Redirects are not followed.
//! With `https://`, `ca_file` names the authorities that are trusted. `headers` lists the headers of the client's HTTP
//! request that are sent along, such as `Cookie`; `client_headers` those that a client may say in its connect command, which
//! any script of a page can choose, and which take the place of static ones; `static_headers` are sent with each call. Clients
//! that connected before a reload named further headers have none of these. `statuses` gives statuses from 400
//! to 599 a meaning; with all others but 200, a call has failed:
//!
//! <!-- test: file statuses.toml -->
//! ```toml
//! [backends.shop]
//! url = "https://shop.example/fanfare"
//! static_headers = { X-Api-Key = "secret" }
//! statuses = [
//!     { status = 404, error = { code = 404, message = "no such order" } },
//!     { status = 403, disconnect = { code = 4503, reason = "banned" } },
//! ]
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! cargo run --release -- check --config statuses.toml
//! ```
//!
//! # Coming from Centrifugo
//!
//! | Centrifugo | Here |
//! |---|---|
//! | `client.proxy.connect` with `endpoint` | `[backends.NAME]` with `url`, and `hooks.connect = "NAME"` |
//! | `client.proxy.refresh` | `hooks.refresh` |
//! | `rpc.proxy`, RPC namespaces | `rpc.methods`: `"ns:*" = "NAME"`, `"*" = "NAME"` |
//! | `channel.namespaces[].subscribe_proxy_enabled` and `subscribe_proxy_name` | `subscribe_hook = "NAME"` in the namespace; likewise `publish_hook` and `sub_refresh_hook` |
//! | `timeout`, `http_headers`, `emulated_headers` | `timeout`, `headers`, `client_headers` |
//! | `http.static_headers`, `http.status_to_code_transforms` | `static_headers`, `statuses` |
//! | `include_connection_meta` | `meta = true` |
//!
//! Not offered: gRPC, `binary_encoding` of requests, and the streams of `subscribe_stream`.

//! Identity: how clients say who they are, with tokens that your application signs.
//!
//! A client shows a token when it connects: a JSON Web Token (RFC 7519). The application's backend makes it for the
//! user who is logged in, and signs it with a key. The engine verifies the signature; it never asks the backend. So you
//! need one secret that backend and engine share, and one endpoint of the backend.
//!
//! # From nothing to a connected user
//!
//! Make a secret, and a configuration in which users write in rooms:
//!
//! <!-- test: file chat.toml -->
//! ```toml
//! [namespaces.chat]              # the topics chat:...
//! client_publish = ["user"]      # clients with a user id may publish
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! (umask 077; head -c 32 /dev/urandom | base64 > secret)
//! ```
//!
//! Start an engine with them. As soon as there is a secret, clients need a token:
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! FANFARE_TOKENS_HMAC_KEYS="$(cat secret)" cargo run --release -- serve --config chat.toml
//! ```
//!
//! The backend, in **Python** with `pip install PyJWT`, as `backend.py`. It gives tokens to the user of the session:
//! those of connections, and those of subscriptions to private topics, whose names begin with `$`:
//!
//! <!-- test: file backend.py -->
//! ```python
//! import time
//! from http.server import BaseHTTPRequestHandler, HTTPServer
//! from urllib.parse import parse_qs, urlparse
//!
//! import jwt
//!
//! secret = open("secret").read().strip()
//!
//!
//! class Backend(BaseHTTPRequestHandler):
//!     def do_GET(self):
//!         user = "ann"  # whom your login says; answer 403 if nobody is logged in
//!         claims = {"sub": user, "exp": int(time.time()) + 600}
//!         channel = parse_qs(urlparse(self.path).query).get("channel")
//!         if channel:
//!             claims["channel"] = channel[0]  # answer 403 if the user may not read it
//!         else:
//!             claims["info"] = {"name": "Ann"}  # what other users are shown
//!         self.send_response(200)
//!         self.end_headers()
//!         self.wfile.write(jwt.encode(claims, secret, algorithm="HS256").encode())
//!
//!
//! server = HTTPServer(("127.0.0.1", 3000), Backend)
//! print("tokens at http://127.0.0.1:3000/", flush=True)
//! server.serve_forever()
//! ```
//!
//! <!-- test: start backend until "tokens at" -->
//! ```sh
//! python3 backend.py
//! ```
//!
//! The same in **Node** with `npm install jose`, as `backend.mjs`:
//!
//! <!-- test: file backend.mjs -->
//! ```js
//! import { readFileSync } from 'node:fs';
//! import { createServer } from 'node:http';
//! import { SignJWT } from 'jose';
//!
//! const secret = new TextEncoder().encode(readFileSync('secret', 'utf8').trim());
//!
//! const server = createServer(async (request, response) => {
//!   const claims = { sub: 'ann' };  // whom your login says; answer 403 if nobody is logged in
//!   const channel = new URL(request.url, 'http://127.0.0.1').searchParams.get('channel');
//!   if (channel) claims.channel = channel;  // answer 403 if the user may not read it
//!   else claims.info = { name: 'Ann' };  // what other users are shown
//!   const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setExpirationTime('10m');
//!   response.end(await token.sign(secret));
//! });
//! server.listen(3000, '127.0.0.1', () => console.log('tokens at http://127.0.0.1:3000/'));
//! ```
//!
//! A client, with `npm install centrifuge ws`, as `chat.mjs` (a browser needs neither `ws` nor the option). The SDK
//! calls `getToken` when it needs a token: to connect, and each time that one expires.
//!
//! <!-- test: file chat.mjs -->
//! ```js
//! import { Centrifuge, UnauthorizedError } from 'centrifuge';
//! import WebSocket from 'ws';
//!
//! async function token(query = '') {
//!   const response = await fetch(`http://127.0.0.1:3000/${query}`);
//!   if (response.status === 403) throw new UnauthorizedError('');  // the client ends
//!   if (!response.ok) throw new Error(`status ${response.status}`);  // it tries again later
//!   return response.text();
//! }
//!
//! const client = new Centrifuge('ws://127.0.0.1:8000/connection/websocket', {
//!   websocket: WebSocket,
//!   getToken: () => token(),
//! });
//! client.on('disconnected', ({ code, reason }) => console.log('disconnected', code, reason));
//!
//! const room = client.newSubscription('chat:$room', {
//!   getToken: ({ channel }) => token(`?channel=${encodeURIComponent(channel)}`),
//! });
//! room.on('publication', ({ data, info }) => console.log(`${info.connInfo.name} (${info.user}): ${data}`));
//! room.on('subscribed', () => room.publish('hello'));
//! room.subscribe();
//! client.connect();
//! ```
//!
//! It connects as the user `ann`, opens the private topic, and prints what it wrote, `Ann (ann): hello`:
//!
//! <!-- test: start chat until "Ann (ann): hello" -->
//! ```sh
//! node chat.mjs
//! ```
//! <!-- test: stop chat -->
//! <!-- test: stop backend -->
//!
//! With the backend in Node instead, it prints the same:
//!
//! <!-- test: start backend until "tokens at" -->
//! ```sh
//! node backend.mjs
//! ```
//! <!-- test: start chat until "Ann (ann): hello" -->
//! ```sh
//! node chat.mjs
//! ```
//! <!-- test: stop chat -->
//!
//! In Python's SDK the options are called `get_token`. Where a page is served from another host than the engine, list
//! its origin in `server.allowed_origins`.
//!
//! # Try tokens out
//!
//! `check-token` shows what a token says, and whether an engine with these keys accepts it, and why not:
//!
//! <!-- test: run -->
//! ```sh
//! export FANFARE_TOKENS_HMAC_KEYS="$(cat secret)"
//! curl --silent http://127.0.0.1:3000/ | cargo run --release -- check-token -
//! ```
//! <!-- test: printed accepted   as the token of a connection -->
//!
//! `token` makes one without a backend:
//!
//! <!-- test: run -->
//! ```sh
//! export FANFARE_TOKENS_HMAC_KEYS="$(cat secret)"
//! cargo run --release -- token --user ann --topic 'chat:$room' --ttl 10m > ann.token
//! cargo run --release -- check-token - < ann.token
//! ```
//! <!-- test: printed accepted   as the token of a subscription -->
//! <!-- test: stop backend -->
//! <!-- test: stop engine -->
//!
//! # What a token says
//!
//! | Claim | In tokens of | Meaning |
//! |---|---|---|
//! | `sub` | both | The user's id, text of at most `limits.user_max` bytes (256). Without it, or empty: an anonymous client. `tokens.user_id_claim` names another claim instead. |
//! | `exp` | both | Until when the token is valid, in seconds since 1970. The connection or the subscription expires then. |
//! | `nbf` | both | From when it is valid. |
//! | `expire_at` | both | When the connection or the subscription expires, if that is another time than `exp`. 0: never. |
//! | `iat`, `jti` | both | No effect. `iat` must be a number. |
//! | `iss`, `aud` | both | Compared with `tokens.issuer` and `tokens.audience`, if these are set. `aud` is text, or a list that must contain it. |
//! | `info` | both | JSON that others are shown beside what the client publishes: `conn_info` of the connection, `chan_info` of the subscription. |
//! | `meta` | connections | JSON for backends. It is checked, and nobody is told it yet. |
//! | `channels`, `subs` | connections | Topics that the client is subscribed to when it connects, without a permission: see [permissions](super::permissions#subscriptions-that-the-server-makes). |
//! | `caps` | connections | What the client may do besides what namespaces permit: see below. |
//! | `channel` | subscriptions | The topic. It must be the one that the client subscribes to. |
//! | `client` | subscriptions | The id of the only client that may use it. |
//! | `data` | subscriptions | JSON that the client is told when it is subscribed. |
//! | `override` | subscriptions | Options of this subscription instead of the namespace's, such as `{"force_recovery": {"value": true}}`; also `force_positioning`. |
//!
//! `info`, `meta` and `data` have at most `limits.info_bytes` each (1 KiB). `b64info` and `b64data` hold the same in
//! base64. Other claims are passed over. A known claim of the wrong type, or one that is there twice, makes the token
//! invalid: `exp` as text, for example. A token goes in a command, so it is shorter than `limits.message_bytes` (64
//! KiB).
//!
//! A token with `channel` opens no connection. A token without it opens no subscription.
//!
//! # Capabilities
//!
//! `caps` is a list. Each member allows something with some topics:
//!
//! ```text
//! "caps": [
//!   {"channels": ["news", "chat:general"], "allow": ["sub", "pub"]},
//!   {"channels": ["chat:team-*"], "match": "wildcard", "allow": ["sub", "hst"]},
//!   {"channels": ["^order:[0-9]+$"], "match": "regex", "allow": ["sub"]}
//! ]
//! ```
//!
//! * `allow`: `sub` to subscribe, `pub` to publish, `hst` to read the history, `prs` for presence, which is not offered
//!   yet.
//! * `match`: without it, `channels` are names. In `wildcard`, `*` stands for any number of characters, `:` included.
//!   `regex` is a regular expression, which may match any part of a name: write `^` and `$` where it has to match the
//!   whole.
//! * Limits: `limits.topics_per_client` members and as many `channels` in all (128). At most 16 regular expressions, of
//!   at most 256 bytes each, and 64 KiB when compiled. They take linear time, so references back and looking around are
//!   not supported.
//! * Private topics, topics that list users, and namespaces with `server_only` do not open by `sub`:
//!   [`permissions`](super::permissions) has all rules.
//!
//! # Where a token may stand
//!
//! The first of these that a client sends counts:
//!
//! | Place | For |
//! |---|---|
//! | `token` of the connect command: `token` and `getToken` of the SDKs | all clients |
//! | `Authorization: Bearer ...` in `headers` of the connect command: the option `headers` of the JavaScript SDK | pages, whose requests cannot have this header |
//! | `Authorization: Bearer ...` of the HTTP request | programs, and proxies that add it |
//! | a parameter of the query, named by `server.token_query` | clients that can do nothing else: proxies write URLs to their logs |
//! | a cookie, named by `server.token_cookie` | pages whose login sets it; `server.allowed_origins` must list their origins |
//!
//! Only a client with a token in the first place is told when it expires: the SDK then calls `getToken`. All others are
//! closed with 3005 when their token has expired. They connect again, with the cookie or the header that there is then.
//!
//! A token of the request that is not valid is answered with 401, before there is a WebSocket. A page cannot read that
//! answer. So a token that was valid and has expired opens the WebSocket: if the connect command has no token of its own,
//! it gets error 109. Headers of another scheme, such as `Basic`, are not looked at, and without a key none is.
//!
//! # When something expires
//!
//! The reply to connect and to subscribe tells the SDK in how many seconds the token expires. The SDK then calls
//! `getToken`, and sends what it gets. It has `timeouts.expired` (25 s) for that.
//!
//! | What happens | What the client gets | What the SDK does |
//! |---|---|---|
//! | The new token arrives in time | a reply with the next time | goes on; nothing is interrupted |
//! | No new token within 25 s, connection | closed with 3005 | connects again: it shows the old token, gets 109, and calls `getToken` |
//! | No new token within 25 s, subscription | unsubscribed with 2501 | subscribes again, likewise |
//! | Connect or subscribe with a token that has expired, or is not valid yet | error 109 | calls `getToken` and tries again; without `getToken` it ends with its own code 1 |
//! | Connect or subscribe with an `expire_at` that has passed | error 110 | ends |
//! | The new token of a connection has expired as well | closed with 3005 | as above |
//! | The new token of a subscription has expired as well | error 110 | ends the subscription |
//! | `getToken` throws `UnauthorizedError` | nothing | ends with its own code 1 |
//!
//! A new token replaces the one before: `info`, `caps`, and when it expires. It must be of the same user. Subscriptions
//! that `caps` allowed go on if the new token allows them no more; they end with the connection.
//!
//! # When something is wrong
//!
//! | What is wrong | What the client gets | What the SDK does |
//! |---|---|---|
//! | No token, where one is needed (`tokens.anonymous`) | closed with 3501 | ends |
//! | A client stays after an error reply to its connect | closed: 3004 if the error is temporary, 3005 after 109 and 110, 3501 after 107, 3507 after others | SDKs leave by themselves |
//! | The connection's token: form, signature, claims, issuer or audience | closed with 3500 | ends |
//! | A new token of another user | closed with 3500 | ends |
//! | A subscription's token: form, signature or claims | error 103 | ends the subscription |
//! | The same in a new token of a subscription | closed with 3500 | ends |
//! | A subscription's token of another user, topic or client | closed with 3500 | ends |
//! | The key that signed a token may be in the key set that is fetched next (`jwks.url`) | error 100, temporary | tries again, later and later |
//! | Not permitted | error 103 | ends the subscription, or fails the command |
//!
//! The log says why a token was refused, without showing any of it: one line in 10 s from each shard, and how
//! many more there were. `fanfare
//! check-token` says it for a token at hand. `fanfare_tokens_verified_total` counts signatures that were checked: a
//! shard remembers `limits.tokens` tokens, valid and refused ones.
//!
//! # Clocks
//!
//! A token is valid before `exp` by the clock of the engine's host. Where that clock and the backend's differ, set
//! `tokens.leeway`: with `"60s"`, a token counts a minute before `nbf` and a minute after `exp` and `expire_at`. What a
//! connection has learnt does not change when somebody sets the clock later.
//!
//! # Keys
//!
//! A token is accepted if one of the keys signed it, so keys can be replaced without closing anybody:
//!
//! 1. List the new secret before the old one, and reload the engines ([`configuration`](super::configuration)). Where
//!    the secrets are in the environment, `FANFARE_TOKENS_HMAC_KEYS=new,old`, start them again instead.
//! 2. Give the backend the new secret.
//! 3. When the last token of the old secret has expired, remove it.
//!
//! If a secret is known to somebody else, remove it at once: its tokens open nothing more. A reload closes nobody. Whoever
//! is connected with such a token stays until it expires, for ever if it has no `exp`, unless the server API's `disconnect`
//! or a restart ends the connection. It ends with 3500 when it connects again.
//!
//! A secret can sign as well as verify. If engines should only verify, sign with a private key: RSA of at least 2,048
//! bits (RS256, RS384, RS512), EC P-256 (ES256), EC P-384 (ES384) or Ed25519 (EdDSA). Engines get the public key, or a
//! certificate, in PEM:
//!
//! <!-- test: run -->
//! ```sh
//! openssl genpkey -algorithm ed25519 -out private.pem
//! openssl pkey -in private.pem -pubout -out public.pem
//! export FANFARE_TOKENS_PUBLIC_KEYS=public.pem
//! cargo run --release -- token --user ann --key-file private.pem > ann.token
//! cargo run --release -- check-token - < ann.token
//! ```
//! <!-- test: printed accepted   as the token of a connection -->
//!
//! Where an identity provider signs, it publishes its keys as a JSON Web Key Set (RFC 7517). The engine fetches it from a
//! URL, or reads it from a file (`jwks.file`). A token that names a key (`kid`) is verified by that key alone.
//!
//! ```text
//! [jwks]
//! url = "https://issuer.example/.well-known/jwks.json"
//! ```
//!
//! * The set is fetched at the start, every hour (`jwks.refresh`), and when a token names a key that the set lacks, at most
//!   every 5 s. So a provider can sign with a new key as soon as it has published it. A key that it has removed is accepted
//!   until the next fetch.
//! * While the URL is away, or answers with something else, the keys that it had count. An engine starts without the set as
//!   well. If nobody can connect without it, `/health/ready` answers 503 until the set has come.
//! * A token whose key may be in the next set gets the temporary error 100, on which SDKs try again; in a request, it is
//!   refused with 503. Within 5 s after a fetch, a key that is not in the set does not exist: 3500, or 103.
//! * A fetch has 5 s, and takes at most 1 MiB and 100 keys. Redirects are not followed: the answer decides who comes in, and
//!   must come from the host that is configured. `http://` is for programs of this host. `jwks.ca_file` names a file with
//!   an authority of your own.
//! * Keys that are damaged, too short, or of a kind that is not used here are passed over, and the log says so. An answer
//!   without any other key is no set.
//! * `fanfare check --connect` fetches the set, and so does `fanfare check-token`. `fanfare_key_set_time_seconds` says when it
//!   was fetched, `fanfare_key_set_failures_total` how often that failed, and `fanfare_tokens_undecided_total` how many tokens
//!   waited for a key.
//!
//! `[subscription_tokens]` has keys for tokens of subscriptions alone. Without it, all keys verify both.
//!
//! Each kind of key serves the algorithms of its own kind only: a token that is signed with a public key as if it were
//! a secret is refused, as is `"alg": "none"`.
//!
//! # Without tokens
//!
//! As long as there is no key, and only programs of this host can connect, clients need no token and are anonymous. A
//! key, or a listener that other hosts can reach, ends that. `tokens.anonymous = "allow"` lets clients connect with and
//! without a token; namespaces say what anonymous clients may do. A proxy on this host makes a loopback listener
//! public: set a key, or `tokens.anonymous = "refuse"`.

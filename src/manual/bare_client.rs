//! A client in 30 lines, without an SDK.
//!
//! The engine serves this page on its control port:
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve --demo
//! ```
//!
//! Open <http://127.0.0.1:9000/order.html>. The page loads nothing else. The protocol is JSON in text frames,
//! with one object per line.
//!
//! <!-- test: skip the engine serves it, and a unit test compares the two -->
//! ```html
//! <!doctype html>
//! <meta charset="utf-8">
//! <title>Order 42</title>
//! <h1>Order 42</h1>
//! <p id="state">connecting</p>
//! <ol id="list"></ol>
//! <script>
//!   const socket = new WebSocket("ws://127.0.0.1:8000/connection/websocket");
//!   const say = (text) => { document.getElementById("state").textContent = text; };
//!
//!   socket.onopen = () => socket.send(
//!     '{"id":1,"connect":{}}\n' +
//!     '{"id":2,"subscribe":{"channel":"order.42"}}');
//!
//!   socket.onmessage = ({ data }) => {
//!     for (const line of data.trim().split("\n")) {
//!       if (line === "{}") { socket.send("{}"); continue; }  // a ping; without an answer we would be closed
//!       const { id, error, push } = JSON.parse(line);
//!       if (error) say(`refused: ${error.message}`);
//!       else if (id === 2) say("subscribed");
//!       else if (push?.pub) {
//!         const item = document.createElement("li");
//!         item.textContent = JSON.stringify(push.pub.data);
//!         document.getElementById("list").append(item);
//!       }
//!     }
//!   };
//!
//!   socket.onclose = ({ code, reason }) => say(`closed: ${code} ${reason}`);
//! </script>
//! ```
//! <!-- test: browse http://127.0.0.1:9000/order.html until "subscribed" -->
//!
//! Publish, and the page shows it:
//!
//! <!-- test: run -->
//! ```sh
//! curl http://127.0.0.1:9000/api/publish -d '{"channel": "order.42", "data": {"order": 42, "by": "curl"}}'
//! ```
//! <!-- test: page shows {"order":42,"by":"curl"} -->
//! <!-- test: stop engine -->
//!
//! # Pages of your own
//!
//! A page of your own has another origin than the engine. The engine refuses its WebSocket with 403 until the
//! origin is listed in `server.allowed_origins`. A browser says only that the WebSocket failed; the engine's
//! log names the origin. To allow every port of this machine, start the engine with
//! `FANFARE_SERVER_ALLOWED_ORIGINS="http://localhost:*"`.
//!
//! A page that is opened from disk has the origin `null`. You can list that as well, but then every web page
//! that you visit can connect, from a sandboxed frame.

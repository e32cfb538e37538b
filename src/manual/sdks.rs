//! The SDKs that work today, with examples.
//!
//! The Centrifuge SDKs for JavaScript (`centrifuge`), Python (`centrifuge-python`) and Go (`centrifuge-go`)
//! connect unmodified, with JSON. Their own documentation applies. README has the example in JavaScript. The
//! SDKs for Dart, Swift and Java speak Protobuf only; they will work when Fanfare does.
//!
//! Start an engine:
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve
//! ```
//!
//! In **Python** with `pip install centrifuge-python`, as `order.py`:
//!
//! <!-- test: file order.py -->
//! ```python
//! import asyncio
//! from centrifuge import Client, SubscriptionEventHandler
//!
//!
//! class Order(SubscriptionEventHandler):
//!     async def on_subscribed(self, context):
//!         print("subscribed", flush=True)
//!
//!     async def on_publication(self, context):
//!         print(context.pub.data, flush=True)
//!
//!
//! async def main():
//!     client = Client("ws://127.0.0.1:8000/connection/websocket")
//!     await client.connect()
//!     await client.new_subscription("order.42", Order()).subscribe()
//!     await asyncio.Event().wait()
//!
//!
//! asyncio.run(main())
//! ```
//!
//! <!-- test: start python until "subscribed" -->
//! ```sh
//! python3 order.py
//! ```
//!
//! On the command line, without an SDK:
//!
//! <!-- test: start subscriber until "subscribed" -->
//! ```sh
//! cargo run --release -- subscribe order.42
//! ```
//!
//! Publish in another terminal, and both print it:
//!
//! <!-- test: run -->
//! ```sh
//! cargo run --release -- publish order.42 '{"order": 42, "by": "hand"}'
//! ```
//! <!-- test: subscriber said "hand" -->
//! <!-- test: python said 'by': 'hand' -->
//! <!-- test: stop subscriber -->
//! <!-- test: stop python -->
//! <!-- test: stop engine -->
//!
//! In **Go**, use `NewJsonClient`; `NewProtobufClient` does not work yet. In a new folder, as `order.go`:
//!
//! <!-- test: skip the tests install no Go -->
//! ```go
//! package main
//!
//! import (
//!     "fmt"
//!
//!     "github.com/centrifugal/centrifuge-go"
//! )
//!
//! func main() {
//!     client := centrifuge.NewJsonClient("ws://127.0.0.1:8000/connection/websocket", centrifuge.Config{})
//!     order, err := client.NewSubscription("order.42")
//!     if err != nil {
//!         panic(err)
//!     }
//!     order.OnSubscribed(func(centrifuge.SubscribedEvent) { fmt.Println("subscribed") })
//!     order.OnPublication(func(event centrifuge.PublicationEvent) { fmt.Println(string(event.Data)) })
//!     order.Subscribe()
//!     client.Connect()
//!     select {}
//! }
//! ```
//!
//! <!-- test: skip the tests install no Go -->
//! ```sh
//! go mod init order
//! go get github.com/centrifugal/centrifuge-go
//! go run order.go
//! ```

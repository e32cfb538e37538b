//! Peers that do not read their answers.

use axum::routing::{any, get};

use super::*;
use crate::config::Interval;
use crate::config::memory::API_PIPELINED_MAX;
use crate::control::api;

/// The time limit of a body.
const LIMIT: Duration = Duration::from_secs(1);

/// More than sockets take of an answer that is not read.
const LARGE_BYTES: usize = 24 << 20;

/// HTTP/2 for peers that read nothing for a while: the preface, settings with a window for the largest answer, the same
/// window for the connection, and a request for such an answer.
fn begin() -> Vec<u8> {
    let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4][..], &(1_u32 << 30).to_be_bytes()].concat();
    let window = [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &(1_u32 << 30).to_be_bytes()].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    [preface, &settings[..], &window, &headers(1, "/large", b"\x82", 5)].concat()
}

/// The frame with the head of a request; `method` is a field of HPACK's static table.
fn headers(stream: u32, path: &str, method: &[u8], flags: u8) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    let block = [method, b"\x86\x04", &[length], path.as_bytes(), b"\x01\x09localhost"].concat();
    frame(1, flags, stream, &block)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The bytes of DATA for this stream.
fn data(mut frames: &[u8], stream: u32) -> String {
    let mut data = Vec::new();
    while let Some((head, rest)) = frames.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, next) = rest.split_at(length.min(rest.len()));
        if head[3] == 0 && head[5..] == stream.to_be_bytes() {
            data.extend_from_slice(payload);
        }
        frames = next;
    }
    String::from_utf8(data).unwrap()
}

/// A connection with the API, and with answers that are larger than what sockets take.
async fn serve_large(buffers: Option<u32>) -> Served {
    let mut config = Config::default();
    config.timeouts.upgrade = Interval(LIMIT);
    let state = state(config);
    let router = Router::new()
        .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
        .route("/api/{method}", any(api::answer))
        .with_state(Arc::clone(&state));
    serve_with(&mut Places::default(), Service { router, state }, buffers).await
}

/// Reads until the answer on this stream contains `text`.
async fn read_until(peer: &mut TcpStream, stream: u32, text: &str) -> String {
    let (mut all, mut bytes) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let read = timeout(TIMEOUT, peer.read(&mut bytes)).await.expect("an answer").unwrap();
        all.extend_from_slice(&bytes[..read]);
        // It comes behind the large one.
        if read == 0 || all.len() > LARGE_BYTES {
            let data = data(&all, stream);
            assert!(read > 0 || data.contains(text), "it is closed: {data}");
            if data.contains(text) {
                return data;
            }
        }
    }
}

/// By HTTP/2 it is read on, whatever the peer does not take of other answers.
#[tokio::test]
async fn half_a_body_by_http_2_is_late_although_another_answer_is_not_read() {
    let mut served = serve_large(None).await;
    let half = [headers(3, "/api/publish", b"\x83", 4), frame(0, 0, 3, br#"{"channel""#)].concat();
    served.peer.write_all(&[begin(), half].concat()).await.unwrap();
    let begun = Instant::now();
    while served.connection.requests() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    while served.connection.requests() > 0 {
        assert!(begun.elapsed() < 3 * LIMIT, "its time does not run");
        sleep(Duration::from_millis(1)).await;
    }
    assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
    read_until(&mut served.peer, 3, "the body did not come in time").await;
}

/// An answer to PING has to be written before anything else is read, and is not while the peer takes nothing.
#[tokio::test]
async fn a_body_by_http_2_is_not_late_while_it_is_not_read() {
    let mut served = serve_large(None).await;
    let half = [headers(3, "/api/publish", b"\x83", 4), frame(0, 0, 3, br#"{"channel""#)].concat();
    served.peer.write_all(&[begin(), half].concat()).await.unwrap();
    sleep(LIMIT / 3).await;
    served.peer.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
    sleep(LIMIT / 6).await;
    served.peer.write_all(&frame(0, 1, 3, br#":"","data":1}"#)).await.unwrap();
    sleep(2 * LIMIT).await;
    assert_eq!(served.connection.requests(), 1, "it was read, or is late");
    read_until(&mut served.peer, 3, r#""code":107"#).await;
}

/// Requests that are answered are not in flight, although nobody takes the answers. So the connection can close.
#[tokio::test]
async fn who_takes_no_answers_is_not_busy_for_ever() {
    let mut served = serve_large(Some(4 << 10)).await;
    // Each answer repeats what is no object. So those to all requests in flight do not fit into the output together.
    let body = format!("\"{}\"", "€".repeat(260));
    let head =
        format!("POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let requests = (head + &body).repeat(API_PIPELINED_MAX);
    served.peer.write_all(requests.as_bytes()).await.unwrap();
    sleep(LIMIT).await;
    assert!(served.connection.has_asked() && !served.connection.is_busy());
    served.connection.evict();
    timeout(Duration::from_secs(2), served.ended).await.expect("it ends").unwrap();
}

//! The floor of a publish by the API: one thread that takes the same requests, sends the same line to the same
//! clients' sockets, and answers. It parses nothing, checks nothing and wakes nobody: all requests have the same
//! length, and stand for one topic after the other. The server runs in a process of its own.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::common::floor::{Helper, send, welcome_all};
use crate::common::{Arguments, SERVER_CPU, pin};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}";

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 << 10;

/// Starts a bare server for so many clients, spread over so many topics, and for requests of `request` bytes that carry a publication's data of
/// `data` bytes, at their end but for a brace.
pub(super) fn start(topics: usize, clients: usize, request: usize, data: usize) -> Result<Helper> {
    let numbers = [topics, clients, request, data].map(|number| number.to_string());
    let [topics, clients, request, data] = numbers.each_ref().map(String::as_str);
    Helper::start(&["--bare-api", topics, clients, request, data])
}

/// What the bare server's process does, if the command line says that this is one.
pub(super) fn run_if_asked(arguments: &Arguments) -> Option<Result<()>> {
    let [topics, clients, request, data] = arguments.after("--bare-api")? else { return None };
    Some(run([topics, clients, request, data]))
}

fn run(numbers: [&String; 4]) -> Result<()> {
    let number = |text: &String| text.parse::<usize>().map_err(Error::other);
    let [topics, clients, request, data] = numbers.map(number);
    pin(SERVER_CPU);
    let mut clients = welcome_all(clients?)?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?);
    let (topics, request, data) = (topics?, request?, data?);
    // One after the other; some only look whether it is there.
    for publisher in listener.incoming() {
        let publisher = publisher?;
        publisher.set_nodelay(true)?;
        serve(publisher, &mut clients, topics, request, data)?;
    }
    Ok(())
}

/// Takes requests until the publisher closes. The first one is for the first topic.
fn serve(
    mut publisher: TcpStream,
    clients: &mut [TcpStream],
    topics: usize,
    request: usize,
    data: usize,
) -> Result<()> {
    let (mut input, mut answers, mut next) = (vec![0; READ_BYTES], Vec::new(), 0);
    let (mut frame, mut kept) = (Vec::new(), 0);
    loop {
        let read = publisher.read(&mut input[kept..])?;
        if read == 0 {
            return Ok(());
        }
        let came = kept + read;
        let whole = came - came % request;
        for request in input[..whole].chunks_exact(request) {
            let topic = next % topics;
            line(&mut frame, topic, &request[request.len() - 1 - data..request.len() - 1])?;
            for client in clients.iter_mut().skip(topic).step_by(topics) {
                let mut sent = 0;
                while sent < frame.len() {
                    sent += send(client, &frame[sent..]);
                }
            }
            answers.extend_from_slice(ANSWER);
            next += 1;
        }
        input.copy_within(whole..came, 0);
        kept = came - whole;
        publisher.write_all(&answers)?;
        answers.clear();
    }
}

/// The name of a topic, for this server and for the engine.
pub(super) fn topic(number: usize) -> String {
    format!("private:{number:05}")
}

/// The frame that pushes `data` to the clients of a topic.
fn line(frame: &mut Vec<u8>, number: usize, data: &[u8]) -> Result<()> {
    frame.clear();
    frame.extend([0x81, 0]);
    write!(frame, r#"{{"push":{{"channel":"{}","pub":{{"data":"#, topic(number))?;
    frame.extend_from_slice(data);
    frame.extend_from_slice(b"}}}");
    frame[1] = u8::try_from(frame.len() - 2)
        .ok()
        .filter(|&length| length < 126)
        .ok_or_else(|| Error::other("the bare server's frames have fewer than 126 bytes"))?;
    Ok(())
}

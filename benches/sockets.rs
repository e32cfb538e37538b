//! Socket options, one by one: what each costs, or what it brings.
//!
//! A raw loop whose sockets have the engine's set of options (`net/listener.rs`) takes turns with one that
//! differs in one option. The engine's shard costs what such a loop does, as `fanout` shows.
//!
//! * *one line*, *100 lines*: CPU per frame over that with the engine's set. The first row differs in
//!   nothing: its spread is the noise;
//! * *nagle*: how long a client that has just sent a pong waits for the second of two frames;
//! * *stalled*: what the kernel takes for clients that read nothing before it refuses more;
//! * *listeners*: how connections that come over one CPU spread over the listeners of two.
//!
//! Everything goes over loopback, where no packet is lost and an answer comes at once: what congestion
//! control does for a slow path is not to be seen here, nor how long a dead peer goes unnoticed. `--short`
//! does a little of each.

mod common;

use std::fs;
use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::floor::{Floor, frame};
use common::measure::{Summary, Watched};
use common::options::SocketOptions;
use common::report::{Report, Target};
use common::rounds::{Pairs, Round, Server};
use common::{Arguments, CLIENT_CPU, LIMIT, LINE_BYTES, SERVER_CPU, counting_clients, on_client_cpu};
use socket2::{Domain, Protocol, Socket, Type};

/// Rounds of each loop.
const ROUNDS: usize = 5;
/// What the last line of a frame lacks is its line break.
const ONE_LINE: usize = LINE_BYTES - 1;
const HUNDRED_LINES: usize = 100 * LINE_BYTES - 1;
/// A send buffer that is set by hand.
const SEND_BUFFER: usize = 64 << 10;

/// How much of everything is done.
struct Scale {
    clients: usize,
    fan_outs: usize,
    rounds: usize,
    connections: usize,
}

const FULL: Scale = Scale { clients: 1000, fan_outs: 20, rounds: ROUNDS, connections: 1000 };
const SHORT: Scale = Scale { clients: 200, fan_outs: 3, rounds: 1, connections: 100 };

/// A set of options that differs from the engine's in one.
struct Variant {
    name: String,
    options: SocketOptions,
}

impl Variant {
    fn new(name: impl Into<String>, change: impl FnOnce(&mut SocketOptions)) -> Self {
        let mut options = SocketOptions::default();
        change(&mut options);
        Self { name: name.into(), options }
    }

    fn no_difference() -> Self {
        Self::new("no difference", |_| {})
    }

    fn without_nodelay() -> Self {
        Self::new("without TCP_NODELAY", |options| options.nodelay = false)
    }

    fn without_notsent_lowat() -> Self {
        Self::new("without TCP_NOTSENT_LOWAT", |options| options.notsent_lowat = None)
    }

    fn with_send_buffer() -> Self {
        Self::new("SO_SNDBUF 64 KiB", |options| options.send_buffer = Some(SEND_BUFFER))
    }

    fn with_each_congestion_control() -> impl Iterator<Item = Self> {
        congestion_controls().into_iter().map(|name| {
            Self::new(format!("TCP_CONGESTION {name}"), |options| options.congestion = Some(name))
        })
    }

    /// All.
    fn for_one_line() -> Vec<Self> {
        let mut all = vec![
            Self::no_difference(),
            Self::without_nodelay(),
            Self::without_notsent_lowat(),
            Self::new("SO_INCOMING_CPU", |options| options.incoming_cpu = Some(SERVER_CPU)),
            Self::with_send_buffer(),
            Self::new("TCP_USER_TIMEOUT 30 s", |options| {
                options.user_timeout = Some(Duration::from_secs(30));
            }),
        ];
        all.extend(Self::with_each_congestion_control());
        all
    }

    /// Those for which it may matter how much is sent.
    fn for_many_lines() -> Vec<Self> {
        vec![Self::no_difference(), Self::without_notsent_lowat(), Self::with_send_buffer()]
    }
}

/// Those that this process may choose, but for the one that it has anyway.
fn congestion_controls() -> Vec<String> {
    let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let (available, usual) = (read("tcp_available_congestion_control"), read("tcp_congestion_control"));
    let may_choose = |name: &&str| {
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
            .and_then(|socket| socket.set_tcp_congestion(name.as_bytes()))
            .is_ok()
    };
    let others = available.split_whitespace().filter(|name| *name != usual.trim());
    others.filter(may_choose).map(str::to_owned).collect()
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let scale = if arguments.short() { SHORT } else { FULL };
    on_client_cpu(|| {
        let about = format!("a raw loop to {} clients, {} rounds", scale.clients, scale.rounds);
        let places = format!("raw loops on CPU {SERVER_CPU}; the clients on CPU {CLIENT_CPU}");
        let mut report = Report::new("sockets", &about, places);
        cpu_per_frame("one line", ONE_LINE, Variant::for_one_line(), &scale, &mut report)?;
        cpu_per_frame("100 lines", HUNDRED_LINES, Variant::for_many_lines(), &scale, &mut report)?;
        nagle(&scale, &mut report)?;
        stalled(&mut report)?;
        listeners(&scale, &mut report)?;
        report.finish()
    })
}

/// A raw loop with these options, and its clients.
fn raw_loop(options: &SocketOptions, payload: usize, scale: &Scale) -> Result<Server<'static>> {
    let mut floor = Floor::start_with(options, scale.clients, payload)?;
    Ok(Server {
        swarm: counting_clients(floor.address(), scale.clients, &["sockets".to_owned()])?,
        watched: Watched::new(floor.pid(), None)?,
        poke: Box::new(move || floor.poke()),
    })
}

/// The CPU time of each variant over that of the engine's set.
fn cpu_per_frame(
    part: &'static str,
    payload: usize,
    variants: Vec<Variant>,
    scale: &Scale,
    report: &mut Report,
) -> Result<()> {
    report.part(part, &format!("{payload} bytes per frame, CPU over that with the engine's options"));
    let mut engines = raw_loop(&SocketOptions::default(), payload, scale)?;
    let mut engines_microseconds = Vec::new();
    for Variant { name, options } in variants {
        let mut other = raw_loop(&options, payload, scale)?;
        let pairs = Pairs::take(
            scale.rounds,
            || other.round(scale.fan_outs, payload),
            || engines.round(scale.fan_outs, payload),
        )?;
        let ratio = pairs.ratio(Round::thread_microseconds, Round::thread_microseconds);
        report.row(&name, ratio, "of the CPU per frame", Target::None);
        engines_microseconds.extend(pairs.second().map(Round::thread_microseconds));
    }
    report.row("the engine's options", Summary::of(engines_microseconds), "us per frame", Target::None);
    Ok(())
}

/// What Nagle's algorithm does to the second of two frames: it waits until the first is acknowledged. A client
/// that has just sent something, such as a pong, is taken for one that will soon send again, and its kernel
/// lets the acknowledgement wait for that.
fn nagle(scale: &Scale, report: &mut Report) -> Result<()> {
    report.part("nagle", "one client; two frames after a pong, until it has both");
    let mut without = Talk::begin(&Variant::without_nodelay().options)?;
    let mut with = Talk::begin(&SocketOptions::default())?;
    let times = scale.fan_outs;
    let pairs = Pairs::take(
        scale.rounds,
        || without.two_frames_after_a_pong(times),
        || with.two_frames_after_a_pong(times),
    )?;
    report.row("without TCP_NODELAY", Summary::of(pairs.first().copied()), "ms", Target::None);
    report.row("the engine's options", Summary::of(pairs.second().copied()), "ms", Target::None);
    Ok(())
}

/// Both ends of one connection.
struct Talk {
    server: TcpStream,
    client: TcpStream,
}

impl Talk {
    /// Connects. The server's end has these options.
    fn begin(options: &SocketOptions) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        client.set_nodelay(true)?;
        let (server, _) = listener.accept()?;
        options.set_on(&server)?;
        Ok(Self { server, client })
    }

    /// Milliseconds from the sending of two frames until the client has both; the middle one of several.
    fn two_frames_after_a_pong(&mut self, times: usize) -> Result<f64> {
        let frame = frame(ONE_LINE)?;
        let once = |_| {
            let (ping, pong) = (b"ping", b"pong");
            self.server.write_all(ping)?;
            self.client.read_exact(&mut [0; 4])?;
            self.client.write_all(pong)?;
            self.server.read_exact(&mut [0; 4])?;
            let begin = Instant::now();
            self.server.write_all(&frame)?;
            self.server.write_all(&frame)?;
            self.client.read_exact(&mut vec![0; 2 * frame.len()])?;
            Ok(begin.elapsed().as_secs_f64() * 1000.0)
        };
        Ok(Summary::of((0..times).map(once).collect::<Result<Vec<_>>>()?).median)
    }
}

/// What a client that reads nothing takes.
fn stalled(report: &mut Report) -> Result<()> {
    const CLIENTS: usize = 50;
    report.part("stalled", &format!("{CLIENTS} clients that read nothing; sent until the kernel refuses"));
    let both = Variant::new("SO_SNDBUF 64 KiB and no TCP_NOTSENT_LOWAT", |options| {
        options.send_buffer = Some(SEND_BUFFER);
        options.notsent_lowat = None;
    });
    let none = Variant::new("the engine's options", |_| {});
    for Variant { name, options } in
        [none, Variant::without_notsent_lowat(), Variant::with_send_buffer(), both]
    {
        let mut floor = Floor::start_with(&options, CLIENTS, HUNDRED_LINES)?;
        // They are never turned again.
        let clients = counting_clients(floor.address(), CLIENTS, &["sockets".to_owned()])?;
        let taken = floor.fill()? as f64 / clients.len() as f64 / 1000.0;
        let queued = Summary::of(send_queues(floor.address())?.iter().map(|&bytes| bytes as f64 / 1000.0));
        report.row(&name, queued, "KB in the send queue", Target::None);
        report.row("  with what the client's kernel took", taken, "KB per client", Target::None);
    }
    Ok(())
}

/// Bytes in the send queue of each connection from `server`, from `/proc/net/tcp`.
fn send_queues(server: SocketAddr) -> Result<Vec<u64>> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp")?;
    // Bytes of the address as this machine keeps numbers.
    let server = match server {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => unreachable!("raw loops listen on 127.0.0.1"),
    };
    let queue = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _remote, state, queues) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (sending, _receiving) = queues.split_once(':')?;
        let counts = local == server && state == ESTABLISHED;
        counts.then(|| u64::from_str_radix(sending, 16).ok())?
    };
    Ok(table.lines().filter_map(queue).collect())
}

/// `SO_INCOMING_CPU` lets the kernel prefer the listener that names the CPU over which a connection comes.
/// Without it, the connection's addresses decide.
fn listeners(scale: &Scale, report: &mut Report) -> Result<()> {
    let about = format!("{} connections over one CPU to two listeners on one port", scale.connections);
    report.part("listeners", &about);
    let with = fuller_percent(Some([SERVER_CPU, CLIENT_CPU]), scale.connections)?;
    let without = fuller_percent(None, scale.connections)?;
    report.row("SO_INCOMING_CPU", with, "% at the fuller one", Target::None);
    report.row("the engine's options", without, "% at the fuller one", Target::None);
    Ok(())
}

/// The part, in percent, that the one gets which gets more, of two listeners of which each may name a CPU.
fn fuller_percent(cpus: Option<[usize; 2]>, connections: usize) -> Result<f64> {
    let first = listener(SocketAddr::from(([127, 0, 0, 1], 0)), cpus.map(|cpus| cpus[0]))?;
    let address = first.local_addr()?;
    let second = listener(address, cpus.map(|cpus| cpus[1]))?;
    let clients = (0..connections).map(|_| TcpStream::connect(address)).collect::<Result<Vec<_>>>()?;
    let deadline = Instant::now() + LIMIT;
    let mut accepted = [0, 0];
    while accepted.iter().sum::<usize>() < clients.len() {
        assert!(Instant::now() < deadline, "of {connections} connections {accepted:?} are accepted in time");
        for (count, listener) in accepted.iter_mut().zip([&first, &second]) {
            match listener.accept() {
                Ok(_) => *count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(accepted[0].max(accepted[1]) as f64 / connections as f64 * 100.0)
}

/// A listener that shares its port.
fn listener(address: SocketAddr, cpu: Option<usize>) -> Result<TcpListener> {
    const BACKLOG: i32 = 4096;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(true)?;
    cpu.map_or(Ok(()), |cpu| socket.set_cpu_affinity(cpu))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

//! `fanfare subscribe` recovers what it missed.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::engine::{BINARY, Engine, clear_settings};
use crate::support::process::Lines;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use lapin::BasicProperties;

/// `fanfare subscribe`, and what it prints.
struct CommandLineSubscriber {
    child: Child,
    output: Lines,
    errors: Lines,
}

impl CommandLineSubscriber {
    fn start(engine: &Engine, topic: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["subscribe", topic, "--url", &engine.ws_url()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        clear_settings(&mut command);
        let mut child = command.spawn().expect("it starts");
        let output = Lines::collect(child.stdout.take().expect("piped"));
        let errors = Lines::collect(child.stderr.take().expect("piped"));
        let subscriber = Self { child, output, errors };
        subscriber.wait_to_say("fanfare: subscribed to");
        subscriber
    }

    #[track_caller]
    fn wait_to_say(&self, text: &str) {
        wait_until(SOON, &format!("the subscriber to say {text:?}"), || self.errors.contain(text));
    }

    #[track_caller]
    fn wait_to_print(&self, lines: usize) {
        wait_until(SOON, "the subscriber to print", || self.output.so_far().len() >= lines);
    }
}

impl Drop for CommandLineSubscriber {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.errors.so_far().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Ends a publisher when it is dropped, also by a panic: nobody would wait for it in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// README's show: somebody counts and sends the numbers to RabbitMQ, a subscriber on the command line prints them,
/// and the engine between them is killed and started again.
#[test]
fn an_engine_that_is_killed_is_no_gap_for_a_subscriber_on_the_command_line() {
    const SOME: usize = 20;
    /// Between two numbers: what is missed fits into one frame (`limits.frame_bytes`), however slow the machine.
    const PAUSE: Duration = Duration::from_millis(5);
    let url = RabbitNode::shared().new_vhost("show");
    let engine = Engine::on_fixed_ports(&format!(
        "[amqp]\nurl = \"{url}\"\n[namespaces.default]\nhistory_size = 10_000\n"
    ));
    engine.wait_until_ready();
    let subscriber = CommandLineSubscriber::start(&engine, "count");
    let over = AtomicBool::new(false);
    let count = |publisher: &Publisher| {
        let until_over = (1..).take_while(|_: &usize| !over.load(Ordering::Relaxed));
        let publish = |&n: &usize| {
            publisher.publish("count", n.to_string().as_bytes(), BasicProperties::default());
            std::thread::sleep(PAUSE);
        };
        until_over.inspect(publish).last().expect("it has begun")
    };
    let published = std::thread::scope(|scope| {
        let publisher = Publisher::connect(&url);
        let counting = scope.spawn(move || count(&publisher));
        let over = Over(&over);
        subscriber.wait_to_print(SOME);
        let stopped = engine.kill_for_now();
        subscriber.wait_to_say("connecting again");
        let engine = stopped.start();
        subscriber.wait_to_say("publications recovered");
        let seen = subscriber.output.so_far().len();
        subscriber.wait_to_print(seen + SOME);
        drop(over);
        let published = counting.join().expect("it does not panic");
        subscriber.wait_to_print(published);
        drop(engine);
        published
    });
    let expected: Vec<_> = (1..=published).map(|n| format!("count\t{n}")).collect();
    assert_eq!(subscriber.output.so_far(), expected);
    assert!(subscriber.errors.contain("fanfare: subscribed to count again after "));
}

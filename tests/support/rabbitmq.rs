//! A RabbitMQ node of the test's own: own ports, own port mapper, own directory. One that already runs on
//! the machine is neither asked nor touched.

mod eval;
mod installed;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

pub use installed::Version;
use installed::installed;

use super::kept::Kept;
use super::ports::free_port;
use super::process::{TempDir, signal};
use super::wait::wait_until;

/// Ports for `rabbitmqctl`, which is an Erlang node itself and listens. By default it takes one of eleven within the
/// kernel's range for outgoing connections: where a crowd of clients has all of them, it cannot start
/// ("nodistribution"). These are below that range, and below the range from which tests take ports.
const CTL_PORTS: [&str; 2] = ["18000", "19999"];

/// Erlang's distribution listens on loopback only.
const LOOPBACK_ONLY: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// Where a node has what is to last, in its directory.
const TABLES: &str = "tables";

/// A node is up after about 9 s, or a multiple where the machine is busy.
const START_LIMIT: Duration = Duration::from_secs(90);

/// Test machines have small disks; RabbitMQ's own limits on memory stay.
const CONFIGURATION: &str = "disk_free_limit.absolute = 50MB\n";

/// What a client sends first (AMQP 0.9.1, section 4.2.2).
const AMQP_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A node that ends with the value, or with the test program, however that ends.
#[derive(Debug)]
pub struct RabbitNode {
    port: u16,
    distribution_port: u16,
    eval_port: u16,
    /// Whether `port` speaks TLS, and nothing else does.
    is_encrypted: bool,
    directory: TempDir,
    port_mapper: Arc<PortMapper>,
    server: Option<Kept>,
}

/// The Erlang port mapper: all nodes of a cluster ask the same one.
#[derive(Debug)]
struct PortMapper {
    port: u16,
    _process: Kept,
}

/// What a server shows of itself, in PEM.
#[derive(Debug)]
pub struct Identity {
    /// Its certificate.
    pub certificate: String,
    /// The certificate's private key.
    pub key: String,
}

impl RabbitNode {
    /// Starts a node with empty tables and waits until it answers.
    ///
    /// # Panics
    /// If RabbitMQ is not installed or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// The same on a port that is not free to choose.
    ///
    /// # Panics
    /// If RabbitMQ is not installed or does not start.
    #[track_caller]
    pub fn start_on(port: u16) -> Self {
        Self::launch(port, None)
    }

    /// Starts `count` nodes that form a cluster.
    ///
    /// # Panics
    /// If RabbitMQ is not installed or a node does not start.
    #[track_caller]
    pub fn start_cluster(count: usize) -> Vec<Self> {
        let first = Self::start();
        let mut nodes = vec![first];
        // Two blank nodes that start at once could wait for each other: there is one to join.
        let others: Vec<_> = (1..count).map(|_| nodes[0].prepare_fellow()).collect();
        nodes.extend(others);
        thread::scope(|scope| {
            nodes[1..].iter_mut().for_each(|node| {
                scope.spawn(|| node.start_again());
            });
        });
        nodes
    }

    /// The same with one listener, which speaks TLS and nothing else.
    ///
    /// # Panics
    /// If RabbitMQ is not installed or does not start.
    #[track_caller]
    pub fn start_with_tls(identity: &Identity) -> Self {
        Self::launch(free_port(), Some(identity))
    }

    /// Shows another certificate from its next start on.
    pub fn change_identity(&self, identity: &Identity) {
        write_identity(&self.directory, identity);
    }

    #[track_caller]
    fn launch(port: u16, identity: Option<&Identity>) -> Self {
        let directory = TempDir::new("rabbitmq");
        write_files(&directory);
        if let Some(identity) = identity {
            write_tls_files(&directory, port, identity);
        }
        let mut node = Self {
            port,
            is_encrypted: identity.is_some(),
            distribution_port: free_port(),
            eval_port: free_port(),
            port_mapper: Arc::new(start_port_mapper(free_port(), &directory)),
            directory,
            server: None,
        };
        node.start_again();
        node
    }

    /// A node that will join this one's cluster when it starts first.
    fn prepare_fellow(&self) -> Self {
        let directory = TempDir::new("rabbitmq");
        write_files(&directory);
        let configuration = format!(
            "{CONFIGURATION}cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.classic_config.nodes.1 = {}\n",
            self.name()
        );
        directory.write("rabbitmq.conf", &configuration);
        Self {
            port: free_port(),
            is_encrypted: false,
            distribution_port: free_port(),
            eval_port: free_port(),
            port_mapper: Arc::clone(&self.port_mapper),
            directory,
            server: None,
        }
    }

    fn name(&self) -> String {
        format!("fanfare-test-{}@localhost", self.port)
    }

    /// A node for all tests of this program that do not stop it; each takes a [`Self::new_vhost`].
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RabbitNode> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// `amqp://` URL of the default virtual host.
    pub fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The port that speaks AMQP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds a virtual host and returns its URL.
    ///
    /// # Panics
    /// If the node refuses, or has one of this name: two tests would meet in it.
    #[track_caller]
    pub fn new_vhost(&self, name: &str) -> String {
        self.eval(&format!(
            r#"false = rabbit_vhost:exists(<<"{name}">>), ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>),
            ok = rabbit_auth_backend_internal:set_permissions(
            <<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)."#
        ));
        format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.port)
    }

    /// Adds a user who may do everything in the default virtual host.
    ///
    /// # Panics
    /// If the node refuses.
    #[track_caller]
    pub fn new_user(&self, name: &str, password: &str) {
        self.ctl(&["add_user", name, password]);
        self.ctl(&["set_permissions", name, ".*", ".*", ".*"]);
    }

    /// Evaluates Erlang in the node.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    fn eval(&self, expressions: &str) {
        eval::eval(self.eval_port, expressions);
    }

    /// Runs `rabbitmqctl` for this node and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same where it may fail.
    ///
    /// # Errors
    /// What it printed then.
    ///
    /// # Panics
    /// If it does not run at all.
    #[track_caller]
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.program("rabbitmqctl").arg("--quiet").args(arguments).output();
        let output = output.expect("rabbitmqctl runs");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("rabbitmqctl {arguments:?}: {stdout}{stderr}"));
        }
        Ok(stdout.into_owned())
    }

    /// Has what was declared until now outlive a SIGKILL. RabbitMQ's tables are written some seconds late, and
    /// a node that is killed before is left with a stream whose "home node is down" for good.
    ///
    /// # Panics
    /// If it is not running.
    #[track_caller]
    pub fn sync_tables(&self) {
        // Khepri, which takes Mnesia's place from RabbitMQ 4 on, writes before it answers.
        self.eval(
            "case mnesia:system_info(is_running) of yes -> ok = mnesia:sync_log(); no -> ok end, \
             [ok = dets:sync(Table) || Table <- dets:all()].",
        );
    }

    /// Has its tables in Khepri from now on, which is to take Mnesia's place. RabbitMQ 3.10 has none, and keeps Mnesia.
    ///
    /// # Panics
    /// If the node refuses.
    #[track_caller]
    pub fn switch_to_khepri(&self) {
        if Version::of_this_run() == Version::Four {
            self.ctl(&["enable_feature_flag", "--experimental", "khepri_db"]);
        }
    }

    /// What is on its disk at this moment. It stands still meanwhile, as if its host did.
    ///
    /// # Panics
    /// If it is not running, or there is no room for a copy.
    #[track_caller]
    pub fn snapshot(&self) -> TempDir {
        let snapshot = TempDir::new("snapshot");
        self.sync_tables();
        self.signal("STOP");
        copy_tables(&self.directory, &snapshot);
        self.signal("CONT");
        snapshot
    }

    /// Has its disk as it was, for the next start.
    ///
    /// # Panics
    /// If it is running, or there is no room for a copy.
    #[track_caller]
    pub fn put_back(&self, snapshot: &TempDir) {
        assert!(self.server.is_none(), "a node that runs has its tables open");
        fs::remove_dir_all(self.directory.path().join(TABLES)).expect("own directory");
        copy_tables(snapshot, &self.directory);
    }

    /// Whether it was started, and neither stopped nor killed since.
    pub fn runs(&self) -> bool {
        self.server.is_some()
    }

    /// Ends the node by SIGTERM and waits. What is durable stays.
    ///
    /// # Panics
    /// If it is not running.
    pub fn stop(&mut self) {
        self.server.take().expect("the node runs").end("TERM");
    }

    /// Ends the node by SIGKILL.
    ///
    /// # Panics
    /// If it is not running.
    pub fn kill(&mut self) {
        self.server.take().expect("the node runs").end("KILL");
    }

    /// Sends a signal, such as `STOP`, to the node.
    ///
    /// # Panics
    /// If it is not running.
    pub fn signal(&self, name: &str) {
        signal(self.server.as_ref().expect("the node runs").pid(), name);
    }

    /// Starts the node again on the same ports and tables, and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        let mut command = self.program("rabbitmq-server");
        // With input allowed the script becomes the node itself, so that its process id is the node's.
        command.env("RABBITMQ_ALLOW_INPUT", "1").env("RABBITMQ_SERVER_START_ARGS", "-noinput");
        let server = Kept::spawn(&command);
        wait_until(START_LIMIT, "RabbitMQ to answer", || {
            assert!(server.runs(), "RabbitMQ ended:\n{}", server.output().so_far().join("\n"));
            // It answers clients a moment before it answers rabbitmqctl; the line comes after both.
            server.output().contain("completed with") && self.listens()
        });
        self.server = Some(server);
    }

    fn listens(&self) -> bool {
        let accepts = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let serves = if self.is_encrypted { accepts(self.port) } else { answers_amqp(self.port) };
        serves && accepts(self.eval_port)
    }

    fn program(&self, name: &str) -> Command {
        let at = |name: &str| self.directory.path().join(name);
        let eval = eval::arguments(&at(eval::FILE.0), self.eval_port);
        let mut command = installed(name);
        command
            .env("HOME", self.directory.path())
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.port_mapper.port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", at(TABLES))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("{LOOPBACK_ONLY} +S 1:1 +A 4 {eval}"))
            .env("RABBITMQ_CTL_ERL_ARGS", format!("{LOOPBACK_ONLY} +S 1:1"))
            .env("RABBITMQ_CTL_DIST_PORT_MIN", CTL_PORTS[0])
            .env("RABBITMQ_CTL_DIST_PORT_MAX", CTL_PORTS[1]);
        command
    }
}

impl Drop for RabbitNode {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.end("KILL");
        }
    }
}

/// The cookie that lets `rabbitmqctl` in, the plugins (none) and the configuration.
fn write_files(directory: &TempDir) {
    let cookie = directory.write(".erlang.cookie", "FANFARETESTS");
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).expect("own file");
    directory.write("plugins", "[].");
    directory.write("rabbitmq.conf", CONFIGURATION);
    directory.write(eval::FILE.0, eval::FILE.1);
}

fn copy_tables(from: &TempDir, to: &TempDir) {
    let [from, to] = [from, to].map(|directory| directory.path().join(TABLES));
    let status = Command::new("cp").arg("--archive").args([from, to]).status();
    assert!(status.expect("cp runs").success(), "the tables cannot be copied");
}

fn write_identity(directory: &TempDir, identity: &Identity) -> [PathBuf; 2] {
    [directory.write("server.pem", &identity.certificate), directory.write("server.key", &identity.key)]
}

/// One listener with TLS in place of the plain one.
fn write_tls_files(directory: &TempDir, port: u16, identity: &Identity) {
    let [certificate, key] = write_identity(directory, identity);
    let configuration = format!(
        "{CONFIGURATION}listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
        certificate.display(),
        key.display()
    );
    directory.write("rabbitmq.conf", &configuration);
}

/// The Erlang port mapper, which a node would otherwise start for itself and leave behind.
fn start_port_mapper(port: u16, directory: &TempDir) -> PortMapper {
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]).env("HOME", directory.path());
    let mapper = Kept::spawn(&command);
    wait_until(START_LIMIT, "Erlang's port mapper to listen", || {
        assert!(mapper.runs(), "epmd ended:\n{}", mapper.output().so_far().join("\n"));
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    PortMapper { port, _process: mapper }
}

/// Whether a server on `port` begins an AMQP conversation without TLS.
pub fn answers_amqp(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut first = [0];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(AMQP_HEADER).is_ok()
        && stream.read_exact(&mut first).is_ok()
        // 1 is a method frame, connection.start; a node that is not up yet closes instead.
        && first == [1]
}

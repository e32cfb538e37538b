//! A configuration from `tuning/`, and the proxy that runs by it.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::{fs, thread};

use crate::support::engine::Engine;
use crate::support::ports::free_port;
use crate::support::process::{Lines, TempDir, signal};
use crate::support::wait::{SOON, wait_until};

pub(crate) const NGINX: &str = "nginx/nginx.conf";
pub(crate) const HAPROXY: &str = "haproxy/haproxy.cfg";

/// Where an engine listens.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) clients: SocketAddr,
    pub(crate) control: u16,
}

impl Place {
    pub(crate) fn of(engine: &Engine) -> Self {
        Self { clients: engine.client_address(), control: engine.control_address().port() }
    }
}

/// A configuration on its way from `tuning/` to a proxy.
pub(crate) struct Config {
    name: &'static str,
    pub(crate) text: String,
    pub(crate) files: TempDir,
}

impl Config {
    /// As it is.
    pub(crate) fn shipped(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name, text, files: TempDir::new("proxy") }
    }

    /// Puts something else into a place that is there exactly once.
    pub(crate) fn put(mut self, place: &str, value: &str) -> Self {
        assert_eq!(self.text.matches(place).count(), 1, "{}: once: {place:?}", self.name);
        self.text = self.text.replacen(place, value, 1);
        self
    }

    /// Turns a line into a comment.
    pub(crate) fn disable(self, line: &str) -> Self {
        self.put(&format!("    {line}\n"), &format!("    #{line}\n"))
    }

    /// Turns a comment into a line.
    pub(crate) fn enable(self, line: &str) -> Self {
        self.put(&format!("    #{line}\n"), &format!("    {line}\n"))
    }

    /// The same with all lines that contain one of these words.
    pub(crate) fn enable_all(self, words: &[&str]) -> Self {
        let comments = self.text.clone();
        let lines = comments.lines().filter_map(|line| line.trim().strip_prefix('#'));
        let lines =
            lines.filter(|line| !line.starts_with(' ') && words.iter().any(|word| line.contains(word)));
        lines.fold(self, Self::enable)
    }

    /// Addresses, paths and rights of a test, so that the proxy listens on `port` of 127.0.0.1.
    pub(crate) fn fit(mut self, engines: [Place; 2], port: u16) -> Self {
        let directory = self.files.path().to_str().expect("a plain path").to_owned();
        let also = free_port();
        for (number, engine) in (1..).zip(engines) {
            let (place, clients) = (format!("192.0.2.1{number}:8000"), engine.clients.to_string());
            self = match self.name {
                NGINX => self.put(&place, &clients),
                _ => self.put(
                    &format!("{place} check port 9000"),
                    &format!("{clients} check port {}", engine.control),
                ),
            };
        }
        if self.name == NGINX {
            self.put("listen 80 ", &format!("listen 127.0.0.1:{port} "))
                .put("listen [::]:80 ", &format!("listen 127.0.0.1:{also} "))
                .put("/run/nginx.pid", &format!("{directory}/pid"))
                .put("/var/log/nginx/error.log", "stderr")
                .put("worker_rlimit_nofile 66000;", "")
                .put("worker_connections 65536;", "worker_connections 512;")
                .put("http {", &format!("http {{\n{}", temporary_files(&directory)))
        } else {
            self.put("bind 0.0.0.0:80 ", &format!("bind 127.0.0.1:{port} "))
                .put("bind [::]:80 v6only ", &format!("bind 127.0.0.1:{also} "))
                .put("    user haproxy\n    group haproxy\n    chroot /var/lib/haproxy\n", "")
                .put("maxconn 56000", "maxconn 500")
                .put("/dev/log", "stderr")
        }
    }

    /// Starts the proxy in front of these engines. Returns when it listens.
    #[track_caller]
    pub(crate) fn start_before(self, engines: [Place; 2]) -> Proxy {
        let port = free_port();
        let config = self.fit(engines, port);
        let path = config.write();
        let mut command = config.program();
        match config.name {
            NGINX => command.args(["-g", "daemon off;", "-c"]).arg(path),
            _ => command.arg("-db").arg("-f").arg(path),
        };
        Proxy::start(command, SocketAddr::from(([127, 0, 0, 1], port)), config.files)
    }

    /// The proxy reads the file and has nothing to say against it.
    #[track_caller]
    pub(crate) fn passes_the_check(&self) {
        let path = self.write();
        let mut command = self.program();
        match self.name {
            NGINX => command.args(["-t", "-q", "-c"]).arg(path),
            _ => command.args(["-c", "-q", "-f"]).arg(path),
        };
        let Output { status, stdout, stderr } =
            command.output().unwrap_or_else(|error| panic!("{command:?}: {}", missing(&error)));
        let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        // nginx as another user than root says that it cannot change the user.
        let complaints =
            text.lines().filter(|line| !line.contains("the \"user\" directive makes sense only"));
        assert_eq!(complaints.count(), 0, "{}: {text}", self.name);
        assert!(status.success(), "{}: {status}", self.name);
    }

    fn write(&self) -> PathBuf {
        self.files
            .write(Path::new(self.name).file_name().expect("a file").to_str().expect("plain"), &self.text)
    }

    fn program(&self) -> Command {
        let mut command =
            Command::new(if self.name == NGINX { "/usr/sbin/nginx" } else { "/usr/sbin/haproxy" });
        if self.name == NGINX {
            // Until it has read where its log is.
            command.args(["-e", "stderr"]);
        }
        command
    }
}

/// nginx makes these directories, whether or not it ever needs them.
fn temporary_files(directory: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("    {kind}_temp_path {directory}/{kind};\n")).concat()
}

fn missing(error: &std::io::Error) -> String {
    format!("{error} (`tests/run --install` installs what is missing)")
}

/// A running proxy, which ends with the value; when the test fails, what it wrote to standard error is shown.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) stderr: Lines,
    _files: TempDir,
}

impl Proxy {
    #[track_caller]
    fn start(mut command: Command, address: SocketAddr, files: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {}", missing(&error)));
        let stderr = Lines::collect(child.stderr.take().expect("piped"));
        let mut proxy = Self { child, address, stderr, _files: files };
        wait_until(SOON, "the proxy to listen", || {
            let ended = proxy.child.try_wait().expect("the child can be asked");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            TcpStream::connect(address).is_ok()
        });
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx ends its workers then; after SIGKILL they would stay.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.child.id(), "TERM");
        }
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- standard error of the proxy ---");
            self.stderr.so_far().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

//! The admin server: one thread that shows operators and their tools what the workers do, and never holds one up.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/metrics` | GET | every counter and histogram, for Prometheus |
//! | `/healthz` | GET | 200 while serving, 503 while starting and draining, with a small JSON object |
//! | `/latency` | GET | the latency table, as text |
//! | `/rpc` | POST | JSON-RPC 2.0 |
//!
//! It reads what the workers publish (counters, histograms, a phase) and shares no lock with them; what it wants of the location, whose
//! locks are theirs, they do for it ([`Errands`]).

mod errand;
mod gate;
mod health;
mod http;
mod memory;
mod metrics;
mod process;
mod registry;
pub mod rpc;
mod table;
mod token;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::config;
use crate::counters::{Counter, Counters};
use crate::latency::{Histogram, Latency};
use crate::replication::NodeReport;
pub use errand::{Errands, Tray, Way};
use gate::Gate;
use memory::LastSeen;
pub use memory::Reserved;
pub use registry::Registry;
pub use token::{Token, TokenError};

/// How far the server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all listeners are open yet.
    Starting,
    /// Requests are served.
    Serving,
    /// After SIGTERM: what is in progress is finished, what is new is refused.
    Draining,
}

/// The phase, written by the thread that runs the server and read by the admin server and the workers.
#[derive(Debug)]
pub struct SharedPhase(AtomicU8);

/// What became of one `[[listen]]`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ListenerReport {
    /// The address that is served.
    pub address: SocketAddr,
    /// The backend that was got: `af_xdp` or `udp`.
    pub backend: &'static str,
    /// For AF_XDP, where the program is attached: `driver` or `generic`.
    pub mode: Option<&'static str>,
    /// Whether the device writes into our memory itself.
    pub zero_copy: bool,
    /// For AF_XDP, the device.
    pub interface: Option<String>,
    /// For AF_XDP, its queues.
    pub queues: Vec<u32>,
    /// Whether TCP is served at the same address.
    pub tcp: bool,
    /// Why it is not what was wanted most, where it is not.
    pub reason: Option<String>,
}

/// The state of the durable store, where one is configured.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct StoreReport {
    /// Whether the last batch was taken.
    pub up: bool,
    /// Changes that wait for it.
    pub backlog: u64,
}

/// What is shown of a cluster.
pub struct ClusterGauge {
    /// Our number.
    pub server_id: u16,
    /// How long what changed here takes until another node acknowledges it.
    pub lag: Arc<Histogram>,
    /// The nodes, as they were a moment ago.
    pub nodes: Gauge<Vec<NodeReport>>,
    /// Changes that no node was told of yet, and the nodes, as they are now. It may block for a moment.
    pub inquire: Arc<dyn Fn() -> (usize, Vec<NodeReport>) + Send + Sync>,
}

/// A figure that the admin server asks for at each look. It must not block.
pub type Gauge<T> = Box<dyn Fn() -> T + Send + Sync>;

/// What the admin server shows. The thread that runs the server makes it and writes the phase and the listeners.
pub struct State {
    /// The counters of every worker.
    pub counters: Vec<Arc<Counters>>,
    /// The histograms of every worker.
    pub latency: Vec<Arc<Latency>>,
    /// Brings counters up to date that others keep (the kernel's); called before they are shown.
    pub refresh: Box<dyn Fn() + Send + Sync>,
    /// How many bindings there are.
    pub bindings: Gauge<u64>,
    /// The store; `None` where none is configured: then its metrics are 0, and `/healthz` says null.
    pub store: Option<Gauge<StoreReport>>,
    /// The other nodes; `None` where this one serves alone.
    pub cluster: Option<ClusterGauge>,
    /// The operator's hand on the accounts; `None` where there is no store.
    pub accounts: Option<Accounts>,
    /// Makes what tables the store's database lacks; `None` where there is no store.
    pub migrate: Option<Migrate>,
    /// How long the resolver's answers took; `None` where there is no resolver.
    pub dns: Option<Arc<Histogram>>,
    /// The way to the location; `None` where there are no workers: then its methods fail.
    pub registry: Option<Registry>,
    /// What was set aside at the start.
    pub reserved: Reserved,
    /// How far the server's life has come.
    pub phase: Arc<SharedPhase>,
    /// What became of the listeners, once they are open.
    pub listeners: OnceLock<Vec<ListenerReport>>,
    last_seen: LastSeen,
    started: Instant,
    started_unix_s: f64,
}

/// What the operator wants of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountOrder {
    /// A new one.
    Add {
        /// The user.
        user: String,
        /// The user's domain, which is also the realm of the hashes.
        domain: String,
        /// The password, of which hashes are kept.
        password: String,
    },
    /// Another password.
    Change {
        /// The user.
        user: String,
        /// The user's domain.
        domain: String,
        /// The password.
        password: String,
    },
    /// One less.
    Remove {
        /// The user.
        user: String,
        /// The user's domain.
        domain: String,
    },
}

/// Carries such an order out; it waits for the database. The error is a sentence.
pub type Accounts = Arc<dyn Fn(&AccountOrder) -> Result<(), String> + Send + Sync>;

/// Makes the tables that the database has not, and gives their names; it waits for the database. The error is a sentence.
pub type Migrate = Arc<dyn Fn() -> Result<Vec<&'static str>, String> + Send + Sync>;

/// The running admin server; dropping it ends the thread.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Why the admin server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address is taken or not ours.
    #[error("[admin] listen {address}: {error}; free the address or choose another")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: std::io::Error,
    },
    /// There is no token.
    #[error("[admin] token_file {0}")]
    Token(#[from] TokenError),
    /// There is no thread or no poller for it.
    #[error("the admin server's thread does not start: {0}")]
    Thread(std::io::Error),
    /// It would be open to everyone.
    #[error("[admin] listen {0} is not loopback, and there is no token; set token_file")]
    Open(SocketAddr),
}

impl AdminError {
    /// Whether another process has the address, which a killed one keeps for a moment after its end.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Bind { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse)
    }
}

impl Phase {
    /// The name in `/healthz`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

impl SharedPhase {
    /// Starts in [`Phase::Starting`].
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    /// Enters a phase.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    #[must_use]
    pub fn read(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }
}

impl Default for SharedPhase {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Makes the state of a server that starts now, without a store.
    #[must_use]
    pub fn new(
        counters: Vec<Arc<Counters>>,
        latency: Vec<Arc<Latency>>,
        bindings: Gauge<u64>,
    ) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            counters,
            latency,
            refresh: Box::new(|| {}),
            bindings,
            store: None,
            cluster: None,
            accounts: None,
            migrate: None,
            dns: None,
            registry: None,
            reserved: Reserved::default(),
            last_seen: LastSeen::default(),
            phase: Arc::new(SharedPhase::new()),
            listeners: OnceLock::new(),
            started: Instant::now(),
            started_unix_s: unix.as_secs_f64(),
        }
    }

    /// A counter, summed over the workers.
    #[must_use]
    pub fn sum(&self, counter: Counter) -> u64 {
        let values = self.counters.iter().map(|worker| worker.read(counter));
        values.fold(0, u64::wrapping_add)
    }

    /// The listeners, none while they are not open yet.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerReport] {
        self.listeners.get().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("phase", &self.phase.read())
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Opens the address that `config` names and serves `state` there, in a thread of its own.
    ///
    /// # Errors
    /// See [`AdminError`]; when this returns, the address is open.
    pub fn start(config: &config::Admin, state: Arc<State>) -> Result<Self, AdminError> {
        let token = config.token_file.as_deref().map(Token::load).transpose()?;
        if token.is_none() && !config.listen.ip().is_loopback() {
            return Err(AdminError::Open(config.listen));
        }
        let bind_error = |error| AdminError::Bind {
            address: config.listen,
            error,
        };
        let listener = std::net::TcpListener::bind(config.listen).map_err(bind_error)?;
        listener.set_nonblocking(true).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(AdminError::Thread)?;
        let gate = {
            let _context = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(bind_error)?;
            Gate::new(listener, gate::PATIENCE)
        };
        let router = http::router(state, token);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                let serve = async move { axum::serve(gate, router).await };
                let task = runtime.spawn(serve);
                // Either the word to stop or the end of whoever could say it.
                let _ = runtime.block_on(stopped);
                task.abort();
            })
            .map_err(AdminError::Thread)?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address that is served: with the port that the kernel chose, where port 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn start(state: State, token: Option<&str>) -> (Admin, Arc<State>) {
        let state = Arc::new(state);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let token_file = token.map(|token| {
            static NEXT: AtomicU8 = AtomicU8::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("strowger-admin-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, token).expect("written");
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, private).expect("set");
            path
        });
        let config = config::Admin { listen, token_file };
        let admin = Admin::start(&config, Arc::clone(&state));
        // It was read.
        config.token_file.map(std::fs::remove_file);
        (admin.expect("started"), state)
    }

    fn state() -> State {
        State::new(
            vec![Arc::new(Counters::new())],
            vec![Arc::new(Latency::new())],
            Box::new(|| 1),
        )
    }

    fn ask(admin: &Admin, request: &str) -> String {
        let mut stream = TcpStream::connect(admin.address()).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn fetch(admin: &Admin, path: &str, more: &str) -> String {
        ask(
            admin,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n"),
        )
    }

    #[test]
    fn health_follows_the_phase() {
        let (admin, state) = start(state(), None);
        assert!(fetch(&admin, "/healthz", "").starts_with("HTTP/1.1 503"));
        state.phase.set(Phase::Serving);
        let answer = fetch(&admin, "/healthz", "");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("\"state\":\"serving\""),
            "{answer}"
        );
        state.phase.set(Phase::Draining);
        assert!(fetch(&admin, "/healthz", "").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn metrics_and_the_table_are_served() {
        let (admin, _) = start(state(), None);
        let answer = fetch(&admin, "/metrics", "");
        assert!(
            answer.contains("text/plain; version=0.0.4")
                && answer.contains("strowger_bindings 1\n"),
            "{answer}"
        );
        let answer = fetch(
            &admin,
            "/metrics",
            "Accept: application/openmetrics-text\r\n",
        );
        assert!(
            answer.contains("application/openmetrics-text; version=1.0.0"),
            "{answer}"
        );
        assert!(fetch(&admin, "/latency", "").contains("q99.9"));
        assert!(fetch(&admin, "/nothing", "").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn with_a_token_strangers_learn_the_state_alone() {
        let (admin, _) = start(state(), Some("0123456789abcdef0123"));
        for path in ["/metrics", "/latency"] {
            assert!(fetch(&admin, path, "").starts_with("HTTP/1.1 401"));
            let bearer = "Authorization: Bearer 0123456789abcdef0123\r\n";
            assert!(fetch(&admin, path, bearer).starts_with("HTTP/1.1 200"));
        }
        let answer = fetch(&admin, "/healthz", "");
        assert!(
            answer.starts_with("HTTP/1.1 503") && !answer.contains("listeners"),
            "{answer}"
        );
    }

    #[test]
    fn a_call_is_json_and_bounded() {
        let (admin, _) = start(state(), None);
        let post = |kind: &str, body: &str| {
            ask(
                &admin,
                &format!(
                    "POST /rpc HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
            )
        };
        let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"core.version\"}";
        assert!(post("application/json", call).contains("\"result\":\"strowger "));
        assert!(post("text/plain", call).starts_with("HTTP/1.1 415"));
        assert!(post("application/json", &" ".repeat(70_000)).starts_with("HTTP/1.1 413"));
    }

    #[test]
    fn a_call_needs_the_token_and_a_browser_does_not_get_through_without_one() {
        let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"core.version\"}";
        let post = |admin: &Admin, more: &str| {
            let len = body.len();
            let head = format!("Content-Type: application/json\r\nContent-Length: {len}\r\n{more}");
            let request =
                format!("POST /rpc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n{body}");
            ask(admin, &request)
        };
        let origin = "Origin: http://a\r\n";
        let (open, _) = start(state(), None);
        assert!(post(&open, "").starts_with("HTTP/1.1 200"));
        assert!(post(&open, origin).starts_with("HTTP/1.1 403"));
        let (closed, _) = start(state(), Some("0123456789abcdef0123"));
        let bearer = "Authorization: Bearer 0123456789abcdef0123\r\n";
        assert!(post(&closed, "").starts_with("HTTP/1.1 401"));
        assert!(post(&closed, &format!("{origin}{bearer}")).starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn beyond_loopback_it_does_not_start_without_a_token() {
        let config = config::Admin {
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            token_file: None,
        };
        assert!(matches!(
            Admin::start(&config, Arc::new(state())),
            Err(AdminError::Open(_))
        ));
    }

    #[test]
    fn an_address_that_is_taken_is_an_error_with_its_name() {
        let (admin, _) = start(state(), None);
        let config = config::Admin {
            listen: admin.address(),
            token_file: None,
        };
        let error = Admin::start(&config, Arc::new(state()))
            .expect_err("taken")
            .to_string();
        assert!(error.starts_with("[admin] listen 127.0.0.1:"), "{error}");
    }
}

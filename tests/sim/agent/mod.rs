//! A user agent that follows RFC 3261 as a model: its transactions, dialogs and registration are written anew here, from the
//! RFC, and share nothing with the product.

mod client;
mod compose;
mod dialog;
pub(crate) mod proof;
mod registration;
mod server;

use std::net::SocketAddr;

use strowger::datagram::Transport;
use strowger::time::{Duration, Instant};

pub(crate) use self::client::{Client, ClientState, FINALS_LOST_MAX, Purpose};
pub(crate) use self::registration::Registration;

use self::dialog::Dialog;
use self::proof::Prover;
use self::server::Server;
use super::ledger::Ledger;
use super::message::Message;
use super::random::Random;

/// A phone, a trunk, whatever speaks SIP and is no proxy.
pub(crate) struct Agent {
    pub(crate) id: usize,
    /// The user part of its AoR.
    pub(crate) user: String,
    /// The address that it believes to have.
    pub(crate) local: SocketAddr,
    /// The address that its packets come from.
    pub(crate) public: SocketAddr,
    /// The proxy that it sends to.
    pub(crate) first_hop: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) habits: Habits,
    pub(crate) clients: Vec<Client>,
    pub(crate) registration: Registration,
    /// How it proves who it is, where that is asked of it.
    pub(crate) prover: Option<Prover>,
    servers: Vec<Server>,
    dialogs: Vec<Dialog>,
    /// Counts branches and tags.
    named: u64,
}

/// How an agent is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Asks for rport (RFC 3581).
    pub(crate) asks_rport: bool,
    /// Writes branches without the cookie, and no Max-Forwards (RFC 2543).
    pub(crate) is_old: bool,
    /// Writes the short names of header fields.
    pub(crate) is_compact: bool,
    /// Registers a host name rather than an address.
    pub(crate) has_name: bool,
    /// Of a thousand calls: those it never answers at all.
    pub(crate) silent_permille: u64,
    /// Those it refuses.
    pub(crate) refuse_permille: u64,
    /// Those it lets ring for ever.
    pub(crate) ring_permille: u64,
}

/// What an agent wants done.
pub(crate) enum Act {
    Send { to: SocketAddr, bytes: Vec<u8> },
    Wait { until: Instant, timer: Timer },
}

/// What an agent waits for; numbers are places in its lists.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// Timer A or E.
    Resend(usize),
    /// Timer B or F.
    GiveUp(usize),
    /// Timer D, K or M.
    Forget(usize),
    /// The caller changes its mind.
    Cancel(usize),
    /// The caller loses patience with a call that has no end.
    Impatient(usize),
    /// Timer G.
    Repeat(usize),
    /// Timer H, I, J or L.
    Close(usize),
    /// The next of the responses that were planned.
    Answer(usize),
    /// A 2xx to be sent again, until its ACK.
    RepeatSuccess(usize),
    /// Something to be said within a dialog.
    Talk(usize),
    /// A dialog to be ended.
    HangUp(usize),
    /// A registration to be refreshed.
    Refresh,
}

/// What an agent has while it acts.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) random: &'a mut Random,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) acts: Vec<Act>,
    /// Whether nothing new is begun any more.
    pub(crate) is_closing: bool,
    /// What the agent saw that must not be.
    pub(crate) complaint: Option<(&'static str, usize, String)>,
}

/// T1, T2, T4 and 64*T1, from RFC 3261 table 4.
pub(crate) const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const T4: Duration = Duration::from_secs(5);
pub(crate) const T1_64: Duration = Duration::from_secs(32);

impl Agent {
    /// An agent that has done nothing yet.
    pub(crate) fn new(id: usize, public: SocketAddr, first_hop: SocketAddr) -> Self {
        Self {
            id,
            user: format!("u{id}"),
            local: public,
            public,
            first_hop,
            transport: Transport::Udp,
            habits: Habits {
                asks_rport: true,
                is_old: false,
                is_compact: false,
                has_name: false,
                silent_permille: 0,
                refuse_permille: 0,
                ring_permille: 0,
            },
            clients: Vec::new(),
            registration: Registration::default(),
            prover: None,
            servers: Vec::new(),
            dialogs: Vec::new(),
            named: 0,
        }
    }

    /// A message arrives.
    pub(crate) fn receive(&mut self, bytes: &[u8], from: SocketAddr, ctx: &mut Context<'_>) {
        let Some(message) = Message::parse(bytes) else {
            return;
        };
        if message.is_request() {
            self.on_request(&message, from, ctx);
        } else {
            self.on_response(&message, ctx);
        }
    }

    /// A timer fires.
    pub(crate) fn fire(&mut self, timer: Timer, ctx: &mut Context<'_>) {
        match timer {
            Timer::Resend(client) => self.resend(client, ctx),
            Timer::GiveUp(client) => self.give_up(client, ctx),
            Timer::Forget(client) => self.forget(client),
            Timer::Cancel(client) => self.cancel(client, ctx),
            Timer::Impatient(client) => self.lose_patience(client, ctx),
            Timer::Repeat(server) => self.repeat(server, ctx),
            Timer::Close(server) => self.close(server),
            Timer::Answer(server) => self.answer_next(server, ctx),
            Timer::RepeatSuccess(server) => self.repeat_success(server, ctx),
            Timer::Talk(dialog) => self.talk(dialog, ctx),
            Timer::HangUp(dialog) => self.hang_up(dialog, ctx),
            Timer::Refresh => self.refresh(ctx),
        }
    }

    /// A Call-ID that names its record.
    pub(crate) fn call_id(call: usize, ctx: &mut Context<'_>) -> String {
        let name = super::ledger::call_name(call);
        format!("{name}.{:x}@sim.test", ctx.random.below(1 << 32))
    }

    fn name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }
}

impl Context<'_> {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.acts.push(Act::Send {
            to,
            bytes: bytes.to_vec(),
        });
    }

    fn wait(&mut self, span: Duration, timer: Timer) {
        self.acts.push(Act::Wait {
            until: self.now + span,
            timer,
        });
    }

    fn complain(&mut self, rule: &'static str, call: usize, what: String) {
        self.complaint.get_or_insert((rule, call, what));
    }
}

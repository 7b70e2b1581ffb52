//! The command line of `strowger load`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::mix::Mix;
use super::schedule::Arrivals;

/// What is attempted.
#[derive(Clone, Debug, Subcommand)]
pub enum Arguments {
    /// OPTIONS to the server itself, or through it to the phones
    Options {
        /// What every kind has.
        #[command(flatten)]
        common: Common,
        /// OPTIONS to the phones at their own addresses, by way of the server, which is to let this host through
        #[arg(long)]
        through: bool,
    },
    /// Registrations: each phone's first, then its refreshes (same contact and Call-ID, CSeq + 1)
    ///
    /// With --password or --users the phones answer the challenge, and use its nonce again until the server says that it is stale.
    Register {
        /// What every kind has.
        #[command(flatten)]
        common: Common,
        /// What registrations have.
        #[command(flatten)]
        registration: Registration,
    },
    /// Sessions: INVITE, 180, 200, ACK, hold, BYE; the load plays both ends, around the server
    ///
    /// The phones register first, so that the server knows where to find them, and then call each other.
    Invite {
        /// What every kind has.
        #[command(flatten)]
        common: Common,
        /// What registrations have.
        #[command(flatten)]
        registration: Registration,
        /// What sessions have.
        #[command(flatten)]
        session: Session,
    },
    /// Several kinds at once, by their shares
    Mixed {
        /// What every kind has.
        #[command(flatten)]
        common: Common,
        /// What registrations have.
        #[command(flatten)]
        registration: Registration,
        /// What sessions have.
        #[command(flatten)]
        session: Session,
        /// The shares, as register=80,options=15,invite=5
        #[arg(
            long,
            value_name = "SHARES",
            default_value = "register=80,options=15,invite=5"
        )]
        mix: Mix,
    },
}

/// What every kind has.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The server: an address and port that is yours to load. Nothing is sent anywhere else but to where its answers point
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) target: SocketAddr,
    /// Attempts a second
    #[arg(long, value_name = "RATE", default_value_t = 100.0)]
    pub(super) rate: f64,
    /// For how many seconds attempts are made; what is under way then is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(super) time: f64,
    /// Stop after so many attempts, if that comes first
    #[arg(long, value_name = "ATTEMPTS")]
    pub(super) count: Option<u64>,
    /// How long what is under way at the end is waited for, in seconds [default: as long as its transaction lives]
    #[arg(long, value_name = "SECONDS")]
    pub(super) wait: Option<f64>,
    /// Leave what was due in the first seconds out of the result
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(super) warm_up: f64,
    /// How attempts follow each other
    #[arg(long, value_enum, default_value = "poisson")]
    pub(super) arrivals: Arrivals,
    /// The lots of Poisson arrivals and of mixes; the same seed gives the same load
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// Phones, each with a user name of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    pub(super) phones: u32,
    /// What user names begin with; a number from --first on follows
    #[arg(long, value_name = "TEXT", default_value = "load")]
    pub(super) user: String,
    /// The number of the first phone
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) first: u32,
    /// The phones' accounts instead: a line each, USER;PASSWORD or USER
    #[arg(long, value_name = "FILE", conflicts_with_all = ["phones", "user", "first", "password"])]
    pub(super) users: Option<PathBuf>,
    /// The password of all phones
    #[arg(long, value_name = "TEXT")]
    pub(super) password: Option<String>,
    /// The phones' domain [default: the target's address]
    #[arg(long, value_name = "NAME")]
    pub(super) domain: Option<String>,
    /// Send from this address of this host; several spread the phones [default: the one by which the target is reached]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) from: Vec<IpAddr>,
    /// Source ports of each address
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub(super) ports: u16,
    /// The first of them; the others follow it [default: any that are free]
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// How packets are sent and received
    #[arg(long, value_enum, default_value = "udp")]
    pub(super) backend: Backend,
    /// The device for AF_XDP [default: the one that carries the source address]
    #[arg(long, value_name = "DEVICE")]
    pub(super) interface: Option<String>,
    /// An answer that takes longer is a failure (RFC 7501: Establishment Threshold Time) [default: as long as the transaction]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(super) threshold: Option<u64>,
    /// The share of the attempts that must succeed; else the exit status is 1
    #[arg(long, value_name = "PERCENT", default_value_t = 99.9)]
    pub(super) success: f64,
    /// Find the highest rate at which --success holds: from --rate on, --time seconds each; one that fails is tried once more
    #[arg(long)]
    pub(super) search: bool,
    /// The server's processes: their CPU time an operation is shown
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// Count the receiving kernel threads of this device alone (napi/DEVICE-*)
    #[arg(long, value_name = "DEVICE")]
    pub(super) napi: Option<String>,
    /// The target is no SIP server but sends back what it gets: that is the answer. For the floor that servers are compared with
    #[arg(long)]
    pub(super) echo: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// No progress on standard error
    #[arg(long)]
    pub(super) quiet: bool,
}

/// What registrations have.
#[derive(Args, Clone, Debug)]
pub struct Registration {
    /// The lifetime that a registration asks for, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub(super) expires: u32,
    /// Register every phone once before the load, outside the result: the load is refreshes then
    #[arg(long)]
    pub(super) prepare: bool,
    /// At how many a second
    #[arg(long, value_name = "RATE", default_value_t = 2_000.0)]
    pub(super) prepare_rate: f64,
}

/// What sessions have.
#[derive(Args, Clone, Debug)]
pub struct Session {
    /// Which ends the load plays
    #[arg(long, value_enum, default_value = "both")]
    pub(super) role: Role,
    /// Whom to call, with --role uac [default: the phones themselves]
    #[arg(long, value_name = "URI")]
    pub(super) to: Option<String>,
    /// How long a session is held (RFC 7501: Session Duration)
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pub(super) hold: u64,
    /// How long a called phone rings
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pub(super) ring: u64,
}

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The kernel's sockets.
    Udp,
    /// AF_XDP: one queue of the device, by this process alone.
    #[value(name = "af_xdp")]
    AfXdp,
}

/// The ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Callers and called.
    Both,
    /// Callers alone; whoever --to names answers.
    Uac,
    /// The called alone: registers, and answers until --time is over.
    Uas,
}

impl Arguments {
    /// What every kind has.
    pub(super) const fn common(&self) -> &Common {
        match self {
            Self::Options { common, .. }
            | Self::Register { common, .. }
            | Self::Invite { common, .. }
            | Self::Mixed { common, .. } => common,
        }
    }

    /// What is to be known of registrations, where phones register.
    pub(super) const fn registration(&self) -> Option<&Registration> {
        match self {
            Self::Options { .. } => None,
            Self::Register { registration, .. }
            | Self::Invite { registration, .. }
            | Self::Mixed { registration, .. } => Some(registration),
        }
    }

    /// Whether OPTIONS are for the phones.
    pub(super) const fn is_through(&self) -> bool {
        matches!(self, Self::Options { through: true, .. })
    }

    /// What is to be known of sessions, where there are any.
    pub(super) const fn session(&self) -> Option<&Session> {
        match self {
            Self::Options { .. } | Self::Register { .. } => None,
            Self::Invite { session, .. } | Self::Mixed { session, .. } => Some(session),
        }
    }

    /// Whether one JSON object is wanted.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.common().json
    }
}

//! Where contacts are at home: the sockets of other nodes that they registered at, numbered, and which of those nodes are there.
//!
//! A binding keeps the number. The cluster's thread says how each home stands; the workers read it and take no lock. What is to be
//! done for a contact whose home is gone falls to one of those who are there, and all of them find the same one.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use crate::datagram::Transport;
use crate::limits::{HOMES_MAX, NODES_MAX};

/// The number of a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HomeId(u16);

/// Where a contact registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The node's number, 0 where it has told none.
    pub server_id: u16,
    /// The socket, where it is known.
    pub socket: Option<(Transport, SocketAddr)>,
    /// Whether the node has told it, so that requests for the contact are to come by it; else it is where the node speaks DMQ.
    pub is_told: bool,
}

/// How a home stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has heard of its node.
    Unknown = 0,
    /// It is this node.
    Own = 1,
    /// A node of our kind, which is there.
    Strowger = 2,
    /// A Kamailio, which is there.
    Kamailio = 3,
    /// Its node is gone: its contacts are taken over.
    Gone = 4,
}

/// All homes, and the nodes that take over from each other.
#[derive(Debug)]
pub struct Homes {
    own: u16,
    homes: Box<[(OnceLock<Home>, AtomicU8)]>,
    /// The numbers of the nodes of our kind that are there, ourselves included; 0 behind the last.
    members: Box<[AtomicU32]>,
    /// How often anything of this has changed.
    changes: AtomicU64,
    /// Whether a home has become known of which nobody has said how it stands.
    has_news: AtomicBool,
}

impl HomeId {
    /// Here, or nowhere that is known.
    pub const NONE: Self = Self(0);

    /// Whether there is one.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl Homes {
    /// None; `own` is this node's number.
    #[must_use]
    pub fn new(own: u16) -> Self {
        let members: Box<[AtomicU32]> = (0..=NODES_MAX).map(|_| AtomicU32::new(0)).collect();
        if let Some(first) = members.first() {
            first.store(u32::from(own), Ordering::Relaxed);
        }
        Self {
            own,
            homes: (0..HOMES_MAX)
                .map(|_| (OnceLock::new(), AtomicU8::new(Standing::Unknown as u8)))
                .collect(),
            members,
            changes: AtomicU64::new(0),
            has_news: AtomicBool::new(false),
        }
    }

    /// The number of a home, which it is given here; none where there are too many.
    #[must_use]
    pub fn id_of(&self, home: Home) -> HomeId {
        for (n, (place, _)) in (1..).zip(&self.homes) {
            let known = place.get_or_init(|| {
                self.has_news.store(true, Ordering::Relaxed);
                home
            });
            if *known == home {
                return HomeId(n);
            }
        }
        HomeId::NONE
    }

    /// A home by its number.
    #[must_use]
    pub fn home(&self, id: HomeId) -> Option<&Home> {
        let place = usize::from(id.0).checked_sub(1)?;
        self.homes.get(place)?.0.get()
    }

    /// How a home stands.
    #[must_use]
    pub fn standing(&self, id: HomeId) -> Standing {
        let place = usize::from(id.0).checked_sub(1);
        let home = place.and_then(|place| self.homes.get(place));
        match home.map_or(0, |(_, standing)| standing.load(Ordering::Relaxed)) {
            1 => Standing::Own,
            2 => Standing::Strowger,
            3 => Standing::Kamailio,
            4 => Standing::Gone,
            _ => Standing::Unknown,
        }
    }

    /// Whether this node acts for a contact of `aor` that is at home there: it is its own, or it is gone and the contact falls to this node.
    #[must_use]
    pub fn is_ours(&self, id: HomeId, aor: &[u8]) -> bool {
        match self.standing(id) {
            Standing::Own => true,
            Standing::Gone => self.heir(aor) == self.own,
            Standing::Unknown | Standing::Strowger | Standing::Kamailio => false,
        }
    }

    /// Who acts for an AoR's contacts whose home is gone: of the nodes that are there, the one that hashes highest together with the AoR.
    #[must_use]
    pub fn heir(&self, aor: &[u8]) -> u16 {
        let members = self.members.iter().map(|id| id.load(Ordering::Relaxed));
        let members = members.take_while(|id| *id != 0);
        let heir = members.max_by_key(|id| {
            // The same on every node, so without a key.
            let mut hasher = SipHasher13::new();
            hasher.write_u32(*id);
            hasher.write(aor);
            (hasher.finish(), *id)
        });
        heir.and_then(|id| u16::try_from(id).ok())
            .unwrap_or(self.own)
    }

    /// Notes who is there (`members`, in ascending order) and how each home stands.
    pub fn publish(&self, members: &[u16], standing: impl Fn(&Home) -> Standing) {
        let mut has_changed = false;
        let ids = members.iter().map(|id| u32::from(*id));
        for (place, id) in self.members.iter().zip(ids.chain(std::iter::repeat(0))) {
            has_changed |= place.swap(id, Ordering::Relaxed) != id;
        }
        let known = self
            .homes
            .iter()
            .map_while(|(home, was)| Some((home.get()?, was)));
        for (home, was) in known {
            let is = standing(home) as u8;
            has_changed |= was.swap(is, Ordering::Relaxed) != is;
        }
        if has_changed {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a home has become known since this was last asked.
    pub fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::Relaxed)
    }

    /// How often anything has changed: a worker that sees another number than before looks what has fallen to it.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// This node's number.
    #[must_use]
    pub const fn own(&self) -> u16 {
        self.own
    }
}

const _: () = assert!(HOMES_MAX < u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn home(server_id: u16) -> Home {
        Home {
            server_id,
            socket: None,
            is_told: true,
        }
    }

    #[test]
    fn a_home_has_one_number_and_there_are_no_more_than_the_bound() {
        let homes = Homes::new(1);
        let ids: Vec<HomeId> = (0..700).map(|n| homes.id_of(home(n))).collect();
        assert!(ids.iter().filter(|id| id.is_some()).count() == HOMES_MAX);
        assert_eq!(homes.id_of(home(5)), ids[5]);
        assert_eq!(homes.home(ids[5]), Some(&home(5)));
        assert_eq!(homes.home(HomeId::NONE), None);
        assert_eq!(homes.standing(HomeId::NONE), Standing::Unknown);
    }

    #[test]
    fn each_contact_of_a_node_that_is_gone_falls_to_one_of_the_others_and_back_to_it() {
        let all: Vec<Homes> = (1..=4).map(Homes::new).collect();
        let fifth: Vec<HomeId> = all.iter().map(|homes| homes.id_of(home(5))).collect();
        let says = |members: &[u16], standing: Standing| {
            all.iter()
                .for_each(|homes| homes.publish(members, |_| standing));
        };
        let owners = |aor: &str| -> Vec<u16> {
            let both = all.iter().zip(&fifth);
            let ours = both.filter(|(homes, id)| homes.is_ours(**id, aor.as_bytes()));
            ours.map(|(homes, _)| homes.own()).collect()
        };
        let aors: Vec<String> = (0..400).map(|n| format!("user{n}")).collect();
        says(&[1, 2, 3, 4, 5], Standing::Strowger);
        assert!(aors.iter().all(|aor| owners(aor).is_empty()));
        says(&[1, 2, 3, 4], Standing::Gone);
        let first: Vec<Vec<u16>> = aors.iter().map(|aor| owners(aor)).collect();
        assert!(first.iter().all(|owners| owners.len() == 1), "{first:?}");
        for id in 1..=4 {
            let share = first.iter().filter(|owners| **owners == [id]).count();
            assert!((50..150).contains(&share), "{share}");
        }
        // With another one gone, what had fallen to those who stay stays with them.
        says(&[1, 2, 3], Standing::Gone);
        for (aor, before) in aors
            .iter()
            .zip(&first)
            .filter(|(_, owners)| **owners != [4])
        {
            let now = all[..3].iter().map(|homes| homes.heir(aor.as_bytes()));
            assert!(now.into_iter().all(|heir| heir == before[0]));
        }
        let before = all[0].changes();
        says(&[1, 2, 3], Standing::Gone);
        assert_eq!(all[0].changes(), before);
        says(&[1, 2, 3, 5], Standing::Strowger);
        assert!(all[0].changes() > before && aors.iter().all(|aor| owners(aor).is_empty()));
    }
}

//! Removal at the operator's word: what no REGISTER asked for.

use super::contact::{contact_hash, same_contact};
use super::{Location, Lookup};
use crate::limits::LIVE_CONTACTS_MAX;
use crate::time::Instant;

impl Location {
    /// Removes the live contacts of an AoR, or the one of them that `contact` is equal to (RFC 3261 19.1.4); gives what was known of
    /// the AoR and how many were removed.
    ///
    /// A phone that refreshes is bound anew: who is to stay away is to be refused elsewhere.
    pub fn evict(&self, now: Instant, aor: &[u8], contact: Option<&[u8]>) -> (Lookup, usize) {
        let wanted = contact.map(|uri| (uri, contact_hash(&self.hasher, uri)));
        let (number, key) = self.key(aor);
        let mut shard = self.shards[number].0.lock();
        let Some(held) = shard.aor_bindings(key) else {
            return (Lookup::Unknown, 0);
        };
        let (mut doomed, mut count, mut known) = ([0; LIVE_CONTACTS_MAX], 0, Lookup::NoContacts);
        for (index, binding) in held.bindings().filter(|(_, held)| held.is_live(now)) {
            known = Lookup::Found;
            let is_wanted = wanted.is_none_or(|(uri, hash)| {
                binding.contact_hash == hash && same_contact(binding.contact(), uri)
            });
            if let Some(place) = doomed.get_mut(count).filter(|_| is_wanted) {
                *place = index;
                count += 1;
            }
        }
        for index in &doomed[..count] {
            shard.evict(now, *index, &self.tally);
        }
        (known, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{Flow, ListenerId, Transport};
    use crate::location::{Change, LocationSettings, Refusal, Registration, Targets};
    use crate::time::Duration;

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);

    fn location() -> Location {
        Location::new(&LocationSettings {
            hash_key: [5; 16],
            bindings_max: 100,
            contacts_max: 3,
        })
    }

    fn register(location: &Location, contact: &str, cseq: u32) -> Result<usize, Refusal> {
        let registration = Registration {
            call_id: b"call-1",
            cseq,
            user_agent: b"",
            path: b"",
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: "198.51.100.7:5060".parse().expect("an address"),
            },
        };
        let change = Change {
            uri: contact.as_bytes(),
            expires: Duration::from_secs(60),
            q: None,
            received: false,
            instance: b"",
            reg_id: 0,
        };
        let mut targets = Targets::new();
        let (result, _) = location.apply(START, b"alice", &registration, &[change], &mut targets);
        result.map(|()| targets.len())
    }

    #[test]
    fn one_contact_goes_or_all_do_and_the_counts_follow() {
        let location = location();
        for (cseq, contact) in [(1, "sip:a@192.0.2.1"), (2, "sip:a@192.0.2.2")] {
            register(&location, contact, cseq).expect("room");
        }
        register(&location, "sip:a@192.0.2.3", 3).expect("room");
        let evict = |contact: Option<&[u8]>| location.evict(START, b"alice", contact);
        assert_eq!(evict(Some(b"sip:a@192.0.2.9")), (Lookup::Found, 0));
        assert_eq!(evict(Some(b"SIP:%61@192.0.2.2")), (Lookup::Found, 1));
        assert_eq!(location.bindings(), 2);
        assert!(
            location
                .registered_contact(START, b"sip:a@192.0.2.2")
                .is_none()
        );
        assert!(
            location
                .registered_contact(START, b"sip:a@192.0.2.1")
                .is_some()
        );
        assert_eq!(evict(None), (Lookup::Found, 2));
        assert_eq!((location.bindings(), location.held()), (0, 3));
        assert_eq!(evict(None), (Lookup::NoContacts, 0));
        assert_eq!(location.evict(START, b"bob", None), (Lookup::Unknown, 0));
    }

    #[test]
    fn a_late_duplicate_does_not_revive_what_was_removed_and_a_refresh_does() {
        let location = location();
        register(&location, "sip:a@192.0.2.1", 7).expect("room");
        location.evict(START, b"alice", None);
        assert_eq!(register(&location, "sip:a@192.0.2.1", 7), Ok(0));
        assert_eq!(
            register(&location, "sip:a@192.0.2.1", 6),
            Err(Refusal::OutOfOrder)
        );
        assert_eq!(location.bindings(), 0);
        assert_eq!(register(&location, "sip:a@192.0.2.1", 8), Ok(1));
        assert_eq!(location.bindings(), 1);
    }
}

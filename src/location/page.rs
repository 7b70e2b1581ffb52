//! AoRs copied out of the location with all that is known of their contacts: for who looks at many of them, a slice at a time.
//!
//! A slice holds the lock of one shard after another, and looks at no more than [`PAGE_BUDGET`] AoRs and bindings in all. A cursor
//! is a place in the tables of AoRs, which an AoR keeps for as long as it is held: so a walk from the first slice to the last shows
//! an AoR that has a contact all the while exactly once, whatever is registered and removed meanwhile.

use std::ops::Range;

use super::Location;
use super::aor::AorBindings;
use super::binding::Held;
use super::change::Lookup;
use super::delta::Facts;
use super::packed_flow::PackedFlow;
use super::ruid::Origins;
use crate::datagram::Flow;
use crate::limits::{LOCATION_SHARDS, PAGE_BUDGET, PAGE_LEN};
use crate::time::Instant;

/// Where a walk over all AoRs goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCursor {
    /// The shard.
    pub shard: u16,
    /// The place in its table of AoRs.
    pub place: u32,
}

/// AoRs with their live contacts. Once it has grown to its greatest use it allocates nothing.
#[derive(Debug, Default)]
pub struct Page {
    bytes: Vec<u8>,
    aors: Vec<AorEntry>,
    contacts: Vec<ContactEntry>,
}

/// An AoR of a page.
#[derive(Clone, Copy, Debug)]
pub struct PagedAor<'a> {
    page: &'a Page,
    entry: &'a AorEntry,
}

/// One contact of a page: all that is known of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagedContact<'a> {
    /// The contact's URI, as the phone wrote it.
    pub uri: &'a [u8],
    /// The values of Path (RFC 3327), comma-separated; empty without one.
    pub path: &'a [u8],
    /// The Call-ID of the last REGISTER.
    pub call_id: &'a [u8],
    /// Its User-Agent.
    pub user_agent: &'a [u8],
    /// `+sip.instance` (RFC 5626), empty without one.
    pub instance: &'a [u8],
    /// The binding's own name.
    pub ruid: &'a [u8],
    /// The number of the CSeq of the last REGISTER.
    pub cseq: u32,
    /// `reg-id` (RFC 5626), 0 without one.
    pub reg_id: u32,
    /// The q value in thousandths.
    pub q: Option<u16>,
    /// When the binding ends.
    pub expires: Instant,
    /// The flow to use instead of what the URI says, where the phone is behind a NAT or on a connection.
    pub received: Option<Flow>,
    /// When it was last saved.
    pub modified: Instant,
    /// What nodes tell each other of it, where there are others.
    pub facts: Option<Facts>,
}

#[derive(Clone, Debug)]
struct AorEntry {
    text: Range<usize>,
    contacts: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
struct ContactEntry {
    start: usize,
    lens: [usize; TEXTS],
    cseq: u32,
    reg_id: u32,
    q: Option<u16>,
    expires: Instant,
    received: bool,
    flow: PackedFlow,
    modified: Instant,
    facts: Option<Facts>,
}

impl Location {
    /// Adds to `page` the AoRs from the cursor on that have a live contact, one slice of them and at most `aors_max`; gives where
    /// to go on, or `None` at the end.
    pub fn page(
        &self,
        now: Instant,
        from: PageCursor,
        aors_max: usize,
        page: &mut Page,
    ) -> Option<PageCursor> {
        let (mut cursor, mut budget) = (from, PAGE_BUDGET);
        let len_max = page.len() + aors_max;
        while let Some(shard) = self.shards.get(usize::from(cursor.shard)) {
            let shard = shard.0.lock();
            for place in cursor.place..shard.aor_places() {
                if budget == 0 || page.len() >= len_max || page.bytes.len() >= PAGE_LEN {
                    return Some(PageCursor { place, ..cursor });
                }
                let seen = shard
                    .aor_at(place)
                    .map_or(0, |aor| page.add(now, &aor, &self.origins));
                budget = budget.saturating_sub(1 + seen);
            }
            cursor = PageCursor {
                shard: cursor.shard + 1,
                place: 0,
            };
            // A shard costs as well: most are empty where there are few AoRs.
            budget = budget.saturating_sub(1);
            if budget == 0 && usize::from(cursor.shard) < LOCATION_SHARDS {
                return Some(cursor);
            }
        }
        None
    }

    /// Adds one AoR to `page`, where it has a live contact.
    pub fn page_of(&self, now: Instant, aor: &[u8], page: &mut Page) -> Lookup {
        let (number, key) = self.key(aor);
        let shard = self.shards[number].0.lock();
        let Some(found) = shard.aor_bindings(key) else {
            return Lookup::Unknown;
        };
        let before = page.len();
        page.add(now, &found, &self.origins);
        if page.len() > before {
            Lookup::Found
        } else {
            Lookup::NoContacts
        }
    }
}

impl PageCursor {
    /// The beginning.
    pub const START: Self = Self { shard: 0, place: 0 };
}

impl Page {
    /// A page with room for a usual slice.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(PAGE_LEN),
            aors: Vec::with_capacity(PAGE_BUDGET),
            contacts: Vec::with_capacity(PAGE_BUDGET),
        }
    }

    /// Forgets all AoRs and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.aors.clear();
        self.contacts.clear();
    }

    /// The AoRs.
    pub fn aors(&self) -> impl ExactSizeIterator<Item = PagedAor<'_>> {
        self.aors.iter().map(|entry| PagedAor { page: self, entry })
    }

    /// How many AoRs there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.aors.len()
    }

    /// Bytes of all texts.
    #[must_use]
    pub const fn text_len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.aors.is_empty()
    }

    /// Adds an AoR where it has a live contact; gives how many bindings were looked at.
    fn add(&mut self, now: Instant, aor: &AorBindings<'_>, origins: &Origins) -> usize {
        let (first, mut seen) = (self.contacts.len(), 0);
        for (index, binding) in aor.bindings() {
            seen += 1;
            if binding.is_live(now) {
                self.push(binding, aor.shard.facts_told(index, binding), origins);
            }
        }
        if self.contacts.len() > first {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(aor.text());
            self.aors.push(AorEntry {
                text: start..self.bytes.len(),
                contacts: first..self.contacts.len(),
            });
        }
        seen
    }

    fn push(&mut self, binding: Held<'_>, facts: Option<Facts>, origins: &Origins) {
        let start = self.bytes.len();
        let texts: [&[u8]; TEXTS - 1] = [
            binding.contact(),
            binding.path(),
            binding.call_id(),
            binding.user_agent(),
            binding.instance(),
        ];
        let mut lens = [0; TEXTS];
        for (text, len) in texts.iter().zip(&mut lens) {
            self.bytes.extend_from_slice(text);
            *len = text.len();
        }
        let before = self.bytes.len();
        origins.write(binding.ruid, binding.name(), &mut self.bytes);
        lens[TEXTS - 1] = self.bytes.len() - before;
        self.contacts.push(ContactEntry {
            start,
            lens,
            cseq: binding.cseq,
            reg_id: binding.reg_id,
            q: binding.q(),
            expires: binding.expires,
            received: binding.received(),
            flow: binding.flow(),
            modified: binding.modified,
            facts,
        });
    }

    fn contact(&self, entry: &ContactEntry) -> PagedContact<'_> {
        let mut start = entry.start;
        let [uri, path, call_id, user_agent, instance, ruid] = entry.lens.map(|len| {
            let text = self.bytes.get(start..start + len).unwrap_or_default();
            start += len;
            text
        });
        PagedContact {
            uri,
            path,
            call_id,
            user_agent,
            instance,
            ruid,
            cseq: entry.cseq,
            reg_id: entry.reg_id,
            q: entry.q,
            expires: entry.expires,
            received: entry.received.then(|| entry.flow.unpack()),
            modified: entry.modified,
            facts: entry.facts,
        }
    }
}

impl<'a> PagedAor<'a> {
    /// The AoR in canonical form.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        let text = self.page.bytes.get(self.entry.text.clone());
        text.unwrap_or_default()
    }

    /// Its live contacts, in the order in which they came.
    pub fn contacts(&self) -> impl ExactSizeIterator<Item = PagedContact<'a>> {
        let page = self.page;
        let entries = page.contacts.get(self.entry.contacts.clone());
        let entries = entries.unwrap_or_default().iter();
        entries.map(|entry| page.contact(entry))
    }
}

/// The texts of one contact.
const TEXTS: usize = 6;

const _: () = assert!(LOCATION_SHARDS < u16::MAX as usize);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::datagram::{ListenerId, Transport};
    use crate::location::{Change, LocationSettings, Registration, SweepCursor, Targets};
    use crate::time::Duration;

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);

    fn location() -> Location {
        Location::new(&LocationSettings {
            hash_key: [5; 16],
            bindings_max: 100_000,
            contacts_max: 16,
        })
    }

    fn register(location: &Location, user: &str, contact: &str, cseq: u32, expires_s: u64) {
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Tcp,
            peer: "198.51.100.7:40000".parse().expect("an address"),
        };
        let registration = Registration {
            call_id: b"call-1",
            cseq,
            user_agent: b"phone/1",
            path: b"<sip:edge;lr>",
            flow,
        };
        let change = Change {
            uri: contact.as_bytes(),
            expires: Duration::from_secs(expires_s),
            q: Some(700),
            received: true,
            instance: b"<urn:uuid:1>",
            reg_id: 2,
        };
        let mut targets = Targets::new();
        let (result, _) = location.apply(
            START,
            user.as_bytes(),
            &registration,
            &[change],
            &mut targets,
        );
        result.expect("room");
    }

    /// Walks over all AoRs, `between` two slices doing what it likes; gives how often each was seen, and how many slices it took.
    fn walk(
        location: &Location,
        aors_max: usize,
        mut between: impl FnMut(usize),
    ) -> (BTreeMap<String, usize>, usize) {
        let (mut seen, mut slices, mut page) = (BTreeMap::new(), 0, Page::new());
        let mut cursor = Some(PageCursor::START);
        while let Some(from) = cursor {
            page.clear();
            cursor = location.page(START, from, aors_max, &mut page);
            assert!(page.len() <= aors_max.min(PAGE_BUDGET));
            for aor in page.aors() {
                let text = String::from_utf8_lossy(aor.text()).into_owned();
                *seen.entry(text).or_default() += 1;
            }
            slices += 1;
            between(slices);
        }
        (seen, slices)
    }

    #[test]
    fn a_contact_comes_with_all_that_is_known_of_it() {
        let location = location();
        register(&location, "alice", "sip:alice@192.0.2.7", 9, 60);
        let mut page = Page::new();
        assert_eq!(location.page_of(START, b"alice", &mut page), Lookup::Found);
        let aor = page.aors().next().expect("found");
        let contact = aor.contacts().next().expect("one");
        let flow = contact.received.expect("behind a NAT");
        assert_eq!(aor.text(), b"alice");
        assert_eq!(contact.uri, b"sip:alice@192.0.2.7");
        assert_eq!(contact.path, b"<sip:edge;lr>");
        assert_eq!(contact.call_id, b"call-1");
        assert_eq!(contact.user_agent, b"phone/1");
        assert_eq!(contact.instance, b"<urn:uuid:1>");
        assert_eq!((contact.cseq, contact.reg_id), (9, 2));
        assert_eq!((contact.q, contact.ruid.is_empty()), (Some(700), false));
        assert_eq!(contact.expires, START + Duration::from_secs(60));
        assert_eq!(flow.peer.to_string(), "198.51.100.7:40000");
        let later = START + Duration::from_secs(61);
        assert_eq!(
            location.page_of(later, b"alice", &mut page),
            Lookup::NoContacts
        );
        assert_eq!(location.page_of(later, b"bob", &mut page), Lookup::Unknown);
    }

    #[test]
    fn who_stays_is_shown_once_whatever_happens_meanwhile() {
        let location = location();
        for n in 0..5_000 {
            register(
                &location,
                &format!("stays-{n}"),
                "sip:a@192.0.2.1",
                1,
                3_600,
            );
            register(&location, &format!("goes-{n}"), "sip:a@192.0.2.2", 1, 3_600);
        }
        let mut sweep = SweepCursor::new(0, 1);
        let (seen, slices) = walk(&location, 97, |n| {
            // Some go and are swept, others come into their places, and who stays refreshes and gets further contacts.
            for m in (n * 50)..(n * 50 + 50) {
                location.evict(START, format!("goes-{m}").as_bytes(), None);
                register(&location, &format!("comes-{m}"), "sip:a@192.0.2.3", 1, 60);
                let who = format!("stays-{}", m % 5_000);
                let cseq = 2 + u32::try_from(m).expect("small");
                register(&location, &who, "sip:a@192.0.2.1", cseq, 3_600);
                register(&location, &who, "sip:b@192.0.2.1", cseq, 3_600);
            }
            for _ in 0..64 {
                location.sweep(START + Duration::from_secs(40), &mut sweep, 256);
            }
        });
        assert!(slices > 50, "{slices}");
        for n in 0..5_000 {
            assert_eq!(seen.get(&format!("stays-{n}")), Some(&1), "{n}");
        }
        assert!(seen.len() > 5_000 && seen.len() < 15_000);
    }

    #[test]
    fn a_slice_is_bounded_and_an_empty_location_has_few() {
        let location = location();
        let (seen, slices) = walk(&location, 1_000, |_| {});
        assert_eq!(
            (seen.len(), slices),
            (0, LOCATION_SHARDS.div_ceil(PAGE_BUDGET))
        );
        for n in 0..1_000 {
            register(&location, &format!("u{n}"), "sip:a@192.0.2.1", 1, 60);
        }
        let (seen, slices) = walk(&location, 1_000, |_| {});
        // Each AoR costs two, itself and its binding, and each shard one.
        let least = (2_000 + LOCATION_SHARDS) / PAGE_BUDGET;
        assert_eq!(seen.len(), 1_000);
        assert!((least..=least + 2).contains(&slices), "{slices}");
    }
}

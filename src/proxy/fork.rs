//! Forking (RFC 3261 16.6): the contacts of an AoR, those of one q at the same time, the next lower q when those have failed
//! or have rung long enough; never more at the same time than the request's breadth allows (RFC 5393 5.3.3).

use super::flows::UNREACHED;
use super::next_hop::{self, ENTRY_LEN};
use super::output::Output;
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::datagram::{Destination, Flow, ListenerId};
use crate::location::{self, HomeId};
use crate::sip::message::Message;
use crate::time::Instant;
use crate::transaction::server::ServerSlot;

impl Proxy {
    /// Opens a branch to each contact of the highest q that the lookup gave out, and keeps the others for later.
    pub(super) fn fork(
        &mut self,
        now: Instant,
        server: ServerSlot,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        // The targets leave the bench while its edits are at work.
        let targets = std::mem::take(&mut bench.targets);
        self.fork_to(now, server, targets.iter(), request, bench, out);
        bench.targets = targets;
    }

    /// Opens a branch to each contact of the highest q among those that were not tried yet.
    pub(super) fn fork_further(
        &mut self,
        now: Instant,
        server: ServerSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(relay) = self.table.server_mut(server).map(|server| &mut server.data) else {
            return;
        };
        let Some(untried) = relay.untried.take() else {
            return;
        };
        let mut bytes = std::mem::take(&mut bench.untried);
        bytes.clear();
        bytes.extend_from_slice(self.table.arena().bytes(&untried));
        self.table.arena_mut().release(untried);
        self.recall(server, bench, |proxy, request, bench| {
            proxy.fork_to(now, server, Untried(&bytes), request, bench, out);
        });
        bench.untried = bytes;
    }

    /// Whether contacts are left to try, and the request may still be answered by one of them.
    pub(super) fn may_fork_further(&self, server: ServerSlot) -> bool {
        self.table.server(server).is_some_and(|server| {
            let relay = &server.data;
            let is_decided = relay.best.as_ref().is_some_and(|best| best.status() >= 600);
            relay.untried.is_some()
                && !relay.is_cancelled
                && !is_decided
                && server.state().is_pending()
        })
    }

    fn fork_to<'t>(
        &mut self,
        now: Instant,
        server: ServerSlot,
        targets: impl Iterator<Item = location::Target<'t>> + Clone,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(first) = targets.clone().next() else {
            return;
        };
        // As nearly always there is one, which gets all of the breadth.
        if targets.clone().nth(1).is_none() {
            let share = (server, self.free_breadth(server).max(1));
            return self.open_phone(now, share, std::iter::once(first), request, bench, out);
        }
        // RFC 5626 7: of the flows of an instance one is tried, and the others only where that fails.
        let phones = targets
            .clone()
            .enumerate()
            .filter(|(place, target)| !has_alternative(targets.clone().take(*place), target));
        let of_highest = phones
            .clone()
            .take_while(|(_, target)| target.q() == first.q())
            .count();
        let behind = phones.clone().count() - of_highest;
        let shares = Shares::new(self.free_breadth(server), of_highest, behind);
        let tried = phones
            .clone()
            .nth(shares.branches)
            .map_or(usize::MAX, |(place, _)| place);
        let untried = targets
            .clone()
            .skip(tried)
            .filter(|target| !has_alternative(targets.clone().take(tried), target));
        self.keep_untried(server, untried, bench);
        for (turn, (place, phone)) in phones.take(shares.branches).enumerate() {
            let others = targets
                .clone()
                .skip(place + 1)
                .filter(|other| other.is_alternative_to(&phone));
            let contacts = std::iter::once(phone).chain(others);
            let share = (server, shares.of(turn));
            self.open_phone(now, share, contacts, request, bench, out);
        }
    }

    /// Opens a branch to the first of a phone's contacts that can be reached.
    fn open_phone<'t>(
        &mut self,
        now: Instant,
        share: (ServerSlot, u8),
        contacts: impl Iterator<Item = location::Target<'t>> + Clone,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_by_flow = contacts
            .clone()
            .next()
            .is_some_and(|first| first.is_by_flow());
        if !self.open_flow(now, share, contacts, request, bench, out) {
            self.note_made(share.0, if is_by_flow { UNREACHED } else { 503 });
        }
    }

    /// The breadth that no branch in progress has.
    pub(super) fn free_breadth(&self, server: ServerSlot) -> u8 {
        let whole = self
            .table
            .server(server)
            .map_or(0, |server| server.data.breadth);
        self.table
            .clients_of(server)
            .filter(|(_, client)| client.data.is_request() && client.state().is_pending())
            .fold(whole, |left, (_, client)| {
                left.saturating_sub(client.data.breadth)
            })
    }

    /// Keeps the contacts that are to be tried later. At the arena's bound they are left out.
    fn keep_untried<'t>(
        &mut self,
        server: ServerSlot,
        targets: impl Iterator<Item = location::Target<'t>>,
        bench: &mut Bench,
    ) {
        bench.text.clear();
        for target in targets {
            write_target(&mut bench.text, &target);
        }
        if bench.text.is_empty() {
            return;
        }
        let kept = self.table.arena_mut().store(&bench.text);
        if kept.is_none() {
            self.counters.increment(Counter::RefusedTransactions);
        }
        if let Some(server) = self.table.server_mut(server) {
            server.data.untried = kept;
        }
    }
}

/// How a breadth is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    branches: usize,
    each: u8,
    /// How many branches get one more.
    larger: usize,
}

impl Shares {
    /// Shares out `breadth` to as many of `wanted` branches as it allows, at least one; of what is not needed now, one is kept
    /// for each of those that come behind, as far as it goes.
    fn new(breadth: u8, wanted: usize, behind: usize) -> Self {
        let breadth = usize::from(breadth.max(1));
        let branches = wanted.clamp(1, breadth);
        let kept = behind.min(breadth - branches);
        let shared = breadth - kept;
        Self {
            branches,
            each: u8::try_from(shared / branches).unwrap_or(u8::MAX),
            larger: shared % branches,
        }
    }

    /// The share of the branch at `place`.
    fn of(&self, place: usize) -> u8 {
        self.each + u8::from(place < self.larger)
    }
}

/// Whether one of `earlier` is a flow of the same instance.
fn has_alternative<'t>(
    mut earlier: impl Iterator<Item = location::Target<'t>>,
    target: &location::Target<'_>,
) -> bool {
    target.is_flow() && earlier.any(|other| other.is_alternative_to(target))
}

/// Reads contacts as [`write_target`] wrote them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untried<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Untried<'a> {
    type Item = location::Target<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<HEAD_LEN>()?;
        let [
            q0,
            q1,
            listener,
            has_received,
            uri0,
            uri1,
            path0,
            path1,
            instance_len,
            reg0,
            reg1,
            reg2,
            reg3,
            flow @ ..,
        ] = *head;
        let uri_len = usize::from(u16::from_be_bytes([uri0, uri1]));
        let path_len = usize::from(u16::from_be_bytes([path0, path1]));
        let (uri, rest) = rest.split_at_checked(uri_len)?;
        let (path, rest) = rest.split_at_checked(path_len)?;
        let (instance, rest) = rest.split_at_checked(usize::from(instance_len))?;
        self.0 = rest;
        let Destination { transport, address } = next_hop::decode(&flow);
        let listener = ListenerId(listener);
        let received = (has_received != 0).then_some(Flow {
            listener,
            transport,
            peer: address,
        });
        Some(location::Target {
            uri,
            path,
            q: Some(u16::from_be_bytes([q0, q1])),
            expires: Instant::EPOCH,
            listener,
            received,
            instance,
            reg_id: u32::from_be_bytes([reg0, reg1, reg2, reg3]),
            call_id: b"",
            cseq: 0,
            home: HomeId::NONE,
        })
    }
}

/// Appends a contact: what a later branch needs of it.
pub(super) fn write_target(out: &mut Vec<u8>, target: &location::Target<'_>) {
    let lengths = [target.uri, target.path].map(|text| u16::try_from(text.len()));
    let [Ok(uri_len), Ok(path_len)] = lengths else {
        return;
    };
    let Ok(instance_len) = u8::try_from(target.instance.len()) else {
        return;
    };
    let nowhere = [0; ENTRY_LEN];
    let flow = target.received.map_or(nowhere, |flow| {
        next_hop::encode(&Destination {
            transport: flow.transport,
            address: flow.peer,
        })
    });
    out.extend_from_slice(&target.q().to_be_bytes());
    out.extend_from_slice(&[target.listener.0, u8::from(target.received.is_some())]);
    out.extend_from_slice(&uri_len.to_be_bytes());
    out.extend_from_slice(&path_len.to_be_bytes());
    out.push(instance_len);
    out.extend_from_slice(&target.reg_id.to_be_bytes());
    out.extend_from_slice(&flow);
    for text in [target.uri, target.path, target.instance] {
        out.extend_from_slice(text);
    }
}

const HEAD_LEN: usize = 13 + ENTRY_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Transport;

    #[test]
    fn a_breadth_is_shared_out_whole_and_never_exceeded() {
        for breadth in 1..=60_u8 {
            for wanted in 1..=16 {
                for behind in 0..=15 {
                    let shares = Shares::new(breadth, wanted, behind);
                    let given: usize = (0..shares.branches)
                        .map(|place| usize::from(shares.of(place)))
                        .sum();
                    assert!(given <= usize::from(breadth));
                    assert!(shares.branches >= 1 && shares.branches <= wanted);
                    assert!((0..shares.branches).all(|place| shares.of(place) >= 1));
                }
            }
        }
        assert_eq!(
            Shares::new(60, 1, 0),
            Shares {
                branches: 1,
                each: 60,
                larger: 0
            }
        );
    }

    #[test]
    fn contacts_come_back_as_they_were_kept() {
        let flow = |transport| Flow {
            listener: ListenerId(3),
            transport,
            peer: "192.0.2.9:4000".parse().expect("an address"),
        };
        let targets =
            [None, Some(flow(Transport::Udp)), Some(flow(Transport::Tcp))].map(|received| {
                location::Target {
                    uri: b"sip:bob@10.0.0.1",
                    path: if received.is_some() {
                        b"<sip:p;lr>"
                    } else {
                        b""
                    },
                    q: Some(700),
                    expires: Instant::EPOCH,
                    listener: ListenerId(3),
                    received,
                    instance: b"<urn:uuid:1>",
                    reg_id: 0x0102_0304,
                    call_id: b"",
                    cseq: 0,
                    home: HomeId::NONE,
                }
            });
        let mut bytes = Vec::new();
        targets
            .iter()
            .for_each(|target| write_target(&mut bytes, target));
        assert!(Untried(&bytes).eq(targets));
        assert_eq!(Untried(&bytes[..bytes.len() - 1]).count(), 2);
    }
}

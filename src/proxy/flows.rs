//! Requests to phones that are reached by a flow alone (RFC 5626 5.3 and 7): by that very flow, or by the next flow of the same
//! instance where it has failed; never by a new connection, and never by two flows of an instance at the same time.

use super::branch::Target;
use super::fork::{Untried, write_target};
use super::next_hop::NextHop;
use super::output::Output;
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::datagram::Flow;
use crate::location;
use crate::sip::message::Message;
use crate::time::Instant;
use crate::transaction::client::ClientSlot;
use crate::transaction::server::ServerSlot;

/// What a caller is told of a phone whose flows have all failed: a 430 is for proxies alone (RFC 5626 11.5).
pub(super) const UNREACHED: u16 = 480;
/// What a proxy is told that sent a request by our flow token (RFC 5626 5.3).
pub(super) const FLOW_FAILED: u16 = 430;

impl Proxy {
    /// Opens a branch to the first of a phone's contacts that can be reached now; the flows behind it are kept for when it fails.
    pub(super) fn open_flow<'t>(
        &mut self,
        now: Instant,
        (server, breadth): (ServerSlot, u8),
        mut contacts: impl Iterator<Item = location::Target<'t>>,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) -> bool {
        while let Some(contact) = contacts.next() {
            let Some(hop) = self.hop_to_target(&contact) else {
                self.counters.increment(Counter::RefusedUnresolvable);
                continue;
            };
            if contact.is_by_flow()
                && let NextHop::Flow(flow) = hop
                && is_gone(&flow, out)
            {
                self.counters.increment(Counter::RefusedFlow);
                continue;
            }
            let mut behind = std::mem::take(&mut bench.flows);
            behind.clear();
            contacts.for_each(|contact| write_target(&mut behind, &contact));
            let target = Target {
                uri: Some(contact.uri),
                path: (!contact.path.is_empty()).then_some(contact.path),
                hop,
                is_behind_nat: contact.received.is_some(),
                breadth,
                if_gone: contact.is_by_flow().then_some(UNREACHED),
                flows: &behind,
            };
            self.open_leg(now, server, request, &target, bench, out);
            bench.flows = behind;
            return true;
        }
        false
    }

    /// Tries the next flow of the instance whose branch has failed as a flow fails (RFC 5626 7: without an answer, with 408 or with 430).
    /// Says whether there was one.
    pub(super) fn try_next_flow(
        &mut self,
        now: Instant,
        failed: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) -> bool {
        let Some(entry) = self.table.client_mut(failed) else {
            return false;
        };
        let (server, breadth) = (entry.server(), entry.data.breadth);
        let Some(kept) = entry.data.flows.take() else {
            return false;
        };
        let mut bytes = std::mem::take(&mut bench.untried);
        bytes.clear();
        bytes.extend_from_slice(self.table.arena().bytes(&kept));
        self.table.arena_mut().release(kept);
        let is_wanted = self
            .table
            .server(server)
            .is_some_and(|server| server.state().is_pending() && !server.data.is_cancelled);
        let goes_on = is_wanted
            && self.recall(server, bench, |proxy, request, bench| {
                let flows = Untried(&bytes);
                proxy.open_flow(now, (server, breadth), flows, request, bench, out)
            }) == Some(true);
        bench.untried = bytes;
        if goes_on {
            self.counters.increment(Counter::Failovers);
        }
        goes_on
    }

    /// Opens the branch of a request that is to go by this flow and no other way (RFC 5626 5.3).
    pub(super) fn open_by_flow(
        &mut self,
        now: Instant,
        server: ServerSlot,
        (flow, if_gone): (Flow, u16),
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        if is_gone(&flow, out) {
            self.counters.increment(Counter::RefusedFlow);
            return self.note_made(server, if_gone);
        }
        let target = Target {
            uri: None,
            path: None,
            hop: NextHop::Flow(flow),
            is_behind_nat: true,
            breadth: self.free_breadth(server),
            if_gone: Some(if_gone),
            flows: b"",
        };
        self.open_leg(now, server, request, &target, bench, out);
    }
}

/// Whether a flow is known to be gone: its connection is closed. Of datagrams only a failure tells.
pub(super) fn is_gone(flow: &Flow, out: &impl Output) -> bool {
    flow.transport.is_reliable() && !out.is_connected(flow)
}

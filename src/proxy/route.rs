//! Where a request goes: its Route values (RFC 3261 16.4), its targets (16.5), and whether its sender may go there.

use super::Proxy;
use super::compose::{Consumed, last_route_uri};
use super::flows::{FLOW_FAILED, UNREACHED};
use super::gruu;
use super::next_hop::NextHop;
use super::settings::Trunk;
use super::token::Verified;
use super::validate::Refusal;
use crate::counters::Counter;
use crate::datagram::{Destination, Flow, ListenerId};
use crate::flow_token;
use crate::limits::AOR_LEN_MAX;
use crate::location::{Lookup, Target, Targets};
use crate::sip::error::SipError;
use crate::sip::host::Host;
use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::sip::uri::{Uri, canonical_aor};
use crate::time::Instant;

/// What was decided about a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    /// Route values of ours to take off.
    pub(super) routes_consumed: Consumed,
    /// Whether the target stands in the last Route value.
    pub(super) from_strict_router: bool,
    /// Where to.
    pub(super) way: Way<'a>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'a> {
    /// To one next hop.
    Hop(NextHop<'a>),
    /// By this flow and no other way (RFC 5626); what is answered where it has failed.
    Flow(Flow, u16),
    /// To the upstream that takes what is for foreign domains.
    Trunk,
    /// To the registrar with this number that we stand before.
    Edge(usize),
    /// To the contacts that the lookup gave out.
    Contacts,
}

/// What the Route values of a request say.
struct Routes<'a> {
    consumed: u8,
    /// The first that is not ours.
    next: Option<Uri<'a>>,
    /// The dialog token of one of ours.
    dialog: Option<Verified>,
    /// Whether one of ours carried a user that is no token of this dialog.
    is_forged: bool,
    /// The flow that one of ours names, unless the request came by it; and what is answered where it has failed.
    flow: Option<(Flow, u16)>,
    /// Whether a node of the cluster vouches for the call.
    is_vouched: bool,
    /// Our listener that the last of ours names: by which the request leaves (RFC 5658).
    listener: ListenerId,
}

/// Why a request has no plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unrouted<'a> {
    /// It goes nowhere.
    Refused(Refusal<'static>),
    /// It is for a user whose rows are still to come.
    NotLoaded(&'a [u8], Host<'a>),
}

impl From<Refusal<'static>> for Unrouted<'_> {
    fn from(refusal: Refusal<'static>) -> Self {
        Self::Refused(refusal)
    }
}

impl Proxy {
    /// Decides where `request`, whose Request-URI is `uri`, goes; contacts are left in `targets`. A sender who is trusted may go anywhere.
    pub(super) fn route<'a>(
        &self,
        now: Instant,
        (request, uri): (&Message<'a>, &Result<Uri<'a>, SipError>),
        (source, is_trusted): (&Flow, bool),
        targets: &mut Targets,
    ) -> Result<Plan<'a>, Unrouted<'a>> {
        let Ok(received_uri) = uri else {
            return Err(Refusal::new(400).into());
        };
        let from_strict_router = self.is_from_strict_router(request, received_uri);
        let last;
        let target = if from_strict_router {
            last = Uri::parse(last_route_uri(request).unwrap_or_default())
                .map_err(|_| Refusal::new(400))?;
            &last
        } else {
            received_uri
        };
        let routes = self.own_routes(request, source, from_strict_router)?;
        let routes_consumed = match routes.next {
            None if !from_strict_router => Consumed::All,
            _ => Consumed::First(routes.consumed),
        };
        let dialog = if from_strict_router {
            self.verify(request, received_uri)
        } else {
            routes.dialog
        };
        let way = if let Some((flow, if_gone)) = routes.flow {
            // RFC 5626 5.3: whoever has the token has it from us, by the registrar.
            Way::Flow(flow, if_gone)
        } else if let Some(next) = routes.next {
            if dialog.is_none() && !self.identity.is_peer(source.peer) {
                return Err(refused(routes.is_forged).into());
            }
            Way::Hop(self.hop_to(&next, routes.listener)?)
        } else if self.identity.is_ours(target) {
            self.look_up(now, target, targets)?;
            self.lead_home(request.call_id(), targets);
            Way::Contacts
        } else if let Some(way) =
            self.way_to_contact(now, request, target, dialog.as_ref(), targets)
        {
            way
        } else if let Some(dialog) = dialog {
            Way::Hop(self.hop_in_dialog(&dialog, target, routes.listener)?)
        } else if let Some(edge) = self.edges.responsible_for(target) {
            self.check_path(request, edge)?;
            Way::Edge(edge)
        } else if is_trusted {
            self.way_abroad(request, source, target, routes.listener)?
        } else {
            return Err(refused(routes.is_forged).into());
        };
        Ok(Plan {
            routes_consumed,
            from_strict_router,
            way,
        })
    }

    /// Whether a request carries a token of the dialog that it says it is of, or that of a node that has let its call in.
    pub(super) fn is_vouched_for(&self, request: &Message<'_>, source: &Flow) -> bool {
        let Ok(uri) = request.read_request_uri() else {
            return false;
        };
        if self.is_from_strict_router(request, &uri) {
            return true;
        }
        let routes = self.own_routes(request, source, false);
        routes.is_ok_and(|routes| routes.dialog.is_some() || routes.is_vouched)
    }

    /// The next hop to a bound contact: where it registered from, or where its URI says.
    pub(super) fn hop_to_target<'t>(&self, target: &Target<'t>) -> Option<NextHop<'t>> {
        if !target.path.is_empty() {
            // RFC 3327 5.4: the path is a preloaded Route; its first value is the next hop.
            let end = memchr::memchr(b'>', target.path)?;
            let start = memchr::memchr(b'<', target.path)? + 1;
            let first = Uri::parse(target.path.get(start..end)?).ok()?;
            return self.identity.next_hop(&first, target.listener);
        }
        target.received.map(NextHop::Flow).or_else(|| {
            let uri = Uri::parse(target.uri).ok()?;
            self.identity.next_hop(&uri, target.listener)
        })
    }

    /// RFC 3261 16.4: a strict router puts our Record-Route URI into the Request-URI and the target last.
    fn is_from_strict_router(&self, request: &Message<'_>, uri: &Uri<'_>) -> bool {
        request.header(HeaderName::Route).is_some()
            && self.identity.listener_named(uri).is_some()
            && self.verify(request, uri).is_some()
    }

    fn own_routes<'a>(
        &self,
        request: &Message<'a>,
        source: &Flow,
        from_strict_router: bool,
    ) -> Result<Routes<'a>, Refusal<'static>> {
        let mut routes = Routes {
            consumed: 0,
            next: None,
            dialog: None,
            is_forged: false,
            flow: None,
            is_vouched: false,
            listener: source.listener,
        };
        if request.header(HeaderName::Route).is_none() {
            return Ok(routes);
        }
        let count = if from_strict_router {
            let total = request.values(HeaderName::Route).count();
            total.saturating_sub(1)
        } else {
            usize::MAX
        };
        for address in request.addresses(HeaderName::Route).take(count) {
            let Ok(uri) = &address.and_then(|address| address.uri()) else {
                return Err(Refusal::new(400));
            };
            if !self.identity.is_ours(uri) || routes.consumed == u8::MAX {
                routes.next = Some(*uri);
                break;
            }
            if let Some(named) = self.identity.listener_named(uri) {
                routes.listener = named;
            }
            if let Some(token) = uri.user.filter(|user| flow_token::is_token(user)) {
                let (flow, is_vouched) =
                    self.flow_named(token, request.call_id(), source, routes.listener)?;
                routes.flow = routes.flow.or(flow);
                routes.is_vouched |= is_vouched;
                routes.consumed += 1;
                continue;
            }
            let verified = self.verify(request, uri);
            routes.is_forged |= uri.user.is_some() && verified.is_none();
            routes.dialog = match (routes.dialog, verified) {
                (Some(known), Some(further)) => Some(known.joined(&further)),
                (known, further) => known.or(further),
            };
            routes.consumed += 1;
        }
        Ok(routes)
    }

    /// The flow that a token of ours names; none where the request came by it, and goes on from its phone (RFC 5626 5.3).
    /// It is by `listener` where a node of the cluster names it, which says also whether that vouches for the call.
    fn flow_named(
        &self,
        token: &[u8],
        call_id: &[u8],
        source: &Flow,
        listener: ListenerId,
    ) -> Result<(Option<(Flow, u16)>, bool), Refusal<'static>> {
        let said = self.flows.read(token, call_id);
        let is_vouched = said.is_some_and(|said| said.is_vouched);
        let flow = said.and_then(|said| {
            let flow = said.flow;
            let by = if said.is_by_name {
                listener
            } else {
                flow.listener
            };
            let destination = Destination {
                transport: flow.transport,
                address: flow.peer,
            };
            self.identity.flow_to(&destination, by)
        });
        match flow {
            Some(flow) if flow.peer == source.peer && flow.transport == source.transport => {
                Ok((None, is_vouched))
            }
            Some(flow) => {
                // A Kamailio that was told a Path knows nothing of flows that fail, and tells its caller what it hears.
                let is_kamailio = said.is_some_and(|said| said.is_by_name && !said.is_vouched);
                let if_gone = if is_kamailio { UNREACHED } else { FLOW_FAILED };
                Ok((Some((flow, if_gone)), is_vouched))
            }
            None => Err(Refusal::counted(403, Counter::RefusedFlowToken)),
        }
    }

    /// Checks the dialog token in the user part of one of our URIs: valid only with a To tag.
    fn verify(&self, request: &Message<'_>, uri: &Uri<'_>) -> Option<Verified> {
        let to_tag = request.to_tag()?;
        self.tokens
            .verify(uri.user?, request.call_id(), request.from_tag()?, to_tag)
    }

    fn look_up<'a>(
        &self,
        now: Instant,
        target: &Uri<'a>,
        targets: &mut Targets,
    ) -> Result<(), Unrouted<'a>> {
        let mut buffer = [0; AOR_LEN_MAX];
        let user = target
            .user
            .filter(|user| !user.is_empty())
            .ok_or(Refusal::new(404))?;
        let gr = target.param(b"gr");
        if gr == Some(None) {
            return Ok(self.look_up_temporary(now, user, targets)?);
        }
        let aor = canonical_aor(user, &target.host, self.settings.use_domain, &mut buffer)
            .map_err(|_| Refusal::new(404))?;
        let found = match gr.flatten() {
            // RFC 5627 5.3: the contacts of one instance.
            Some(gr) => {
                let is_it = |contact: &Target<'_>| gruu::names(gr, contact.instance);
                self.location.lookup_some(now, aor, is_it, targets).0
            }
            None => self.location.lookup(now, aor, targets).0,
        };
        if found == Lookup::NotLoaded {
            return Err(Unrouted::NotLoaded(user, target.host));
        }
        Ok(found_or_refused(found, targets)?)
    }

    /// RFC 5627 5.3: a temporary GRUU leads to the instance while that is registered as it was when it was given.
    fn look_up_temporary(
        &self,
        now: Instant,
        user: &[u8],
        targets: &mut Targets,
    ) -> Result<(), Refusal<'static>> {
        let temporary = self.gruus.read_temporary(user).ok_or(Refusal::new(404))?;
        let mut is_replaced = false;
        let is_it = |contact: &Target<'_>| {
            let is_instance = temporary.is_of_instance(contact);
            let is_current = temporary.is_of_registration(contact);
            is_replaced |= is_instance && !is_current;
            is_instance && is_current
        };
        let aor = temporary.aor();
        let found = self.location.lookup_some(now, aor, is_it, targets).0;
        if targets.is_empty() && is_replaced {
            return Err(Refusal::new(404));
        }
        found_or_refused(found, targets)
    }

    fn way_to_contact<'a>(
        &self,
        now: Instant,
        request: &Message<'_>,
        target: &Uri<'a>,
        dialog: Option<&Verified>,
        targets: &mut Targets,
    ) -> Option<Way<'a>> {
        let end = dialog.and_then(Verified::other_end);
        let reached = self.location.registered_contact_at(now, target, end)?;
        if self.leads_home(request.call_id(), target, &reached, targets) {
            return Some(Way::Contacts);
        }
        match reached.received {
            Some(flow) if reached.is_by_flow => Some(Way::Flow(flow, UNREACHED)),
            Some(flow) => Some(Way::Hop(NextHop::Flow(flow))),
            None => {
                let hop = self.identity.next_hop(target, reached.listener);
                hop.map(Way::Hop)
            }
        }
    }

    /// Within a dialog: to the other end, where the token says that it is, or where its Contact says.
    fn hop_in_dialog<'a>(
        &self,
        dialog: &Verified,
        target: &Uri<'a>,
        by: ListenerId,
    ) -> Result<NextHop<'a>, Refusal<'static>> {
        let end = dialog.other_end();
        match end.and_then(|destination| self.identity.flow_to(&destination, by)) {
            Some(flow) => Ok(NextHop::Flow(flow)),
            None => self.hop_to(target, by),
        }
    }

    /// A request for a foreign domain whose sender may go there: of our users to the upstream that takes such, if there is
    /// one and it does not come from there; else where its target says.
    fn way_abroad<'a>(
        &self,
        request: &Message<'a>,
        source: &Flow,
        target: &Uri<'a>,
        by: ListenerId,
    ) -> Result<Way<'a>, Refusal<'static>> {
        let is_of_our_user = || {
            let from = request.from().uri();
            from.is_ok_and(|from| self.identity.is_ours(&from))
        };
        let ip = source.peer.ip().to_canonical();
        let takes = |trunk: &Trunk| !trunk.addresses.iter().any(|network| network.contains(&ip));
        if self.settings.trunk.as_deref().is_some_and(takes) && is_of_our_user() {
            return Ok(Way::Trunk);
        }
        self.hop_to(target, by).map(Way::Hop)
    }

    /// The next hop that a URI names; 503 where we cannot speak to it.
    fn hop_to<'a>(&self, uri: &Uri<'a>, by: ListenerId) -> Result<NextHop<'a>, Refusal<'static>> {
        self.identity
            .next_hop(uri, by)
            .ok_or(Refusal::counted(503, Counter::RefusedUnresolvable))
    }
}

/// What a lookup found, as far as it is not what was looked for.
fn found_or_refused(found: Lookup, targets: &Targets) -> Result<(), Refusal<'static>> {
    match found {
        Lookup::Found if !targets.is_empty() => Ok(()),
        // RFC 3261 16.5: a user that we know, with no contact now; RFC 5627 5.3: or no such instance.
        Lookup::Found | Lookup::NoContacts => Err(Refusal::new(480)),
        Lookup::Unknown => Err(Refusal::new(404)),
        // Its row may come in a moment: whoever asks again then gets an answer.
        Lookup::NotLoaded => {
            let refusal = Refusal::counted(503, Counter::RefusedLoading);
            Err(refusal.with_headers(b"Retry-After: 1\r\n"))
        }
    }
}

/// We are no open relay: the target is neither ours nor a registered contact's, and nothing vouches for the sender.
const fn refused(is_forged: bool) -> Refusal<'static> {
    let counter = if is_forged {
        Counter::RefusedToken
    } else {
        Counter::RefusedForeign
    };
    Refusal::counted(403, counter)
}

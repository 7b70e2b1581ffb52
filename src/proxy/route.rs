//! Where a request goes: its Route values (RFC 3261 16.4), its targets (16.5), and whether its sender may go there.

use super::Proxy;
use super::compose::last_route_uri;
use super::token::Verified;
use super::validate::Refusal;
use crate::counters::Counter;
use crate::datagram::{Flow, ListenerId};
use crate::limits::AOR_LEN_MAX;
use crate::location::{Lookup, Targets};
use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::sip::uri::{Uri, canonical_aor};
use crate::time::Instant;

/// What was decided about a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Route values of ours to take off.
    pub(super) routes_consumed: u8,
    /// Whether the target stands in the last Route value.
    pub(super) from_strict_router: bool,
    /// Where to.
    pub(super) way: Way,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// By one flow.
    Flow(Flow),
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
    /// Our listener that the last of ours names: by which the request leaves (RFC 5658).
    listener: ListenerId,
}

impl Proxy {
    /// Decides where `request` goes; contacts are left in `targets`.
    pub(super) fn route(
        &self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        targets: &mut Targets,
    ) -> Result<Plan, Refusal<'static>> {
        let bad_uri = |_| Refusal::new(400);
        let received_uri = Uri::parse(request.request_uri()).map_err(bad_uri)?;
        let from_strict_router = self.is_from_strict_router(request, &received_uri);
        let target = if from_strict_router {
            Uri::parse(last_route_uri(request).unwrap_or_default()).map_err(bad_uri)?
        } else {
            received_uri
        };
        let routes = self.own_routes(request, source.listener, from_strict_router)?;
        let dialog = if from_strict_router {
            self.verify(request, &received_uri)
        } else {
            routes.dialog
        };
        let may_relay = dialog.is_some() || self.identity.is_peer(source.peer);
        let plan = |way| Plan {
            routes_consumed: routes.consumed,
            from_strict_router,
            way,
        };

        if let Some(next) = routes.next {
            if !may_relay {
                return Err(refused(routes.is_forged));
            }
            return self
                .flow_to(&next, routes.listener)
                .map(|flow| plan(Way::Flow(flow)));
        }
        if self.identity.is_ours(&target) {
            return self
                .look_up(now, &target, targets)
                .map(|()| plan(Way::Contacts));
        }
        if let Some(flow) = self.flow_of_contact(now, &target) {
            return Ok(plan(Way::Flow(flow)));
        }
        if let Some(dialog) = dialog {
            let reach = if dialog.from_caller {
                dialog.reach.callee
            } else {
                dialog.reach.caller
            };
            let flow = reach.and_then(|peer| self.identity.flow_from(routes.listener, peer));
            return match flow {
                Some(flow) => Ok(plan(Way::Flow(flow))),
                None => self
                    .flow_to(&target, routes.listener)
                    .map(|flow| plan(Way::Flow(flow))),
            };
        }
        if may_relay {
            return self
                .flow_to(&target, routes.listener)
                .map(|flow| plan(Way::Flow(flow)));
        }
        Err(refused(routes.is_forged))
    }

    /// The flow to a bound contact: where it registered from, or where its URI says.
    pub(super) fn flow_of_target(
        &self,
        uri: &[u8],
        path: &[u8],
        received: Option<Flow>,
        by: ListenerId,
    ) -> Option<Flow> {
        if !path.is_empty() {
            // RFC 3327 5.4: the path is a preloaded Route; its first value is the next hop.
            let end = memchr::memchr(b'>', path)?;
            let start = memchr::memchr(b'<', path)? + 1;
            return self
                .identity
                .flow_to(&Uri::parse(path.get(start..end)?).ok()?, by);
        }
        received.or_else(|| self.identity.flow_to(&Uri::parse(uri).ok()?, by))
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
        arrived_by: ListenerId,
        from_strict_router: bool,
    ) -> Result<Routes<'a>, Refusal<'static>> {
        let mut routes = Routes {
            consumed: 0,
            next: None,
            dialog: None,
            is_forged: false,
            listener: arrived_by,
        };
        let total = request.values(HeaderName::Route).count();
        let count = if from_strict_router {
            total.saturating_sub(1)
        } else {
            total
        };
        for value in request.values(HeaderName::Route).take(count) {
            let uri = value
                .address()
                .and_then(|address| address.uri())
                .map_err(|_| Refusal::new(400))?;
            if !self.identity.is_ours(&uri) || routes.consumed == u8::MAX {
                routes.next = Some(uri);
                break;
            }
            if let Some(named) = self.identity.listener_named(&uri) {
                routes.listener = named;
            }
            let verified = self.verify(request, &uri);
            routes.is_forged |= uri.user.is_some() && verified.is_none();
            routes.dialog = match (routes.dialog, verified) {
                (Some(known), Some(further)) => Some(known.joined(&further)),
                (known, further) => known.or(further),
            };
            routes.consumed += 1;
        }
        Ok(routes)
    }

    /// Checks the dialog token in the user part of one of our URIs: valid only with a To tag.
    fn verify(&self, request: &Message<'_>, uri: &Uri<'_>) -> Option<Verified> {
        let to_tag = request.to_tag()?;
        self.tokens
            .verify(uri.user?, request.call_id(), request.from_tag()?, to_tag)
    }

    fn look_up(
        &self,
        now: Instant,
        target: &Uri<'_>,
        targets: &mut Targets,
    ) -> Result<(), Refusal<'static>> {
        let mut buffer = [0; AOR_LEN_MAX];
        let user = target
            .user
            .filter(|user| !user.is_empty())
            .ok_or(Refusal::new(404))?;
        let aor = canonical_aor(user, &target.host, self.settings.use_domain, &mut buffer)
            .map_err(|_| Refusal::new(404))?;
        match self.location.lookup(now, aor, targets).0 {
            Lookup::Found => Ok(()),
            // RFC 3261 16.5: a user that we know, with no contact now.
            Lookup::NoContacts => Err(Refusal::new(480)),
            Lookup::Unknown => Err(Refusal::new(404)),
        }
    }

    fn flow_of_contact(&self, now: Instant, target: &Uri<'_>) -> Option<Flow> {
        let reached = self.location.registered_contact(now, target.bytes())?;
        reached
            .received
            .or_else(|| self.identity.flow_to(target, reached.listener))
    }

    /// The flow to a URI; 503 where it names a host that only DNS could tell.
    fn flow_to(&self, uri: &Uri<'_>, by: ListenerId) -> Result<Flow, Refusal<'static>> {
        self.identity
            .flow_to(uri, by)
            .ok_or(Refusal::counted(503, Counter::RefusedUnresolvable))
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

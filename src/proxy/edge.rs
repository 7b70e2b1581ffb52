//! What we are when we stand before another's registrar (RFC 5626 5, RFC 3327 5.2): requests for its domains go to it, and its
//! phones' REGISTERs bear our Path, so that what is for them comes back by us and by their flow.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Proxy;
use super::compose::PathValue;
use super::domains::Domains;
use super::register::has_tag;
use super::settings::{Edge, PathRule};
use super::validate::Refusal;
use crate::datagram::{Flow, Transport};
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::uri::Uri;

/// The registrars that we stand before.
#[derive(Clone, Debug)]
pub(super) struct Edges(Vec<(Domains, Arc<Edge>)>);

impl Edges {
    /// Takes them from the settings.
    #[must_use]
    pub(super) fn new(edges: &[Arc<Edge>]) -> Self {
        let with_domains = |edge: &Arc<Edge>| {
            let names = edge.domains.iter().map(String::as_str);
            (Domains::new(names, []), Arc::clone(edge))
        };
        Self(edges.iter().map(with_domains).collect())
    }

    /// The number of the one that is responsible for a URI.
    #[must_use]
    pub(super) fn responsible_for(&self, uri: &Uri<'_>) -> Option<usize> {
        self.0
            .iter()
            .position(|(domains, _)| uri.is_sip() && domains.owns(&uri.host))
    }

    /// The one with this number.
    #[must_use]
    pub(super) fn at(&self, number: usize) -> Option<&Arc<Edge>> {
        self.0.get(number).map(|(_, edge)| edge)
    }
}

impl Proxy {
    /// RFC 3327 5.2: refuses a REGISTER that the registrar needs our Path for, where the phone does not know of Path and is to.
    pub(super) fn check_path(
        &self,
        request: &Message<'_>,
        edge: usize,
    ) -> Result<(), Refusal<'static>> {
        let rule = self.edges.at(edge).map(|edge| edge.path);
        let is_wanted = rule == Some(PathRule::Required) && request.method() == Method::Register;
        if is_wanted && !has_tag(request, b"path") {
            return Err(Refusal::new(421).with_headers(b"Require: path\r\n"));
        }
        Ok(())
    }

    /// The Path that a REGISTER gets on its way to its registrar (RFC 5626 5.1).
    pub(super) fn path_for(
        &self,
        request: &Message<'_>,
        source: &Flow,
        outward: (SocketAddr, Transport),
    ) -> Option<PathValue> {
        if request.method() != Method::Register {
            return None;
        }
        let is_asked = || has_tag(request, b"path") || has_tag(request, b"outbound");
        let is_always = || {
            let uri = request.read_request_uri().ok()?;
            let edge = self.edges.at(self.edges.responsible_for(&uri)?)?;
            Some(edge.path == PathRule::Always)
        };
        if !is_asked() && is_always() != Some(true) {
            return None;
        }
        Some(PathValue {
            token: self.flows.encode(source),
            outward,
            // The flow is the phone's own where the phone is our neighbour.
            is_first_hop: request.has_one_via(),
        })
    }
}

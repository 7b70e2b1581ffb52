//! The Contacts of a REGISTER (RFC 3261 10.3 steps 6 and 7): what each asks, for how long, and how its phone is reached.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Registrar;
use super::cause::Cause;
use super::outbound::Flows;
use crate::datagram::{Flow, Transport};
use crate::limits::{BINDING_TEXT_LEN_MAX, CONTACT_LEN_MAX, REGISTER_CONTACTS_MAX};
use crate::location::Change;
use crate::scan;
use crate::sip::{Contact, ContactAddress, Message, Scheme, Uri, Via};
use crate::time::Duration;

/// What the Contacts of a REGISTER ask.
pub(super) enum Asked {
    /// There is none: it is a query.
    Nothing,
    /// `*`.
    RemoveAll,
    /// So many changes.
    Changes(usize),
    /// More changes than there was room for: they are to be read again, with room for all.
    Many,
}

/// How a REGISTER came.
struct Origin<'a> {
    source: &'a Flow,
    /// Whether straight from its phone.
    is_direct: bool,
    flows: Flows,
}

impl Registrar {
    /// Reads all Contacts before anything is changed (RFC 3261 10.3 steps 6 and 7).
    pub(super) fn read_contacts<'m>(
        &self,
        message: &Message<'m>,
        source: &Flow,
        has_path: bool,
        changes: &mut [Change<'m>],
    ) -> Result<Asked, Cause> {
        let is_direct = !has_path && message.has_one_via();
        let origin = Origin {
            source,
            is_direct,
            flows: Flows::of(message, is_direct),
        };
        let mut count = 0;
        let mut has_star = false;
        let (mut new_flows, mut new_contacts) = (0, 0);
        for contact in message.contacts() {
            match contact.map_err(|_| Cause::BadContact)? {
                Contact::Star if has_star => return Err(Cause::BadStar),
                Contact::Star => has_star = true,
                Contact::Address(contact) => {
                    if count == changes.len() && count < REGISTER_CONTACTS_MAX {
                        return Ok(Asked::Many);
                    }
                    let change = changes.get_mut(count).ok_or(Cause::ManyContactValues)?;
                    *change = self.change(message, &contact, &origin)?;
                    count += 1;
                    if change.expires > Duration::ZERO {
                        new_contacts += 1;
                        new_flows += usize::from(change.reg_id > 0);
                    }
                }
            }
        }
        // RFC 5626 6: a flow is bound by a REGISTER of its own, for it is the one that the REGISTER came by.
        if new_flows > 0 && new_contacts > 1 {
            return Err(Cause::ManyFlows);
        }
        // RFC 3261 10.3 step 6: `*` stands alone and with `Expires: 0`.
        match (has_star, count) {
            (true, 0) if message.expires() == Some(0) => Ok(Asked::RemoveAll),
            (true, _) => Err(Cause::BadStar),
            (false, 0) => Ok(Asked::Nothing),
            (false, _) => Ok(Asked::Changes(count)),
        }
    }

    fn change<'m>(
        &self,
        message: &Message<'m>,
        contact: &ContactAddress<'m>,
        origin: &Origin<'_>,
    ) -> Result<Change<'m>, Cause> {
        let uri = contact.address.uri().map_err(|_| Cause::BadContact)?;
        if !uri.is_sip() {
            return Err(Cause::ContactScheme);
        }
        if uri.bytes().len() > CONTACT_LEN_MAX {
            return Err(Cause::ContactTooLong);
        }
        // RFC 5627 5.1: a GRUU leads to a contact, and is none.
        if uri.param(b"gr").is_some() && self.domains.owns(&uri.host) {
            return Err(Cause::ContactIsGruu);
        }
        let instance = contact
            .instance
            .filter(|text| first_line(text) == *text)
            .unwrap_or_default();
        // Cut, it would be another's.
        if instance.len() > BINDING_TEXT_LEN_MAX {
            return Err(Cause::LongInstance);
        }
        let reg_id = origin.flows.reg_id(instance, contact.reg_id)?;
        let asked = contact.expires_s.or(message.expires());
        let expires_s = self.spread(self.expires_s(asked)?, message, uri.bytes());
        let is_flow = reg_id > 0;
        let is_elsewhere =
            || !self.is_back_to_us(&uri) && is_elsewhere(&uri, &message.top_via(), origin.source);
        Ok(Change {
            uri: uri.bytes(),
            expires: Duration::from_secs(u64::from(expires_s)),
            q: contact.q,
            received: origin.is_direct && (is_flow || is_elsewhere()),
            instance,
            reg_id,
        })
    }

    /// Whether a contact names an address of ours: it forwards to another AoR, and is no phone behind a NAT.
    fn is_back_to_us(&self, uri: &Uri<'_>) -> bool {
        uri.host.ip().is_some() && self.domains.owns(&uri.host)
    }

    /// What is granted to a contact that asks for so much.
    fn expires_s(&self, asked_s: Option<u32>) -> Result<u32, Cause> {
        let settings = &self.settings;
        match asked_s {
            None => Ok(settings.expires_default_s),
            Some(0) => Ok(0),
            // RFC 3261 10.3 step 7: only what is less than an hour may be refused as too brief.
            Some(asked) if asked < settings.expires_min_s && asked < HOUR_S => Err(Cause::TooBrief),
            Some(asked) => Ok(asked.min(settings.expires_max_s)),
        }
    }

    /// An expiry less a part of it that is drawn by lot: for a retransmission the same.
    fn spread(&self, expires_s: u32, message: &Message<'_>, uri: &[u8]) -> u32 {
        let percent = u64::from(self.settings.expires_spread_percent.min(100));
        let most_s = u64::from(expires_s) * percent / 100;
        if most_s == 0 {
            return expires_s;
        }
        let key = self.settings.keys.first().copied().unwrap_or_default();
        let mut lot = SipHasher13::new_with_key(&key);
        for part in [&b"expires"[..], message.call_id(), uri] {
            lot.write(&part.len().to_le_bytes());
            lot.write(part);
        }
        lot.write(&message.cseq().number.to_le_bytes());
        let less_s = u32::try_from(lot.finish() % (most_s + 1)).unwrap_or(0);
        let least_s = self.settings.expires_min_s.min(expires_s);
        expires_s.saturating_sub(less_s).max(least_s)
    }
}

/// Whether the packet's source is another place than the one that the contact names: then the phone is behind a NAT, or
/// on a connection, and is reached by the flow alone. A phone that names another port of its own address listens there,
/// unless its Via shows that a NAT stands between.
fn is_elsewhere(uri: &Uri<'_>, via: &Via<'_>, source: &Flow) -> bool {
    let is_same_host = uri.host.ip() == Some(source.peer.ip());
    // RFC 3261 19.1.2: a port that is not written is the scheme's.
    let port = uri.port.unwrap_or(if uri.scheme == Scheme::Sips {
        5061
    } else {
        5060
    });
    let asks_otherwise = uri.param(b"transport").flatten().is_some_and(|transport| {
        !transport.eq_ignore_ascii_case(source.transport.as_str().as_bytes())
    });
    match source.transport {
        // Over a connection the source port says nothing: a phone that names UDP is to be reached so, where it can.
        Transport::Tcp if asks_otherwise => !is_same_host,
        Transport::Tcp => true,
        Transport::Udp if !is_same_host => true,
        Transport::Udp => port != source.peer.port() && is_rewritten(via, source),
    }
}

/// Whether the topmost Via names another address than the packet came from. Loopback is what a host writes that does not
/// know its own name: it says nothing. Nor does the port: one may send from another than it listens on (RFC 3261 18.1.1).
fn is_rewritten(via: &Via<'_>, source: &Flow) -> bool {
    let sent_by = via.host().ok().and_then(|host| host.ip());
    sent_by.is_some_and(|ip| ip != source.peer.ip() && !ip.is_loopback())
}

/// A folded text as far as its first line.
pub(super) fn first_line(text: &[u8]) -> &[u8] {
    let end = scan::find_line_break(text, 0).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

pub(super) const NO_CHANGE: Change<'static> = Change {
    uri: b"",
    expires: Duration::ZERO,
    q: None,
    received: false,
    instance: b"",
    reg_id: 0,
};
/// RFC 3261 10.3 step 7.
const HOUR_S: u32 = 3_600;

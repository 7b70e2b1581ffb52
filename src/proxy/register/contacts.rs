//! The Contacts of a REGISTER (RFC 3261 10.3 steps 6 and 7): what each asks, for how long, and how its phone is reached.

use super::Registrar;
use super::cause::Cause;
use crate::datagram::{Flow, Transport};
use crate::limits::{CONTACT_LEN_MAX, REGISTER_CONTACTS_MAX};
use crate::location::Change;
use crate::scan;
use crate::sip::{Contact, ContactAddress, HeaderName, Message, Scheme, Uri, Via};
use crate::time::Duration;

/// What the Contacts of a REGISTER ask.
pub(super) enum Asked {
    /// There is none: it is a query.
    Nothing,
    /// `*`.
    RemoveAll,
    /// So many changes.
    Changes(usize),
}

impl Registrar {
    /// Reads all Contacts before anything is changed (RFC 3261 10.3 steps 6 and 7).
    pub(super) fn read_contacts<'m>(
        &self,
        message: &Message<'m>,
        source: &Flow,
        has_path: bool,
        changes: &mut [Change<'m>; REGISTER_CONTACTS_MAX],
    ) -> Result<Asked, Cause> {
        let is_direct = !has_path && message.values(HeaderName::Via).nth(1).is_none();
        let mut count = 0;
        let mut has_star = false;
        for contact in message.contacts() {
            match contact.map_err(|_| Cause::BadContact)? {
                Contact::Star if has_star => return Err(Cause::BadStar),
                Contact::Star => has_star = true,
                Contact::Address(contact) => {
                    let change = changes.get_mut(count).ok_or(Cause::ManyContactValues)?;
                    *change = self.change(message, &contact, source, is_direct)?;
                    count += 1;
                }
            }
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
        source: &Flow,
        is_direct: bool,
    ) -> Result<Change<'m>, Cause> {
        let uri = contact.address.uri().map_err(|_| Cause::BadContact)?;
        if !uri.is_sip() {
            return Err(Cause::ContactScheme);
        }
        if uri.bytes().len() > CONTACT_LEN_MAX {
            return Err(Cause::ContactTooLong);
        }
        let expires_s = self.expires_s(contact.expires_s.or(message.expires()))?;
        Ok(Change {
            uri: uri.bytes(),
            expires: Duration::from_secs(u64::from(expires_s)),
            q: contact.q,
            received: is_direct
                && !self.is_back_to_us(&uri)
                && is_elsewhere(&uri, &message.top_via(), source),
            instance: contact
                .instance
                .filter(|text| first_line(text) == *text)
                .unwrap_or_default(),
            reg_id: contact.reg_id.unwrap_or(0),
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

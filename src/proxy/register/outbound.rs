//! Outbound (RFC 5626 6): whether the contacts of a REGISTER are flows, over which alone their phones are reached.

use super::cause::Cause;
use super::extensions::has_tag;
use crate::sip::{HeaderName, Message};

/// What may be made of a `reg-id` in this REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flows {
    /// Nothing: the phone does not ask for it, and the parameter says nothing (RFC 5626 6).
    Unwanted,
    /// The phone is our neighbour, or its edge proxy keeps the flow.
    Kept,
    /// It asks, and its first hop does not keep flows.
    Lost,
}

impl Flows {
    /// Reads what a REGISTER says; `is_direct`: it came straight from the phone.
    pub(super) fn of(message: &Message<'_>, is_direct: bool) -> Self {
        if !has_tag(message, OUTBOUND) {
            Self::Unwanted
        } else if is_direct || first_hop_keeps_flows(message) {
            Self::Kept
        } else {
            Self::Lost
        }
    }

    /// The number of a flow that a contact with this instance and this `reg-id` is; 0: it is none.
    pub(super) fn reg_id(self, instance: &[u8], reg_id: Option<u32>) -> Result<u32, Cause> {
        match (self, reg_id) {
            (_, None | Some(0)) | (Self::Unwanted, Some(_)) => Ok(0),
            (Self::Kept | Self::Lost, Some(_)) if instance.is_empty() => Ok(0),
            (Self::Kept, Some(reg_id)) => Ok(reg_id),
            (Self::Lost, Some(_)) => Err(Cause::FirstHopLacksOutbound),
        }
    }
}

/// RFC 5626 6: the proxy next to the phone, whose Path is the last, has marked it with `ob`.
fn first_hop_keeps_flows(message: &Message<'_>) -> bool {
    let last = message.values(HeaderName::Path).last();
    let uri = last.and_then(|value| value.address().and_then(|address| address.uri()).ok());
    uri.is_some_and(|uri| uri.param(b"ob").is_some())
}

/// The option tag of RFC 5626.
pub(super) const OUTBOUND: &[u8] = b"outbound";

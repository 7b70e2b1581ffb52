//! Which binding a contact of a REGISTER is: by its URI, its Call-ID or its instance, as the operator says; a flow of an instance by
//! that instance and its number (RFC 5626 6), whatever else is so.

use super::binding::Held;
use super::change::Change;
use super::contact::same_contact;

/// By what a contact is known again that no flow names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// By its URI (RFC 3261 10.3 step 7, with the equality of 19.1.4).
    #[default]
    Uri,
    /// By its URI and the Call-ID: what registers with another Call-ID is another contact.
    UriAndCallId,
    /// By the Call-ID alone: a phone that has moved keeps one binding. Where a REGISTER has several contacts, by the URI too.
    CallId,
    /// By `+sip.instance`, where it has one, and else by its URI: a phone that has moved, or has started anew, keeps one binding.
    Instance,
}

/// What an AoR's bindings obey, beside the bound on their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By what a contact is known again.
    pub matching: Matching,
    /// Whether a contact that is one too many takes the place of the one saved longest ago, instead of being refused.
    pub replaces_oldest: bool,
}

impl Rules {
    /// By URI, and what is too much is refused.
    pub const RFC_3261: Self = Self {
        matching: Matching::Uri,
        replaces_oldest: false,
    };
}

/// A contact that is looked for among the bindings of its AoR.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) uri: &'a [u8],
    pub(super) hash: u32,
    pub(super) call_id: &'a [u8],
    pub(super) instance: &'a [u8],
    pub(super) reg_id: u32,
    /// Whether it stands alone in its REGISTER.
    pub(super) is_alone: bool,
}

impl Wanted<'_> {
    /// Finds its binding; `bindings` walks those of the AoR anew at each call.
    pub(super) fn find<'b, I>(
        &self,
        matching: Matching,
        bindings: impl Fn() -> I,
    ) -> Option<(u32, Held<'b>)>
    where
        I: Iterator<Item = (u32, Held<'b>)>,
    {
        let is_uri =
            |b: Held<'_>| b.contact_hash == self.hash && same_contact(b.contact(), self.uri);
        let is_instance = |b: Held<'_>| {
            !self.instance.is_empty() && b.instance() == self.instance && b.reg_id == self.reg_id
        };
        if self.reg_id > 0 {
            // RFC 5626 6: the flow of this number of this instance, wherever it was; or the contact as it registered without flows.
            return bindings().find(|(_, b)| is_instance(*b)).or_else(|| {
                bindings().find(|(_, b)| {
                    b.reg_id == 0 && is_uri(*b) && matches_call(matching, *b, self.call_id)
                })
            });
        }
        let by_uri = || {
            let alike = |b: Held<'_>| is_uri(b) && matches_call(matching, b, self.call_id);
            let plain = bindings().find(|(_, b)| b.reg_id == 0 && alike(*b));
            plain.or_else(|| bindings().find(|(_, b)| alike(*b)))
        };
        let first_choice = match matching {
            Matching::Uri | Matching::UriAndCallId => None,
            Matching::CallId if self.is_alone => bindings()
                .find(|(_, b)| is_uri(*b) && b.call_id() == self.call_id)
                .or_else(|| bindings().find(|(_, b)| b.call_id() == self.call_id)),
            Matching::CallId => None,
            Matching::Instance => bindings().find(|(_, b)| is_instance(*b)),
        };
        first_choice.or_else(by_uri)
    }
}

/// Whether two contacts of one REGISTER are one.
pub(super) fn is_repeated(a: &Change<'_>, b: &Change<'_>) -> bool {
    (a.instance, a.reg_id) == (b.instance, b.reg_id) && same_contact(a.uri, b.uri)
}

/// Whether a binding of the same URI is the same contact as far as the Call-ID goes.
fn matches_call(matching: Matching, binding: Held<'_>, call_id: &[u8]) -> bool {
    match matching {
        Matching::Uri | Matching::Instance => true,
        Matching::UriAndCallId | Matching::CallId => binding.call_id() == call_id,
    }
}

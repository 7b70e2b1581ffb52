//! Why a REGISTER is refused, what is answered then, and what counts it.

use crate::counters::Counter;
use crate::location::Refusal;

/// Why a REGISTER is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Extension,
    BadTo,
    ToScheme,
    UnknownAor,
    BadContact,
    ContactScheme,
    ContactTooLong,
    ManyContactValues,
    BadStar,
    BadPath,
    PathTooLong,
    CallIdTooLong,
    TooBrief,
    LongInstance,
    ManyFlows,
    ContactIsGruu,
    UnaskedPath,
    FirstHopLacksOutbound,
    Unstorable,
    Location(Refusal),
}

impl Cause {
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Extension | Self::UnaskedPath => 420,
            Self::ContactIsGruu => 403,
            Self::FirstHopLacksOutbound => 439,
            Self::UnknownAor => 404,
            Self::TooBrief => 423,
            Self::Location(Refusal::OutOfOrder) => 500,
            // Kamailio answers 503, which makes a proxy before us take the whole registrar for dead (RFC 3261 21.5.4);
            // but the fault is one user's, and a retry does not help.
            Self::Location(Refusal::TooManyContacts) => 403,
            Self::Location(Refusal::Full) => 503,
            Self::BadTo
            | Self::ToScheme
            | Self::BadContact
            | Self::ContactScheme
            | Self::ContactTooLong
            | Self::ManyContactValues
            | Self::BadStar
            | Self::BadPath
            | Self::PathTooLong
            | Self::CallIdTooLong
            | Self::LongInstance
            | Self::ManyFlows
            | Self::Unstorable => 400,
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Extension | Self::UnaskedPath => "Bad Extension",
            Self::LongInstance => "Instance Too Long",
            Self::ManyFlows => "One Contact With reg-id At A Time",
            Self::ContactIsGruu => "Contact Is A GRUU",
            Self::FirstHopLacksOutbound => "First Hop Lacks Outbound Support",
            Self::BadTo => "Bad To",
            Self::ToScheme => "Unsupported Scheme In To",
            Self::UnknownAor => "Not Found",
            Self::BadContact => "Bad Contact",
            Self::ContactScheme => "Unsupported Scheme In Contact",
            Self::ContactTooLong => "Contact Too Long",
            Self::ManyContactValues => "Too Many Contacts",
            Self::BadStar => "Contact * Needs Expires 0 And No Other Contact",
            Self::BadPath => "Bad Path",
            Self::PathTooLong => "Path Too Long",
            Self::CallIdTooLong => "Call-ID Too Long",
            Self::TooBrief => "Interval Too Brief",
            Self::Unstorable => "Cannot Be Stored",
            Self::Location(Refusal::OutOfOrder) => "CSeq Out Of Order",
            Self::Location(Refusal::TooManyContacts) => "Too Many Registered Contacts",
            Self::Location(Refusal::Full) => "Service Unavailable",
        }
    }

    pub(super) const fn counter(self) -> Option<Counter> {
        match self {
            Self::Location(Refusal::OutOfOrder) => Some(Counter::RefusedOutOfOrder),
            Self::Location(Refusal::TooManyContacts) => Some(Counter::RefusedContacts),
            Self::Location(Refusal::Full) => Some(Counter::RefusedBindings),
            Self::FirstHopLacksOutbound => Some(Counter::RefusedFirstHop),
            Self::Unstorable => Some(Counter::RefusedUnstorable),
            Self::Extension
            | Self::BadTo
            | Self::ToScheme
            | Self::UnknownAor
            | Self::BadContact
            | Self::ContactScheme
            | Self::ContactTooLong
            | Self::ManyContactValues
            | Self::BadStar
            | Self::BadPath
            | Self::PathTooLong
            | Self::CallIdTooLong
            | Self::TooBrief
            | Self::LongInstance
            | Self::ManyFlows
            | Self::ContactIsGruu
            | Self::UnaskedPath => None,
        }
    }
}

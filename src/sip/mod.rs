//! SIP messages where they lie: parsed into an index of places, edited as a list of changes, answered by copying.
//!
//! Nothing here allocates, and nothing here knows of transactions, of registrations or of where a message came from
//! but for its bytes. [`parse`] has three outcomes ([`Parsed`]): a good message; a request that is wrong but can be
//! answered, with the status and phrase to answer it; and what is dropped. Of a good message the request line, the
//! top Via, From, To, Call-ID, CSeq, Max-Forwards, Content-Length and Expires have been checked; every other field
//! is read, and refused, when someone asks for it.
//!
//! **Line breaks.** RFC 3261 7: a line ends with CRLF. A CR or LF alone in the head of a message is a place where two
//! readers can see two different messages, so it is never forwarded: the request is refused, a response dropped. For
//! the sake of the refusal alone a bare LF is taken to end its line, so that someone who types a request by hand is told
//! what is wrong; [`Reply`] writes spaces for whatever CR and LF stand within the fields that it copies.
#![forbid(unsafe_code)]

pub mod address;
pub mod auth;
pub mod contact;
pub mod cseq;
pub mod date;
pub mod edit;
pub mod elements;
pub mod error;
pub mod frame;
pub mod host;
pub mod index;
pub mod message;
pub mod method;
pub mod name;
pub mod params;
mod plain;
mod plain_uri;
pub mod reply;
pub mod span;
mod start_line;
pub mod status;
#[cfg(test)]
mod tests;
pub mod text;
pub mod uri;
mod uri_equality;
mod validate;
pub mod value;
pub mod via;

pub use address::Address;
pub use contact::{Contact, ContactAddress};
pub use cseq::CSeq;
pub use edit::{EditError, Edits};
pub use elements::{Element, Elements, Headers};
pub use error::{NotSip, Rejection, RejectionCause, SipError};
pub use frame::{Frame, frame, whole_len};
pub use host::Host;
pub use index::Index;
pub use message::{Header, Message, Parsed, parse};
pub use method::Method;
pub use name::HeaderName;
pub use params::{Param, Params};
pub use reply::Reply;
pub use span::Span;
pub use text::{Length, Sink, Text};
pub use uri::{Scheme, Uri};
pub use uri_equality::equivalent;
pub use value::Value;
pub use via::Via;

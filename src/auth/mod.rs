//! Digest authentication (RFC 7616, RFC 8760): hashes, nonces, time-limited credentials. It knows neither users nor messages, nor
//! where they are kept, and reads no clock.

#![forbid(unsafe_code)]

pub mod algorithm;
pub mod ephemeral;
pub mod nonce;

pub use self::algorithm::{Algorithm, Hex, Proof, Qop};
pub use self::ephemeral::{Ephemeral, EphemeralHash, EphemeralName, EphemeralOrder};
pub use self::nonce::{NONCE_LEN, Nonce, NonceCodec};

//! where they are kept, and reads no clock.

#![forbid(unsafe_code)]

pub mod algorithm;
pub mod nonce;

pub use self::algorithm::{Algorithm, Hex, Proof, Qop};
pub use self::nonce::{NONCE_LEN, Nonce, NonceCodec};

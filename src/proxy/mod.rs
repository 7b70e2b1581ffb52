//! What we do with requests and responses: RFC 3261 16 and 10, one step a file.

#![forbid(unsafe_code)]

pub mod domains;
pub mod register;

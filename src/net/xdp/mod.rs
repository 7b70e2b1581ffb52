//! AF_XDP: the program that steers packets to us, and the sockets that take them.
//!
//! One program an interface ([`program`]), one socket a queue ([`socket`]) with a UMEM of its own ([`umem`]), whose frames
//! ([`frame`]) go round in two halves: [`rx`] and [`tx`]. Upon these stand the [`receiver`], which reads packets, and the
//! [`transmitter`], which writes them.

mod frame;
pub(super) mod program;
pub(super) mod receiver;
mod rx;
pub(super) mod socket;
pub(super) mod transmitter;
mod tx;
mod umem;

use std::error::Error;
use std::io;

/// The system's error under one of xsk-rs, whose own text does not tell it.
fn cause(error: &(dyn Error + 'static)) -> io::Error {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(code) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return io::Error::from_raw_os_error(code);
        }
        current = error.source();
    }
    io::Error::other(error.to_string())
}

//! stub
use crate::{datagram::Flow, sip::message::Message, time::Instant};
#[derive(Debug)]
pub struct Registrar;
#[derive(Debug, Default)]
pub struct RegisterScratch;
pub struct Answer<'a> {
    pub status: u16,
    pub reason: &'static str,
    pub headers: &'a [u8],
}
impl Registrar {
    pub fn register<'s>(
        &self,
        _now: Instant,
        _m: &Message<'_>,
        _s: &Flow,
        _x: &'s mut RegisterScratch,
    ) -> Answer<'s> {
        Answer {
            status: 200,
            reason: "OK",
            headers: b"",
        }
    }
}

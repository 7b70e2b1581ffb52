//! What happened, as a hash, and as text where someone will read it.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use strowger::time::Instant;

use super::ledger::call_name;
use super::node::Packet;
use super::world::START;

/// The account of a run.
pub(crate) struct Trace {
    hasher: SipHasher13,
    lines: Option<Vec<(Option<String>, String)>>,
}

impl Trace {
    /// An account; the text of it only where it is wanted.
    pub(crate) fn new(with_text: bool) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&[0; 16]),
            lines: with_text.then(Vec::new),
        }
    }

    /// Something befell a packet.
    pub(crate) fn packet(&mut self, now: Instant, what: &str, packet: &Packet) {
        self.hasher.write_u64(now.as_micros());
        self.hasher.write(what.as_bytes());
        self.hasher.write_u16(packet.to.port());
        self.hasher.write(&packet.bytes);
        if let Some(lines) = &mut self.lines {
            let text = readable(&packet.bytes);
            let call = text.find("sim-call-").map(|at| {
                let rest = &text[at..];
                rest[..rest.find('.').unwrap_or(rest.len())].to_owned()
            });
            let head = format!(
                "{} {} -> {} {:?} {what}{}",
                clock(now),
                packet.from,
                packet.to,
                packet.transport,
                if packet.is_corrupt { ", corrupt" } else { "" }
            );
            let text = if what == "is sent" || what == "is lost" || what == "cannot be sent" {
                format!("{head}\n    {}", text.trim_end().replace("\r\n", "\n    "))
            } else {
                let branch = text.find("branch=").map(|at| &text[at + 7..]);
                let branch = branch.and_then(|rest| rest.split(['\r', ';', ',']).next());
                format!(
                    "{head}: {} {}",
                    text.lines().next().unwrap_or_default(),
                    branch.unwrap_or_default()
                )
            };
            lines.push((call, text));
        }
    }

    /// Something else happened.
    pub(crate) fn note(&mut self, now: Instant, what: &str) {
        self.hasher.write_u64(now.as_micros());
        self.hasher.write(what.as_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push((None, format!("{} {what}", clock(now))));
        }
    }

    /// The hash of all of it.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// What concerns a call, or all of it.
    pub(crate) fn text(&self, call: Option<usize>) -> String {
        let name = call.map(call_name);
        let lines = self
            .lines
            .iter()
            .flatten()
            .filter(|(of, _)| name.is_none() || of.is_none() || of == &name);
        let lines: Vec<&str> = lines.map(|(_, line)| line.as_str()).collect();
        lines.join("\n")
    }
}

/// A message as text that a terminal survives.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_bad = |letter: char| letter.is_control() && !matches!(letter, '\r' | '\n' | '\t');
    text.replace(is_bad, "\u{fffd}")
}

fn clock(now: Instant) -> String {
    let micros = now.since(START).as_micros();
    format!("{:4}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

//! Packets: whatever bytes lie in a frame, reading it does not panic, and what was read is read again when it is written.

use strowger::wire::ethernet::Mac;
use strowger::wire::packet::{Headers, Packet};

/// What must hold of any frame whatever.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(packet) = Packet::new(bytes) else {
        return;
    };
    assert!(packet.payload.len() <= bytes.len());
    assert_eq!(packet.source.is_ipv4(), packet.destination.is_ipv4());
    // The answer goes back the way the packet came.
    let headers = Headers {
        destination_mac: packet.frame.source(),
        source_mac: Mac([2, 0, 0, 0, 0, 1]),
        tags: packet.frame.tags(),
        source: packet.destination,
        destination: packet.source,
        identification: 7,
    };
    let mut out = vec![0; headers.len() + packet.payload.len()];
    let written = headers.write(&mut out, |payload| payload.copy_from_slice(packet.payload));
    assert!(written.is_some(), "what fitted a packet fits its answer");
    let answer = Packet::new(&out).expect("what we wrote");
    assert_eq!(answer.source, packet.destination);
    assert_eq!(answer.destination, packet.source);
    assert_eq!(answer.payload, packet.payload);
    assert_eq!(answer.frame.tags(), packet.frame.tags());
    assert_eq!(answer.frame.destination(), packet.frame.source());
}

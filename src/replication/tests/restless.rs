//! A node that is listened to and never rests: what it says makes us say a bounded amount.

use super::*;
use crate::limits::{NODE_ASK_INTERVAL, NODE_LISTS_MAX};
use crate::replication::address::NodeAddress;
use crate::replication::kdmq::{Channel, Request};

const RESTLESS: usize = 1;

/// Has the restless node say something, `n` telling its messages and starts apart.
fn say(node: &mut Node, now: Instant, channel: Channel, n: u64, body: &str) {
    let from = NodeAddress::udp(address(RESTLESS));
    let request = Request {
        channel,
        from,
        to: NodeAddress::udp(address(0)),
        branch: &format!("z9hG4bK{n:x}"),
        call_id: &format!("{n:x}"),
        tag: &format!("{n:x}-{n:016x}-2"),
        max_forwards: 3,
        body: body.as_bytes(),
    };
    let mut message = Vec::new();
    request.write(now, &Seals::default(), &mut message);
    node.cluster.on_message(now, from, &message, &mut node.exit);
}

/// Messages that went to a node and ask or tell it something.
fn told(node: &Node, to: usize, beginning: &str) -> usize {
    let sent = node.exit.sent.iter();
    let sent = sent
        .filter(|(at, message)| *at == address(to) && message.starts_with(beginning.as_bytes()));
    sent.count()
}

#[test]
fn its_lists_are_passed_on_while_few_are_unanswered() {
    let mut node = Node::new(0, 3, 0);
    let list = format!("sip:{};status=active\r\n", address(RESTLESS));
    for n in 0..1_000 {
        say(&mut node, START, Channel::Notification, n, &list);
    }
    assert_eq!(told(&node, RESTLESS, "SIP/2.0 200"), 1_000);
    assert_eq!(
        told(&node, RESTLESS, "KDMQ sip:notification"),
        NODE_LISTS_MAX
    );
}

#[test]
fn however_often_it_starts_nobody_is_asked_more_than_so_often() {
    let mut node = Node::new(0, 3, 0);
    let list = format!("sip:{};status=active\r\n", address(RESTLESS));
    let mut now = START;
    for n in 0..1_000 {
        say(&mut node, now, Channel::Notification, n, &list);
        node.cluster.on_timeout(now, &mut node.exit);
        now = now + Duration::from_millis(2);
    }
    let intervals = now.since(START).as_micros() / NODE_ASK_INTERVAL.as_micros();
    let asked = told(&node, RESTLESS, "KDMQ sip:usrloc");
    // Some of them are sent again, since it does not answer.
    assert!(asked > 0 && asked as u64 <= 3 * (intervals + 1), "{asked}");
}

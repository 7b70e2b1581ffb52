//! The TCP thread against plain sockets on loopback: what comes, what goes, and what each bound does.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use strowger::counters::{Counter, Counters};
use strowger::datagram::{ListenerId, WorkerId};
use strowger::limits::{
    MESSAGE_LEN_MAX, TCP_BACKLOG_LEN_MAX, TCP_CONNECT_TIME, TCP_FIRST_MESSAGE_TIME,
    TCP_HALF_CLOSED_TIME, TCP_LINGER_TIME, TCP_MESSAGE_TIME, TCP_STALL_TIME,
};
use strowger::net::tcp::{Tcp, TcpSettings};
use strowger::time::Duration;

use crate::stream::{Stand, WIDE, eventually, is_closed_orderly, is_open, message, read, write};

const SECOND: Duration = Duration::from_secs(1);

fn local(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().expect("connected")
}

// --- what comes --------------------------------------------------------------------------------------------------

#[test]
fn messages_are_whole_in_order_and_answered_by_their_connection() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let stand = Stand::at(address, WIDE);
        let mut peer = stand.connect();
        let stream: String = (0..50).map(|n| message(n, n * 97)).collect();
        write(&mut peer, &stream);
        for byte in message(50, 20).into_bytes() {
            write(&mut peer, [byte]);
        }
        let received = stand.received(51);
        for (number, received) in received.iter().enumerate() {
            let len = if number == 50 { 20 } else { number * 97 };
            assert_eq!(received.text, message(number, len));
            assert_eq!(received.flow, stand.flow(local(&peer)));
            assert!(!received.is_handed_off);
        }
        stand.expect(Counter::ReceivedTcp, 51);
        stand.send(local(&peer), "SIP/2.0 200 OK").expect("room");
        assert_eq!(read(&mut peer, 14), "SIP/2.0 200 OK");
        stand.expect(Counter::SentTcp, 1);
        stand.expect(Counter::TcpConnections, 1);
    }
}

#[test]
fn a_ping_gets_its_pong_between_messages_and_in_parts() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    write(
        &mut peer,
        format!("{}\r\n\r\n{}", message(0, 3), message(1, 0)),
    );
    assert_eq!(read(&mut peer, 2), "\r\n");
    for byte in b"\r\n\r\n" {
        write(&mut peer, [*byte]);
    }
    assert_eq!(read(&mut peer, 2), "\r\n");
    stand.expect(Counter::Keepalives, 2);
    assert_eq!(stand.received(2).len(), 2);
}

#[test]
fn the_longest_message_passes_both_ways() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    let head = message(0, 10_000).len() - 10_000;
    let longest = message(0, MESSAGE_LEN_MAX - head);
    assert_eq!(longest.len(), MESSAGE_LEN_MAX);
    write(&mut peer, &longest);
    assert_eq!(stand.received(1)[0].text, longest);
    stand.send(local(&peer), &longest).expect("room");
    assert_eq!(read(&mut peer, longest.len()), longest);
}

#[test]
fn where_the_end_cannot_be_known_the_answer_leaves_before_the_end() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    let bad = message(1, 4).replace("l: 4", "l: x");
    write(
        &mut peer,
        format!("{}{bad}{}", message(0, 3), message(2, 0)),
    );
    let received = stand.received(2);
    assert!(received[1].text.contains("l: x"));
    // What is still unread when the answer leaves must not make the kernel reset the connection.
    write(&mut peer, message(3, 60_000));
    // Nor is the first response that leaves the last: the message before it is owed its answer, too.
    for response in ["SIP/2.0 100 Trying", "SIP/2.0 400 Bad", "SIP/2.0 200 OK"] {
        stand.send(local(&peer), response).expect("room");
        assert_eq!(read(&mut peer, response.len()), response);
    }
    assert!(is_closed_orderly(&mut peer));
    assert_eq!(stand.received(2).len(), 2, "nothing behind it is believed");
    drop(peer);
    stand.expect(Counter::TcpClosedUnframed, 1);
}

#[test]
fn what_cannot_be_framed_or_answered_ends_after_a_while() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    write(&mut peer, "\n\n\n\n\n\n\n\n");
    stand.received(1);
    stand.skip(TCP_LINGER_TIME + SECOND);
    stand.expect(Counter::TcpClosedUnframed, 1);
    assert!(is_closed_orderly(&mut peer));
}

#[test]
fn a_peer_that_sends_no_more_still_gets_its_answer() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    write(&mut peer, message(0, 3));
    peer.shutdown(Shutdown::Write).expect("connected");
    stand.received(1);
    eventually("no new request takes it", || {
        !stand.is_connected(local(&peer))
    });
    stand
        .send(local(&peer), "SIP/2.0 100 Trying")
        .expect("room");
    stand.skip(TCP_HALF_CLOSED_TIME - SECOND);
    stand.send(local(&peer), "SIP/2.0 200 OK").expect("room");
    assert_eq!(read(&mut peer, 32), "SIP/2.0 100 TryingSIP/2.0 200 OK");
    // Nothing more is owed: it ends at once.
    assert!(is_closed_orderly(&mut peer));
    stand.expect(Counter::TcpClosedByPeer, 1);
    // One that is owed nothing ends as soon as its peer says so, and one that is not answered some time.
    let mut owed = stand.connect();
    write(&mut owed, message(1, 3));
    let mut quick = stand.connect();
    stand.received(2);
    for stream in [&quick, &owed] {
        stream.shutdown(Shutdown::Write).expect("connected");
    }
    assert!(is_closed_orderly(&mut quick));
    stand.expect(Counter::TcpConnections, 1);
    eventually("its end is noticed", || !stand.is_connected(local(&owed)));
    stand.skip(TCP_HALF_CLOSED_TIME + SECOND);
    assert!(is_closed_orderly(&mut owed));
    stand.expect(Counter::TcpClosedByPeer, 3);
}

#[test]
fn while_the_workers_have_no_room_nothing_is_read_and_nothing_is_lost() {
    const COUNT: usize = 10_000;
    let stand = Stand::new(WIDE);
    stand.worker.set_busy(true);
    let mut peer = stand.connect();
    let sender = std::thread::spawn(move || {
        for number in 0..COUNT {
            write(&mut peer, message(number, 1_000));
        }
        peer
    });
    eventually("it is not read on", || {
        stand.counters.read(Counter::TcpPauses) > 3
    });
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!sender.is_finished(), "the sender has to wait");
    // A workers' pause is not the peer's fault.
    stand.worker.set_busy(false);
    let received = stand.received(COUNT);
    for (number, received) in received.iter().enumerate() {
        assert_eq!(received.text, message(number, 1_000));
    }
    assert!(is_open(&sender.join().expect("all of it was sent")));
}

// --- what goes ---------------------------------------------------------------------------------------------------

#[test]
fn a_connection_is_opened_from_our_address_and_used_again() {
    let stand = Stand::new(WIDE);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let target = listener.local_addr().expect("bound");
    assert!(!stand.is_connected(target));
    stand.send(target, "first").expect("room");
    stand.send(target, "second").expect("room");
    let (mut peer, from) = listener.accept().expect("it connects");
    assert_eq!(from.ip(), stand.address.ip());
    assert_eq!(read(&mut peer, 11), "firstsecond");
    eventually("it is known", || stand.is_connected(target));
    // What comes by it is of the same flow.
    write(&mut peer, message(0, 3));
    assert_eq!(stand.received(1)[0].flow, stand.flow(target));
    stand.send(target, "third").expect("room");
    assert_eq!(read(&mut peer, 5), "third");
    stand.expect(Counter::TcpConnected, 1);
    drop(peer);
    eventually("the end is noticed", || !stand.is_connected(target));
    // The next message does not go where nobody reads any more.
    stand.send(target, "fourth").expect("room");
    let (mut peer, _) = listener.accept().expect("it connects anew");
    assert_eq!(read(&mut peer, 6), "fourth");
}

#[test]
fn a_connection_that_the_peer_opened_is_used_for_what_goes_to_it() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    eventually("it is known", || stand.is_connected(local(&peer)));
    stand.send(local(&peer), "INVITE").expect("room");
    assert_eq!(read(&mut peer, 6), "INVITE");
    let other = SocketAddr::new(local(&peer).ip(), local(&peer).port() ^ 1);
    assert!(!stand.is_connected(other));
}

#[test]
fn what_a_target_refuses_comes_back() {
    let stand = Stand::new(WIDE);
    let target = {
        let closed = TcpListener::bind("127.0.0.1:0").expect("loopback");
        closed.local_addr().expect("bound")
    };
    stand.send(target, "first").expect("room");
    let returned = stand.returned(1);
    assert_eq!(returned[0].to, WorkerId(3));
    assert_eq!((returned[0].peer, &*returned[0].text), (target, "first"));
    stand.expect(Counter::TcpClosedRefused, 1);
    stand.expect(Counter::TcpUndelivered, 1);
}

#[test]
fn what_a_target_does_not_answer_comes_back_after_the_connect_time() {
    let stand = Stand::new(WIDE);
    // A listener whose queue is full drops what further comes.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    full.bind(&any.into()).expect("loopback");
    full.listen(0).expect("bound");
    let target = full.local_addr().expect("bound").as_socket().expect("IPv4");
    let filling: Vec<TcpStream> = (0..8)
        .map_while(|_| {
            let patience = std::time::Duration::from_millis(200);
            TcpStream::connect_timeout(&target, patience).ok()
        })
        .collect();
    assert!(filling.len() < 8, "its queue is full");
    stand.send(target, "first").expect("room");
    stand.send(target, "second").expect("room");
    stand.expect(Counter::TcpConnections, 1);
    stand.skip(TCP_CONNECT_TIME - SECOND);
    assert!(stand.worker.returned().is_empty());
    stand.skip(SECOND.doubled());
    let returned = stand.returned(2);
    let texts: Vec<&str> = returned.iter().map(|it| &*it.text).collect();
    assert_eq!(texts, ["first", "second"]);
    stand.expect(Counter::TcpClosedTimeout, 1);
    stand.expect(Counter::TcpConnections, 0);
}

#[test]
fn what_had_not_left_when_the_peer_closed_comes_back() {
    let stand = Stand::new(WIDE);
    let peer = stand.connect();
    let target = local(&peer);
    let sent = fill(&stand, target);
    // With what it has not read, its end is a reset.
    drop(peer);
    let returned = stand.returned(1);
    assert!(returned.len() < sent, "what the kernel took is gone");
    assert!(returned.iter().all(|it| it.text.ends_with('x')));
    stand.expect(Counter::TcpClosedBroken, 1);
    stand.expect(Counter::TcpUndelivered, returned.len() as u64);
}

/// Sends until the kernel takes no more and something waits here; how many messages that took.
fn fill(stand: &Stand, target: SocketAddr) -> usize {
    let text = message(0, 30_000);
    for sent in 1..10_000 {
        stand.send(target, &text).expect("room");
        eventually("it is taken", || stand.is_taken());
        if stand.counters.read(Counter::SentTcp) < sent {
            return usize::try_from(sent).expect("not so many");
        }
    }
    panic!("the kernel takes everything");
}

// --- bounds ------------------------------------------------------------------------------------------------------

#[test]
fn a_peer_that_does_not_read_is_closed_at_the_bound() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    let target = local(&peer);
    fill(&stand, target);
    let text = message(0, 30_000);
    let mut more = 0;
    while stand.counters.read(Counter::TcpClosedSlowReader) == 0 && more < 100 {
        stand.send(target, &text).expect("room");
        eventually("it is taken", || stand.is_taken());
        more += 1;
    }
    assert!(
        more * text.len() <= TCP_BACKLOG_LEN_MAX + text.len(),
        "{more}"
    );
    stand.expect(Counter::TcpClosedSlowReader, 1);
    stand.returned(more);
    assert!(!is_closed_orderly(&mut peer));
}

#[test]
fn a_peer_that_does_not_read_is_closed_after_the_stall_time() {
    let stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    fill(&stand, local(&peer));
    stand.skip(TCP_STALL_TIME - SECOND.doubled());
    stand.expect(Counter::TcpClosedSlowReader, 0);
    stand.skip(SECOND.times(3));
    stand.expect(Counter::TcpClosedSlowReader, 1);
    assert!(!is_closed_orderly(&mut peer));
}

#[test]
fn a_message_that_takes_too_long_ends_its_connection() {
    let stand = Stand::new(WIDE);
    let mut slow = stand.connect();
    write(&mut slow, message(0, 0));
    stand.received(1);
    let mut text = message(1, 100).into_bytes();
    let last = text.pop().expect("a byte");
    write(&mut slow, &text[..1]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    stand.skip(TCP_MESSAGE_TIME - SECOND);
    write(&mut slow, &text[1..]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(is_open(&slow));
    stand.skip(SECOND.doubled());
    stand.expect(Counter::TcpClosedSlowSender, 1);
    let _ = std::io::Write::write(&mut slow, &[last]);
    assert_eq!(stand.received(1).len(), 1);
}

#[test]
fn who_says_nothing_is_closed_early_and_who_has_spoken_late() {
    let stand = Stand::new(WIDE);
    let mut silent = stand.connect();
    let mut pinging = stand.connect();
    write(&mut pinging, "\r\n\r\n");
    let mut noisy = stand.connect();
    write(&mut noisy, "NOISE\r\nl: 0\r\n\r\n");
    let mut speaking = stand.connect();
    write(&mut speaking, message(0, 0));
    stand.expect(Counter::ReceivedTcp, 3);
    stand.expect(Counter::TcpConnections, 4);
    stand.skip(TCP_FIRST_MESSAGE_TIME + SECOND);
    stand.expect(Counter::TcpClosedSilent, 3);
    for stream in [&mut silent, &mut pinging, &mut noisy] {
        let mut rest = [0; 16];
        while std::io::Read::read(stream, &mut rest).is_ok_and(|len| len > 0) {}
    }
    assert!(is_open(&speaking));
    // A ping keeps it alive; silence does not.
    stand.skip(WIDE.idle - SECOND.times(60));
    write(&mut speaking, "\r\n\r\n");
    assert_eq!(read(&mut speaking, 2), "\r\n");
    stand.skip(WIDE.idle - SECOND.times(60));
    assert!(is_open(&speaking));
    stand.skip(SECOND.times(70));
    stand.expect(Counter::TcpClosedIdle, 1);
    assert!(is_closed_orderly(&mut speaking));
}

#[test]
fn one_source_has_its_share_of_connections() {
    let stand = Stand::new(TcpSettings {
        per_source_max: 3,
        ..WIDE
    });
    let first = stand.connect_from("127.0.0.2:0");
    let others = [(); 2].map(|()| stand.connect_from("127.0.0.2:0"));
    stand.expect(Counter::TcpAccepted, 3);
    let mut fourth = stand.connect_from("127.0.0.2:0");
    assert!(!is_closed_orderly(&mut fourth));
    stand.expect(Counter::TcpRefusedSource, 1);
    let elsewhere = stand.connect_from("127.0.0.3:0");
    stand.expect(Counter::TcpAccepted, 4);
    drop(first);
    stand.expect(Counter::TcpConnections, 3);
    let fifth = stand.connect_from("127.0.0.2:0");
    stand.expect(Counter::TcpAccepted, 5);
    assert!(is_open(&fifth) && is_open(&elsewhere) && others.iter().all(is_open));
}

#[test]
fn at_the_bound_the_oldest_that_said_nothing_gives_way_and_nobody_else() {
    let stand = Stand::new(TcpSettings {
        connections_max: 3,
        ..WIDE
    });
    let mut speaking = stand.connect();
    write(&mut speaking, message(0, 0));
    stand.received(1);
    let mut oldest = stand.connect();
    stand.expect(Counter::TcpAccepted, 2);
    let second = stand.connect();
    stand.expect(Counter::TcpAccepted, 3);
    let mut third = stand.connect();
    stand.expect(Counter::TcpClosedShed, 1);
    assert!(!is_closed_orderly(&mut oldest));
    assert!(is_open(&second) && is_open(&speaking) && is_open(&third));
    for (mut stream, number) in [(&second, 2), (&third, 3)] {
        std::io::Write::write_all(&mut stream, message(number, 0).as_bytes()).expect("it is open");
        stand.received(number);
    }
    let mut late = stand.connect();
    assert!(!is_closed_orderly(&mut late));
    stand.expect(Counter::TcpRefusedTable, 1);
    // What we would open has no more right than what comes.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    stand
        .send(listener.local_addr().expect("bound"), "first")
        .expect("room");
    assert_eq!(stand.returned(1)[0].text, "first");
    write(&mut third, message(4, 0));
    assert_eq!(stand.received(4).len(), 4);
}

// --- beginning and end -------------------------------------------------------------------------------------------

#[test]
fn what_waits_is_sent_before_the_end() {
    let mut stand = Stand::new(WIDE);
    let mut peer = stand.connect();
    let count = fill(&stand, local(&peer));
    let len = message(0, 30_000).len();
    let reader = std::thread::spawn(move || {
        let bytes = read(&mut peer, count * len).len();
        (bytes, is_closed_orderly(&mut peer))
    });
    stand.stop();
    assert_eq!(reader.join().expect("all of it came"), (count * len, true));
    assert_eq!(stand.counters.read(Counter::TcpClosedStop), 1);
    assert!(TcpStream::connect(stand.address).is_err());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = taken.local_addr().expect("bound");
    let opened = Tcp::open(&[(ListenerId(0), address)], WIDE, Arc::new(Counters::new()));
    let text = opened.expect_err("it is taken").to_string();
    assert!(
        text.starts_with(&format!("cannot listen on {address} (TCP): "))
            && text.contains("ss -tlpn"),
        "{text}"
    );
}

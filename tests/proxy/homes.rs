//! Two nodes of a cluster: a phone behind a NAT that registered at one of them is reached from the other by way of that one.

use super::answerer::*;
use super::bed::*;
use strowger::counters::Counter;
use strowger::datagram::Transport::{Tcp, Udp};
use strowger::datagram::{ListenerId, Transport};
use strowger::location::{Delta, Deltas, Facts, Home, Judge, Merge, Row, Standing, SweepCursor};
use strowger::time::Duration;

/// Where the node is that Alice knows, and the one that Bob registered at.
const NEAR: &str = "192.0.2.2:5060";
const HOME: &str = PROXY;
/// Bob's phone, behind its NAT.
const NAT: &str = "203.0.113.77:41000";
const CONTACT: &str = "10.0.0.9:5060";

/// The two nodes, and Bob, who is registered.
struct Pair {
    near: Bed,
    home: Bed,
}

impl Pair {
    fn new() -> Self {
        Self::with(Udp, |home| home.register_from("bob", CONTACT, NAT))
    }

    fn with(transport: Transport, register: impl FnOnce(&mut Bed)) -> Self {
        let near = Bed::with_cluster(2, NEAR, |_| {});
        let mut home = Bed::with_cluster(1, HOME, |_| {});
        register(&mut home);
        let pair = Self { near, home };
        pair.replicate(transport);
        pair.stands(Standing::Strowger);
        pair
    }

    /// The near node hears of all that registered at the other.
    fn replicate(&self, transport: Transport) {
        let homes = self.near.location.homes().expect("a cluster");
        let home = homes.id_of(Home {
            server_id: 1,
            socket: Some((transport, addr(HOME))),
            is_told: true,
        });
        let (mut cursor, mut all) = (SweepCursor::new(0, 1), Deltas::default());
        while !self
            .home
            .location
            .walk(self.home.now, &mut cursor, 0, 100, &mut all)
        {}
        for delta in all.iter() {
            let row = Row {
                is_ours: false,
                ..delta.row
            };
            let facts = Facts {
                home,
                ..delta.facts
            };
            let merge =
                self.near
                    .location
                    .merge(self.near.now, &Delta { row, facts }, Judge::Version);
            assert!(matches!(merge, Merge::Taken | Merge::Same), "{merge:?}");
        }
    }

    fn stands(&self, standing: Standing) {
        let homes = self.near.location.homes().expect("a cluster");
        homes.publish(&[1, 2], |_| standing);
    }

    /// Carries what the near node sends to the other over; gives what that sends, without the 100s.
    fn go_on(&mut self) -> Vec<Sent> {
        let sent = self.near.sent();
        for sent in sent.iter().filter(|sent| sent.to() == HOME) {
            self.home.receive(NEAR, &sent.text);
        }
        without_100(self.home.sent())
    }

    /// The other way round.
    fn come_back(&mut self) -> Vec<Sent> {
        let sent = self.home.sent();
        for sent in sent.iter().filter(|sent| sent.to() == NEAR) {
            self.near.receive(HOME, &sent.text);
        }
        without_100(self.near.sent())
    }

    /// Alice calls; gives the INVITE that reaches Bob.
    #[track_caller]
    fn call(&mut self) -> Sent {
        self.near.receive(ALICE, &invite());
        let sent = self.go_on();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.into_iter().next().expect("one")
    }
}

fn without_100(sent: Vec<Sent>) -> Vec<Sent> {
    sent.into_iter()
        .filter(|sent| sent.status() != 100)
        .collect()
}

/// A request within the dialog that this response made, from Alice: by its Record-Routes backwards.
fn within(method: &str, ok: &Sent, uri: &str) -> String {
    let routes: String = ok
        .headers("Record-Route")
        .iter()
        .rev()
        .map(|route| format!("Route: {route}\n"))
        .collect();
    let text = request(method, uri, ALICE, &format!("in{method}"), &routes);
    text.replace(
        "To: <sip:bob@example.com>",
        "To: <sip:bob@example.com>;tag=callee",
    )
    .replace("CSeq: 1 BYE", "CSeq: 2 BYE")
}

#[test]
fn a_call_reaches_the_phone_from_the_socket_that_it_registered_at_and_goes_on_by_it() {
    let mut pair = Pair::new();
    let invite = pair.call();
    assert_eq!(invite.to(), NAT);
    assert!(
        invite.start_line().contains(CONTACT),
        "{}",
        invite.start_line()
    );
    // No token of the way stays in it, and both nodes stay on the way.
    assert!(invite.headers("Route").is_empty());
    let recorded = invite.headers("Record-Route");
    assert!(
        recorded[0].contains(HOME) && recorded[1].contains(NEAR),
        "{recorded:?}"
    );
    pair.home.receive(
        NAT,
        &invite.answer(200, &format!("Contact: <sip:bob@{CONTACT}>\n")),
    );
    let ok = pair.come_back().remove(0);
    assert_eq!((ok.status(), ok.to().as_str()), (200, ALICE));
    for method in ["ACK", "BYE"] {
        pair.near
            .receive(ALICE, &within(method, &ok, &format!("sip:bob@{CONTACT}")));
        let sent = pair.go_on().remove(0);
        assert!(
            sent.start_line().starts_with(method) && sent.to() == NAT,
            "{sent:?}"
        );
        if method == "BYE" {
            pair.home.receive(NAT, &sent.answer(200, ""));
            assert_eq!(pair.come_back()[0].to(), ALICE);
        }
    }
    for bed in [&mut pair.near, &mut pair.home] {
        bed.wait(T1_64 + T1_64);
        bed.assert_empty();
    }
}

#[test]
fn the_phone_hangs_up_by_the_same_way() {
    let mut pair = Pair::new();
    let invite = pair.call();
    let routes: String = invite
        .headers("Record-Route")
        .iter()
        .map(|route| format!("Route: {route}\n"))
        .collect();
    let bye = format!(
        "BYE sip:alice@{ALICE} SIP/2.0\nVia: SIP/2.0/UDP {CONTACT};rport;branch=z9hG4bKbye\nMax-Forwards: 70\n\
         From: <sip:bob@example.com>;tag=callee\nTo: \"Alice\" <sip:alice@example.com>;tag=caller\nCall-ID: call-1\n\
         CSeq: 1 BYE\n{routes}Content-Length: 0\n\n"
    );
    pair.home.receive(NAT, &bye);
    let sent = pair.come_back().remove(0);
    assert!(
        sent.start_line().starts_with("BYE ") && sent.to() == ALICE,
        "{sent:?}"
    );
}

#[test]
fn a_caller_who_was_let_in_by_one_node_need_not_prove_who_he_is_to_the_next() {
    let mut near = Pair::new().near;
    near.receive(ALICE, &invite());
    let led = without_100(near.sent()).remove(0);
    assert_eq!(led.to(), HOME);
    let mut home = Bed::with_cluster(1, HOME, with_auth);
    home.receive(NEAR, &led.text);
    let sent = without_100(home.sent());
    assert_eq!((sent.len(), sent[0].to().as_str()), (1, NAT));
    // The token is good for this call and for no other, whoever has it: he must prove who he is,
    let text = led.text.replace("branch=z9hG4bK", "branch=z9hG4bKx");
    let other = text.replace("call-1", "call-2");
    home.receive("203.0.113.66:5060", &other);
    assert_eq!(home.sent_one().status(), 407);
    // and where nobody needs to, it leads nowhere.
    let mut open = Bed::with_cluster(1, HOME, |_| {});
    open.receive("203.0.113.66:5060", &other);
    assert_eq!(open.sent_one().status(), 403);
    assert_eq!(open.count(Counter::RefusedFlowToken), 1);
    // And a call that bears none is challenged.
    let lines = text.lines().filter(|line| !line.starts_with("Route:"));
    let bare: Vec<&str> = lines.collect();
    home.receive(NEAR, &bare.join("\n").replace("call-1", "call-3"));
    assert_eq!(home.sent_one().status(), 407);
}

#[test]
fn a_kamailio_is_told_the_way_back_as_its_own_path_would() {
    let mut pair = Pair::new();
    pair.stands(Standing::Kamailio);
    pair.near.receive(ALICE, &invite());
    let sent = without_100(pair.near.sent()).remove(0);
    assert_eq!(sent.to(), HOME);
    let expected = format!("<sip:{HOME};lr;received=sip:{NAT}>");
    assert_eq!(sent.header("Route"), Some(expected.as_str()));
    assert!(sent.start_line().contains(CONTACT));
}

#[test]
fn without_its_node_the_phone_is_called_as_well_as_can_be() {
    for standing in [Standing::Gone, Standing::Unknown] {
        let mut pair = Pair::new();
        pair.stands(standing);
        pair.near.receive(ALICE, &invite());
        let sent = without_100(pair.near.sent()).remove(0);
        assert_eq!((sent.to().as_str(), sent.header("Route")), (NAT, None));
    }
}

#[test]
fn a_connection_is_its_nodes_and_one_that_is_closed_is_a_phone_that_cannot_be_reached() {
    let by_tcp = |home: &mut Bed| {
        home.connect(NAT);
        home.receive_by_tcp(NAT, &register("bob", CONTACT, 1, ""));
        assert_eq!(home.sent_one().status(), 200);
    };
    let mut pair = Pair::with(Tcp, by_tcp);
    let invite = pair.call();
    assert_eq!((invite.flow.transport, invite.to().as_str()), (Tcp, NAT));
    let mut pair = Pair::with(Tcp, by_tcp);
    pair.home.disconnect(NAT);
    pair.near.receive(ALICE, &other_call());
    let answer = pair.go_on();
    assert_eq!((answer[0].status(), answer[0].to().as_str()), (430, NEAR));
    for sent in &answer {
        pair.near.receive(HOME, &sent.text);
    }
    let heard = without_100(pair.near.sent());
    let last = heard
        .iter()
        .find(|sent| sent.to() == ALICE)
        .expect("an answer");
    assert_eq!(last.status(), 480);
}

fn other_call() -> String {
    invite().replace("call-1", "call-9")
}

#[test]
fn a_contact_that_is_named_itself_is_reached_by_its_node_too() {
    let mut pair = Pair::new();
    let uri = format!("sip:bob@{CONTACT}");
    pair.near
        .receive(ALICE, &request("MESSAGE", &uri, ALICE, "m1", ""));
    let sent = pair.go_on().remove(0);
    assert_eq!((sent.to().as_str(), sent.headers("Route").len()), (NAT, 0));
    assert!(sent.start_line().starts_with(&format!("MESSAGE {uri} ")));
}

#[test]
fn a_phone_that_registers_anew_is_reached_by_its_new_node_and_no_request_goes_round() {
    let mut pair = Pair::new();
    pair.near.wait(Duration::from_secs(1));
    let anew = register("bob", CONTACT, 2, "");
    pair.near.receive(NAT, &anew);
    assert_eq!(pair.near.sent_one().status(), 200);
    pair.near.receive(ALICE, &invite());
    assert_eq!(without_100(pair.near.sent())[0].to(), NAT);
    // The old node has not heard of it, and is sent a request by a node that has not either: it goes by the flow, and comes back to nobody.
    let mut stale = Pair::new();
    stale.near.receive(ALICE, &other_call());
    let sent = stale.near.sent();
    let sent = without_100(sent).remove(0);
    pair.home.receive(NEAR, &sent.text);
    let sent = without_100(pair.home.sent());
    assert_eq!((sent.len(), sent[0].to().as_str()), (1, NAT));
    assert_eq!(pair.home.count(Counter::RefusedFlowToken), 0);
    assert_eq!(sent[0].flow.listener, ListenerId(0));
}

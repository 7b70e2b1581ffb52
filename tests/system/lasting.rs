//! What outlives the process, and who may write there: bindings in the embedded store, users who prove themselves.

use std::time::Duration;

use super::bed::{Bed, Family, Link};
use super::calls::{Backend, configuration};
use super::phones::{self, Phones};
use super::scratch::Scratch;
use super::server::Server;
use super::sipp::{Outcome, Sipp};

/// Bindings that were acknowledged, and flushed, are there after a SIGKILL: calls reach them though nobody registers again.
#[test]
fn bindings_outlive_a_kill_in_the_embedded_store() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let text = configuration(&bed, Family::V4, Backend::Driver, 2);
    let server = Server::start(&bed.server, &scratch, &text);
    let link = bed.link();
    let groups = phones::groups(link, Family::V4, 0..1_000, 2);
    phones::register(link, &scratch, &groups, 500);
    server.wait_for(
        "the store has everything",
        Duration::from_secs(5),
        |metrics| {
            metrics.sum("strowger_store_backlog", "") == 0
                && metrics.sum("strowger_store_up", "") == 1
        },
    );
    server.kill9();
    let server = Server::start(&bed.server, &scratch, &text);
    let metrics = server.wait_for("all bindings are back", Duration::from_secs(5), |metrics| {
        metrics.sum("strowger_bindings", "") == 1_000
    });
    println!("after the kill:\n{metrics}");
    phones::assert_clean(&phones::call(link, &scratch, &groups, 200, 50));
}

/// Registers phones with the password that `password` gives for their places, from 1.
fn register(
    link: &Link,
    scratch: &Scratch,
    phones: &Phones,
    password: impl Fn(u32) -> String,
) -> Outcome {
    let mut place = phones.numbers.start;
    let users = phones.users(scratch, |_| String::new());
    let lines = std::fs::read_to_string(&users).expect("our own file");
    let lines = lines.lines().map(|line| {
        let Some(user) = line.strip_suffix(';') else {
            return format!("{line}\n");
        };
        place += 1;
        let password = password(place - phones.numbers.start);
        format!("{user};;[authentication username={user} password={password}]\n")
    });
    let lines: String = lines.collect();
    std::fs::write(&users, lines).expect("our own file");
    Sipp::new(
        &link.phones,
        scratch,
        "register_proven",
        phones.address,
        phones.server,
    )
    .users(&users)
    .calls(phones.count(), 200)
    .start()
    .finish(phones::PATIENCE)
}

#[test]
fn phones_prove_who_they_are_and_strangers_do_not() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let auth = "[auth]\nrealm = \"example.com\"\nalgorithms = [\"MD5\"]\n";
    let text = format!(
        "{}\n{auth}",
        configuration(&bed, Family::V4, Backend::Driver, 2)
    );
    let server = Server::start(&bed.server, &scratch, &text);
    let link = bed.link();
    let table =
        rusqlite::Connection::open(scratch.path().join("strowger.db")).expect("the server made it");
    table.busy_timeout(Duration::from_secs(5)).expect("a time");
    for user in 0..300 {
        table
            .execute(
                "INSERT INTO subscriber (username, domain, password) VALUES (?1, 'example.com', ?2)",
                (format!("user{user}"), format!("secret{user}")),
            )
            .expect("Kamailio's columns");
    }
    let groups = phones::groups(link, Family::V4, 0..300, 3);
    let right = register(link, &scratch, &groups[0], |place| {
        format!("secret{}", place - 1)
    });
    right.assert_complete();
    let metrics = server.metrics();
    assert_eq!(metrics.sum("strowger_bindings", ""), 100);
    assert_eq!(metrics.sum("strowger_authentications_total", "proven"), 100);

    // Wrong passwords, and users who are not there: each gets a new challenge, and none a binding.
    let wrong = register(link, &scratch, &groups[1], |_| "guess".to_owned());
    assert_eq!((wrong.successful, wrong.failed), (0, 100), "{wrong:?}");
    let nobody = phones::groups(link, Family::V4, 900..1_000, 1);
    let nobody = register(link, &scratch, &nobody[0], |_| "secret".to_owned());
    assert_eq!((nobody.successful, nobody.failed), (0, 100), "{nobody:?}");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("strowger_bindings", ""), 100);
    assert_eq!(metrics.sum("strowger_authentications_total", "wrong"), 200);

    // The operator's hand: a password that changes holds at once, and an account that goes is gone.
    let ctl = |words: &[&str]| {
        let mut command = bed.server.command(&super::server::binary());
        super::namespace::run(command.args(["ctl"]).args(words))
    };
    ctl(&["subscriber.passwd", "user0@example.com", "other"]);
    ctl(&["subscriber.add", "user500@example.com", "new"]);
    ctl(&["subscriber.rm", "user1@example.com"]);
    let one = |number: u32, password: &'static str| {
        let phones = phones::groups(link, Family::V4, number..number + 1, 1);
        register(link, &scratch, &phones[0], |_| password.to_owned()).successful
    };
    let outcomes = [(0, "secret0"), (0, "other"), (500, "new"), (1, "secret1")]
        .map(|(number, password)| one(number, password));
    assert_eq!(outcomes, [0, 1, 1, 0]);
    let dump = ctl(&["ul.lookup", "user500"]);
    assert!(dump.contains("sip:user500@10.77.0.2"), "{dump}");
}

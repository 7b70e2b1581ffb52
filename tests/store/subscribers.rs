//! Who a user is, by a database that Kamailio filled, or the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use strowger::auth::Algorithm;
use strowger::location::Secrets;
use strowger::proxy::{StoreSilent, SubscriberQuestion};
use strowger::store::{self, Accounts, Frame, Inquiries, Store};

use super::cluster::Cluster;
use super::database::{Database, SqliteFile};
use super::scratch::Scratch;

/// Asks, and waits for the answer.
fn ask(inquiries: &mut Inquiries, user: &str, realm: &str) -> Result<Option<Secrets>, StoreSilent> {
    let aor = &user.as_bytes()[..user.len().min(256)];
    let question = SubscriberQuestion {
        aor,
        user: user.as_bytes(),
        realm: realm.as_bytes(),
    };
    inquiries.ask(&question).expect("room");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = inquiries.take() {
            assert_eq!(answer.aor(), aor);
            return answer.found;
        }
        assert!(Instant::now() < deadline, "no answer for {user}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn md5(user: &str, realm: &str, password: &str) -> Vec<u8> {
    let hex = Algorithm::Md5.ha1(user.as_bytes(), realm.as_bytes(), password.as_bytes());
    data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex")
}

fn knows_its_users(database: &impl Database, kind: store::Database) {
    let frame = Frame {
        listeners: Vec::new(),
        use_domain: false,
        server_id: 0,
        homes: None,
    };
    let made = store::migrate(&kind).expect("the tables are made");
    assert!(made.contains(&"location") && made.contains(&"strowger_subscriber"));
    let made = store::migrate(&kind).expect("they are left alone");
    assert!(made.is_empty(), "{made:?}");
    let mut store = Store::open(&kind, frame, 1).expect("a database");
    let rung = Arc::new(AtomicUsize::new(0));
    let bell = Arc::clone(&rung);
    let mut inquiries = store.inquiries(Box::new(move || {
        bell.fetch_add(1, Ordering::SeqCst);
    }));
    let accounts = store.accounts();
    let threads = store.start(Box::new(|_| ())).expect("threads");
    accounts
        .add("alice", "example.com", "secret")
        .expect("the tables are there");

    let alice = ask(&mut inquiries, "alice", "example.com")
        .expect("it can say")
        .expect("she is there");
    assert_eq!(
        alice.bare.md5.map(Vec::from),
        Some(md5("alice", "example.com", "secret"))
    );
    assert!(alice.bare.sha256.is_some() && alice.bare.sha512_256.is_some());
    assert!(
        ask(&mut inquiries, "nobody", "example.com")
            .expect("it can say")
            .is_none()
    );
    assert!(
        ask(&mut inquiries, "ali\0ce", "example.com")
            .expect("it can say")
            .is_none()
    );
    assert!(
        ask(&mut inquiries, &"a".repeat(300), "example.com").is_ok_and(|found| found.is_none())
    );
    assert!(rung.load(Ordering::SeqCst) >= 3);

    knows_kamailios_users(database, &mut inquiries);
    obeys_the_operator(database, &mut inquiries, &accounts);
    database.query("DROP TABLE strowger_subscriber");
    let made = accounts.migrate().expect("it is made again");
    assert_eq!(made, ["strowger_subscriber"]);
    threads.stop(Duration::from_secs(5));
}

fn knows_kamailios_users(database: &impl Database, inquiries: &mut Inquiries) {
    // As Kamailio's kamctl leaves them: with the hash alone, or with the password.
    database.query("INSERT INTO subscriber (username, domain, password, ha1) VALUES ('bob', 'example.com', '', 'b4a1ff1f1b0d9c6a8cb8ce9cee1b8c1f')");
    database.query("INSERT INTO subscriber (username, domain, password) VALUES ('carol', 'example.com', 'plain')");
    let bob = ask(inquiries, "bob", "example.com")
        .expect("it can say")
        .expect("he is there");
    assert!(bob.bare.md5.is_some_and(|md5| md5[..2] == [0xb4, 0xa1]) && bob.bare.sha256.is_none());
    let carol = ask(inquiries, "carol", "example.com")
        .expect("it can say")
        .expect("she is there");
    assert_eq!(
        carol.bare.md5.map(Vec::from),
        Some(md5("carol", "example.com", "plain"))
    );
    assert!(carol.bare.sha256.is_some() && carol.bare.sha512_256.is_some());
}

fn obeys_the_operator(database: &impl Database, inquiries: &mut Inquiries, accounts: &Accounts) {
    assert!(
        accounts.add("alice", "example.com", "other").is_err(),
        "she is there"
    );
    accounts
        .change("alice", "example.com", "other")
        .expect("she is there");
    let alice = ask(inquiries, "alice", "example.com")
        .expect("it can say")
        .expect("she is there");
    assert_eq!(
        alice.bare.md5.map(Vec::from),
        Some(md5("alice", "example.com", "other"))
    );
    assert_eq!(
        database.query("SELECT count(*) FROM subscriber WHERE password = 'other' OR ha1 = 'other'"),
        ["0"]
    );
    assert!(
        accounts.change("dave", "example.com", "x").is_err()
            && accounts.remove("dave", "example.com").is_err()
    );
    assert!(
        accounts.add("a:b", "example.com", "x").is_err()
            && accounts.add("dave", "example.com", "").is_err()
    );
    accounts
        .remove("alice", "example.com")
        .expect("she is there");
    assert!(
        ask(inquiries, "alice", "example.com")
            .expect("it can say")
            .is_none()
    );
    assert_eq!(
        database.query("SELECT count(*) FROM strowger_subscriber"),
        ["0"]
    );
}

#[test]
fn users_in_sqlite() {
    let scratch = Scratch::new();
    let file = scratch.path().join("users.db");
    knows_its_users(&SqliteFile(&file), store::Database::Sqlite(file.clone()));
}

#[test]
fn users_in_postgres() {
    let cluster = Cluster::start();
    let url = cluster.url();
    knows_its_users(&cluster, store::Database::Postgres(url.clone()));

    // A database that has gone cannot say, which is another thing than that there is nobody.
    let frame = Frame {
        listeners: Vec::new(),
        use_domain: true,
        server_id: 0,
        homes: None,
    };
    let mut store = Store::open(&store::Database::Postgres(url), frame, 1).expect("a URL");
    let mut inquiries = store.inquiries(Box::new(|| ()));
    let threads = store.start(Box::new(|_| ())).expect("threads");
    assert!(
        ask(&mut inquiries, "carol@other.example", "example.com")
            .expect("it can say")
            .is_none()
    );
    cluster.crash();
    assert_eq!(
        ask(&mut inquiries, "carol", "example.com").map(|found| found.is_some()),
        Err(StoreSilent)
    );
    threads.stop(Duration::from_millis(100));
}

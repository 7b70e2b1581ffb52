//! Kamailio is the judge: it fills a table that Strowger loads and serves, and loads and serves one that Strowger filled.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cluster::Cluster;
use super::database::{Database, SqliteFile};
use super::phone::Phone;
use super::ports::free_port;
use super::scratch::Scratch;
use super::server::Server;

/// A registrar of Kamailio's with a database; dropped, it is ended.
struct Kamailio {
    child: Child,
    sip: SocketAddr,
}

impl Kamailio {
    /// `mode` is usrloc's `db_mode`: 1 writes through, 2 writes back; both load the whole table at the start.
    fn start(scratch: &Scratch, module: &str, url: &str, mode: u8) -> Self {
        let sip = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let modules = "/usr/lib/x86_64-linux-gnu/kamailio/modules/";
        let text = format!(
            "#!KAMAILIO\ndebug=1\nlog_stderror=yes\nfork=yes\nchildren=1\nauto_aliases=no\ndns=no\nrev_dns=no\ndisable_tcp=yes\n\
             listen=udp:{sip}\nmpath=\"{modules}\"\nloadmodule \"kex.so\"\nloadmodule \"pv.so\"\nloadmodule \"tm.so\"\nloadmodule \"sl.so\"\n\
             loadmodule \"textops.so\"\nloadmodule \"{module}.so\"\nloadmodule \"nathelper.so\"\nloadmodule \"usrloc.so\"\n\
             loadmodule \"registrar.so\"\n\
             modparam(\"usrloc\",\"db_mode\",{mode})\nmodparam(\"usrloc\",\"db_url\",\"{url}\")\nmodparam(\"registrar\",\"use_path\",1)\n\
             modparam(\"registrar\",\"path_mode\",0)\nmodparam(\"nathelper|registrar\",\"received_avp\",\"$avp(rcv)\")\n\
             request_route {{\n  if (is_method(\"REGISTER\")) {{ fix_nated_register(); if (!save(\"location\")) sl_reply_error(); exit; }}\n\
             if (!lookup(\"location\")) {{ sl_send_reply(\"404\",\"Not Found\"); exit; }}\n\
             append_to_reply(\"X-Found: $ru;via=$du\\r\\n\"); sl_send_reply(\"486\",\"Busy\");\n}}\n"
        );
        let file = scratch.path().join("kamailio.cfg");
        std::fs::write(&file, text).expect("a file of ours");
        let log = File::create(scratch.path().join("kamailio.log")).expect("a file of ours");
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "64", "-Y"])
            .arg(scratch.path())
            .arg("-P")
            .arg(scratch.path().join("kamailio.pid"))
            .arg("-f")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Kamailio, of the package kamailio");
        std::thread::sleep(Duration::from_millis(1_500));
        Self { child, sip }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

/// Gives the database Kamailio's own tables.
fn make_tables(folder: &str, run: impl Fn(&str)) {
    for file in [
        "standard-create.sql",
        "usrloc-create.sql",
        "auth_db-create.sql",
    ] {
        let path = format!("/usr/share/kamailio/{folder}/{file}");
        run(&std::fs::read_to_string(path).expect("the tables, of Kamailio's database packages"));
    }
}

/// Asks Kamailio for users that Strowger left in the table, or took out.
fn answers_calls(phone: &mut Phone) {
    for (user, is_there) in [
        ("user5", false),
        ("user20", true),
        ("user40", true),
        ("user55", true),
        ("rich", true),
    ] {
        let answer = phone.ask("INVITE", user, 1, "");
        let status = if is_there {
            "SIP/2.0 486"
        } else {
            "SIP/2.0 404"
        };
        assert!(answer.starts_with(status), "{user}: {answer}");
        // Behind a NAT, or by the edge of its Path.
        let way = if user == "rich" {
            "via=sip:edge.example.com"
        } else {
            "via=sip:127.0.0.1:"
        };
        assert!(!is_there || answer.contains(way), "{user}: {answer}");
    }
}

/// The second Kamailio has `db_mode` as given.
fn there_and_back(
    scratch: &Scratch,
    database: &impl Database,
    module: &str,
    kamailios_url: &str,
    mode: u8,
) {
    let rich = "Contact: <sip:rich@10.1.2.3:5070;ob>;q=0.7;expires=500;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"\r\n\
                Supported: path, outbound\r\nPath: <sip:edge.example.com;lr>\r\n";
    let kamailio = Kamailio::start(scratch, module, kamailios_url, 1);
    let mut phone = Phone::new(kamailio.sip);
    phone.register_all(0..50, 1, 600);
    let answer = phone.ask("REGISTER", "rich", 1, rich);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    drop(kamailio);
    let registered = phone;
    let times = "SELECT username, expires, last_modified FROM location ORDER BY username";
    let (before, names) = (
        database.query(times),
        database.query("SELECT ruid FROM location ORDER BY ruid"),
    );
    assert_eq!(before.len(), 51);

    // Strowger loads what Kamailio wrote, and leaves it as it is.
    let mut server = Server::start(&format!("url = \"{}\"", database.url()));
    server.settle();
    assert_eq!(server.metric("strowger_bindings"), 51);
    let mut phone = Phone::new(server.sip());
    assert_eq!(phone.contacts("user7"), ["sip:user7@10.1.2.3:5060"]);
    // A call reaches the phone by the way that Kamailio saw its REGISTER come.
    let (invite, answer) = phone.call("user7", &registered);
    assert!(
        invite.starts_with("INVITE sip:user7@10.1.2.3:5060 "),
        "{invite}"
    );
    assert!(answer.starts_with("SIP/2.0 486"), "{answer}");
    let listed = phone.ask("REGISTER", "rich", 1, "");
    assert!(
        listed.contains("<sip:rich@10.1.2.3:5070;ob>;q=0.7;expires="),
        "{listed}"
    );
    assert_eq!(database.query(times), before);

    // It refreshes Kamailio's rows under their names, removes some, and adds its own.
    phone.register_all(0..10, 2, 0);
    phone.register_all(10..30, 2, 900);
    phone.register_all(50..60, 1, 900);
    server.settle();
    let kept = database.query("SELECT ruid FROM location WHERE server_id = 0 ORDER BY ruid");
    assert_eq!(kept.iter().filter(|name| names.contains(name)).count(), 41);
    server.end();

    // Kamailio loads what Strowger wrote, and serves it.
    let kamailio = Kamailio::start(scratch, module, kamailios_url, mode);
    let mut phone = Phone::new(kamailio.sip);
    answers_calls(&mut phone);
    // It knows how long they last, and goes on from their CSeq.
    let listed = phone.ask("REGISTER", "user55", 1, "");
    assert!(listed.contains(";expires=8"), "{listed}");
    phone.register("user55", 2, 600);
    // In the table at once, or with db_mode 2 when its timer or its end has come.
    drop(kamailio);
    assert_eq!(
        database.number("SELECT cseq FROM location WHERE username = 'user55'"),
        2
    );
    assert_eq!(database.number("SELECT count(*) FROM location"), 51);
}

#[test]
fn kamailio_and_strowger_take_turns_at_postgres() {
    let (scratch, cluster) = (Scratch::new(), Cluster::start());
    make_tables("postgres", |sql| drop(cluster.query(sql)));
    let url = cluster.url();
    there_and_back(&scratch, &cluster, "db_postgres", &url, 1);
}

#[test]
fn kamailio_and_strowger_take_turns_at_sqlite() {
    let scratch = Scratch::new();
    let file = scratch.path().join("kamailio.db");
    let connection = rusqlite::Connection::open(&file).expect("a new file");
    make_tables("db_sqlite", |sql| {
        connection.execute_batch(sql).expect("Kamailio's own SQL")
    });
    drop(connection);
    let url = format!("sqlite:///{}", file.display());
    there_and_back(&scratch, &SqliteFile(&file), "db_sqlite", &url, 2);
}

//! The methods as a client calls them, over a location whose worker runs each errand at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::admin::{Errands, Registry, StoreReport, Tray, Way};
use crate::counters::Counters;
use crate::datagram::ListenerId;
use crate::latency::{Latency, Method as Measured};
use crate::location::{Location, LocationSettings};
use crate::proxy::domains::Domains;
use crate::proxy::register::{Registrar, RegistrarSettings};
use crate::time::{Duration, Instant};

const NOW: Instant = Instant::from_micros(1_700_000_000_000_000);

struct Bed {
    state: State,
    location: Arc<Location>,
}

impl Bed {
    fn new(use_domain: bool) -> Self {
        let location = Arc::new(Location::new(&LocationSettings {
            hash_key: [9; 16],
            bindings_max: 20_000,
            contacts_max: 3,
        }));
        let settings = RegistrarSettings {
            expires_default_s: 3_600,
            expires_min_s: 60,
            expires_max_s: 7_200,
            use_domain,
            ..RegistrarSettings::default()
        };
        let domains = Arc::new(Domains::new(["example.com"], []));
        let tray = Arc::new(Tray::new());
        let (own, held) = (Arc::clone(&tray), Arc::clone(&location));
        let worker = move || {
            own.run_one(NOW, &held, &Counters::new());
        };
        let way: Way = (tray, Box::new(worker));
        let latency = Arc::new(Latency::new());
        latency.record(Measured::Bye, Duration::from_millis(2));
        let counted = Arc::clone(&location);
        let bindings = Box::new(move || counted.bindings() as u64);
        let mut state = State::new(vec![Arc::new(Counters::new())], vec![latency], bindings);
        state.registry = Some(Registry {
            errands: Errands::new(vec![way]),
            registrar: Registrar::new(Arc::clone(&location), domains, settings),
            use_domain,
            expires_default_s: 3_600,
            listeners: vec![(ListenerId(4), "192.0.2.1:5060".parse().expect("an address"))],
        });
        Self { state, location }
    }

    fn post(&self, body: &str) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let answer = runtime.block_on(answer(&self.state, body.as_bytes()));
        answer.map_or(Value::Null, |text| {
            serde_json::from_str(&text).expect("JSON")
        })
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, i64> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.post(&call.to_string());
        match answer["error"]["code"].as_i64() {
            Some(code) => Err(code),
            None => Ok(answer["result"].clone()),
        }
    }
}

#[test]
fn the_server_tells_of_itself() {
    let mut bed = Bed::new(false);
    let version = bed.call("core.version", Value::Null).expect("known");
    assert!(
        version
            .as_str()
            .is_some_and(|text| text.starts_with("strowger "))
    );
    let uptime = bed.call("core.uptime", json!([])).expect("known");
    assert_eq!(uptime["state"], "starting");
    let latency = bed.call("stats.latency", json!({})).expect("known");
    assert_eq!(latency["rows"][0]["method"], "BYE");
    assert_eq!(latency["rows"][0]["q99.9"], 2.0);
    let counters = bed.call("stats.counters", json!([])).expect("known");
    assert_eq!(counters["requests"]["INVITE"], 0);
    assert_eq!(counters["timers_running"], 0);
    assert_eq!(
        bed.call("store.status", json!([])),
        Ok(json!({"configured": false}))
    );
    bed.state.store = Some(Box::new(|| StoreReport {
        up: true,
        backlog: 7,
    }));
    assert_eq!(
        bed.call("store.status", json!([])),
        Ok(json!({"configured": true, "up": true, "backlog": 7}))
    );
    let methods = bed.call("rpc.methods", json!([])).expect("known");
    let names: Vec<&str> = methods
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|method| method["name"].as_str())
        .collect();
    assert!(names.contains(&"ul.dump") && names.is_sorted(), "{names:?}");
}

#[test]
fn memory_is_told_by_what_it_is_for() {
    let bed = Bed::new(false);
    for n in 0..1_000 {
        let contact = format!("sip:u{n}@192.0.2.7");
        bed.call("ul.add", json!([n, contact])).expect("room");
    }
    let memory = bed.call("core.memory", json!([])).expect("known");
    let parts = &memory["categories"];
    assert_eq!(memory["counts"]["bindings"], 1_000);
    let part = |name: &str| parts[name].as_u64().expect("a number");
    assert!(
        part("texts") > 30_000 && part("bindings") > 80_000,
        "{parts}"
    );
    let all = parts.as_object().expect("an object").values();
    let sum: u64 = all.filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(memory["sum"], sum);
    let whole = bed.location.memory();
    assert_eq!(part("texts"), whole.texts as u64);
    assert_eq!(part("indexes"), whole.indexes as u64);
    assert!(memory["rss"].as_u64() > Some(sum));
    let kamailios = bed.call("core.shmmem", json!([])).expect("known");
    for figure in [
        "total",
        "free",
        "used",
        "real_used",
        "max_used",
        "fragments",
    ] {
        assert!(kamailios[figure].is_u64(), "{kamailios}");
    }
}

#[test]
fn what_is_added_is_found_shown_and_removed() {
    let bed = Bed::new(false);
    let contact = "sip:alice@192.0.2.7:5070;transport=udp";
    let added = bed.call(
        "ul.add",
        json!({
            "aor": "sip:alice@example.com", "contact": contact, "expires": 600, "q": 0.7,
            "path": "<sip:edge.example.com;lr>", "received": "sip:198.51.100.9:1024;transport=tcp",
        }),
    );
    assert_eq!(added, Ok(json!({"aor": "alice", "expires": 600})));
    let shown = bed.call("ul.dump", json!([])).expect("known");
    assert_eq!(shown["next"], Value::Null);
    assert_eq!(shown["aors"][0]["aor"], "alice");
    let mut shown = shown["aors"][0]["contacts"][0].clone();
    for name in ["callid", "ruid"] {
        assert!(shown[name].take().is_string(), "{name}");
    }
    assert_eq!(
        shown,
        json!({
            "address": contact, "expires": 600, "q": 0.7, "callid": null, "cseq": 1,
            "user_agent": "strowger ctl", "received": "sip:198.51.100.9:1024;transport=tcp",
            "path": "<sip:edge.example.com;lr>", "ruid": null, "instance": null, "reg_id": null,
        })
    );
    let registered = bed.location.registered_contact(NOW, contact.as_bytes());
    assert_eq!(
        registered.map(|registered| registered.listener),
        Some(ListenerId(4))
    );
    for name in ["alice", "alice@example.com", "sip:alice@EXAMPLE.com"] {
        let found = bed.call("ul.lookup", json!([name])).expect("registered");
        assert_eq!(found["contacts"][0]["address"], contact, "{name}");
    }
    assert_eq!(
        bed.call("ul.rm", json!(["alice", "sip:alice@192.0.2.8"])),
        Err(NOT_FOUND)
    );
    assert_eq!(
        bed.call("ul.rm", json!(["location", "alice"])),
        Ok(json!({"removed": 1}))
    );
    assert_eq!(bed.call("ul.lookup", json!(["alice"])), Err(NOT_FOUND));
    assert_eq!(bed.call("ul.rm", json!(["alice"])), Err(NOT_FOUND));
    assert_eq!(bed.location.bindings(), 0);
}

#[test]
fn a_contact_is_added_within_the_bounds_of_a_registration() {
    let bed = Bed::new(false);
    for n in 1..=3 {
        let contact = format!("sip:a@192.0.2.{n}");
        let added = bed.call("ul.add", json!(["alice", contact]));
        assert_eq!(added, Ok(json!({"aor": "alice", "expires": 3_600})));
    }
    let again = bed.call("ul.add", json!(["alice", "sip:a@192.0.2.1", 60]));
    assert!(again.is_ok());
    let found = bed.call("ul.lookup", json!(["alice"])).expect("registered");
    assert_eq!(found["contacts"][0]["expires"], 60, "it is refreshed");
    assert_eq!(
        bed.call("ul.add", json!(["alice", "sip:a@192.0.2.4"])),
        Err(FORBIDDEN)
    );
    for wrong in [
        json!(["bob", "tel:+1"]),
        json!(["bob", "sip:a@h\r\nX: y"]),
        json!(["bob", "sip:a@h?X=y"]),
        json!(["bob", "sip:a@192.0.2.1", 0]),
        json!(["bob", "sip:a@192.0.2.1", 60, "1.5"]),
        json!(["bob", "sip:a@192.0.2.1", 60, "NaN"]),
        json!(["bob", "sip:a@192.0.2.1", 60, 1, "sip:edge"]),
        json!(["bob", "sip:a@192.0.2.1", 60, 1, "<sip:edge>\r\nX: y"]),
        json!(["bob", "sip:a@192.0.2.1", 60, 1, null, "sip:nat.example.com"]),
        json!(["bob@elsewhere.example", "sip:a@192.0.2.1"]),
        json!(["", "sip:a@192.0.2.1"]),
        json!(["bob"]),
    ] {
        assert_eq!(
            bed.call("ul.add", wrong.clone()),
            Err(INVALID_PARAMS),
            "{wrong}"
        );
    }
    let with_domains = Bed::new(true);
    let add = |aor: &str| with_domains.call("ul.add", json!([aor, "sip:a@192.0.2.1"]));
    assert_eq!(
        add("alice@Example.com"),
        Ok(json!({"aor": "alice@example.com", "expires": 3_600}))
    );
    assert_eq!(add("alice"), Err(INVALID_PARAMS));
    let found = with_domains.call("ul.lookup", json!(["sip:alice@example.com:5060"]));
    assert!(found.is_ok());
}

#[test]
fn pages_follow_each_other_to_the_end() {
    let bed = Bed::new(false);
    for n in 0..1_500 {
        bed.call("ul.add", json!([format!("u{n}"), "sip:a@192.0.2.1"]))
            .expect("room");
    }
    let (mut cursor, mut seen, mut pages) = (Value::Null, BTreeSet::new(), 0);
    loop {
        let page = bed.call("ul.dump", json!({"cursor": cursor, "limit": "400"}));
        let page = page.expect("a page");
        let aors = page["aors"].as_array().expect("a list");
        assert!(aors.len() <= 400);
        for aor in aors {
            assert!(seen.insert(aor["aor"].as_str().expect("a name").to_owned()));
        }
        pages += 1;
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (1_500, 4));
    for wrong in ["", "1", "x.y", "400.0", "1.1.1", "-1.0"] {
        let params = json!({ "cursor": wrong });
        assert_eq!(bed.call("ul.dump", params), Err(INVALID_PARAMS), "{wrong}");
    }
    assert_eq!(bed.call("ul.dump", json!([null, 0])), Err(INVALID_PARAMS));
}

#[test]
fn what_is_no_call_gets_the_error_that_the_standard_names() {
    let bed = Bed::new(false);
    let code = |body: &str| bed.post(body)["error"]["code"].as_i64();
    assert_eq!(code("{"), Some(PARSE_ERROR));
    assert_eq!(code("[]"), Some(INVALID_REQUEST));
    assert_eq!(code("7"), Some(INVALID_REQUEST));
    for body in [
        r#"{"id":1,"method":"core.version"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"core.version"}"#,
    ] {
        assert_eq!(code(body), Some(INVALID_REQUEST), "{body}");
    }
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"nope"}"#),
        Some(METHOD_NOT_FOUND)
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"ul.lookup"}"#),
        Some(INVALID_PARAMS)
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"ul.lookup","params":"alice"}"#),
        Some(INVALID_PARAMS)
    );
    // Without workers there is nobody to ask.
    let state = State::new(Vec::new(), Vec::new(), Box::new(|| 0));
    let alone = Bed { state, ..bed };
    assert_eq!(alone.call("ul.dump", json!([])), Err(INTERNAL_ERROR));
}

#[test]
fn a_batch_is_answered_without_its_notifications_which_are_done() {
    let bed = Bed::new(false);
    let call = r#"{"jsonrpc":"2.0","id":"a","method":"core.version"}"#;
    let notification =
        r#"{"jsonrpc":"2.0","method":"ul.add","params":["alice","sip:a@192.0.2.1"]}"#;
    let answers = bed.post(&format!("[{call},{notification},1]"));
    assert_eq!(answers[0]["id"], "a");
    assert_eq!(answers[1]["error"]["code"], INVALID_REQUEST);
    assert_eq!(answers[1]["id"], Value::Null);
    assert_eq!(answers.as_array().map(Vec::len), Some(2));
    assert_eq!(bed.location.bindings(), 1);
    assert_eq!(bed.post(notification), Value::Null);
    assert_eq!(bed.post(&format!("[{notification}]")), Value::Null);
    let many = vec![call; RPC_BATCH_MAX + 1].join(",");
    assert_eq!(
        bed.post(&format!("[{many}]"))["error"]["code"],
        INVALID_REQUEST
    );
}

//! Credentials: whatever stands behind `Authorization:`, reading it does not panic, what is good is the same when it is written plainly, and
//! a registrar whose users' passwords nobody knows binds nobody.

use std::sync::Arc;

use strowger::auth::{Algorithm, Ephemeral, EphemeralHash, EphemeralOrder};
use strowger::counters::Counters;
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{Ha1s, Location, LocationSettings, Secrets};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    AuthSettings, Keys, Listener, MailboxFull, Notice, Output, Proxy, Question, ResolverFull,
    SendError, Settings, StoreFull, SubscriberQuestion,
};
use strowger::sip::auth::Credentials;
use strowger::time::{Duration, Instant};

/// What the registrar did.
#[derive(Default)]
struct Exit {
    statuses: Vec<Vec<u8>>,
    asked: Vec<Vec<u8>>,
}

impl Output for Exit {
    fn send(
        &mut self,
        _: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let mut buffer = vec![0; len];
        write(&mut buffer);
        self.statuses
            .push(buffer.get(8..11).unwrap_or_default().to_vec());
        Ok(())
    }

    fn hand_off(&mut self, _: WorkerId, _: &Datagram<'_>) -> Result<(), MailboxFull> {
        Err(MailboxFull)
    }

    fn resolve(&mut self, _: &Question<'_>) -> Result<(), ResolverFull> {
        Err(ResolverFull)
    }

    fn ask_subscriber(&mut self, question: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        self.asked.push(question.aor.to_vec());
        Ok(())
    }

    fn want_rows(&mut self, _: &[u8]) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn is_connected(&self, _: &Flow) -> bool {
        false
    }
}

/// Runs; says whether it came to a question to the store: to all that can be checked before the password.
pub(crate) fn run(value: &[u8]) -> bool {
    if let Some(Ok(credentials)) = Credentials::parse(value) {
        for room in [0, 1, 16, 256] {
            let mut out = vec![0; room];
            if let Some(name) = credentials.name(&mut out) {
                assert!(name.len() <= credentials.username.len());
            }
        }
        let plain = plainly(&credentials);
        let again = Credentials::parse(&plain);
        assert_eq!(again, Some(Ok(credentials)), "{plain:?}");
    }
    registers_nobody(value)
}

/// The same credentials, each value in quotes.
fn plainly(credentials: &Credentials<'_>) -> Vec<u8> {
    let mut plain = b"Digest ".to_vec();
    let mut put = |name: &str, value: &[u8]| {
        plain.extend_from_slice(name.as_bytes());
        plain.extend_from_slice(b"=\"");
        plain.extend_from_slice(value);
        plain.extend_from_slice(b"\", ");
    };
    put(
        if credentials.is_extended {
            "username*"
        } else {
            "username"
        },
        credentials.username,
    );
    put("realm", credentials.realm);
    put("nonce", credentials.nonce);
    put("uri", credentials.uri);
    put("response", credentials.response);
    put("cnonce", credentials.cnonce);
    put("nc", credentials.nc);
    if let Some(algorithm) = credentials.algorithm {
        put("algorithm", algorithm);
    }
    if let Some(qop) = credentials.qop {
        put("qop", qop);
    }
    if credentials.is_hashed {
        put("userhash", b"true");
    }
    plain
}

fn registers_nobody(value: &[u8]) -> bool {
    let mut message = b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKf\r\nMax-Forwards: 70\r\n\
        From: <sip:bob@example.com>;tag=f\r\nTo: <sip:bob@example.com>\r\nCall-ID: f\r\nCSeq: 1 REGISTER\r\n\
        Contact: <sip:bob@203.0.113.9>\r\nAuthorization: "
        .to_vec();
    let line = value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    message.extend(line);
    message.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    let location = Arc::new(Location::new(&LocationSettings {
        hash_key: [9; 16],
        bindings_max: 4,
        contacts_max: 2,
    }));
    let mut proxy = proxy(&location);
    let now = Instant::from_micros(1_800_000_000_000_000);
    let datagram = Datagram {
        bytes: &message,
        flow: Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: "203.0.113.9:5060".parse().expect("an address"),
        },
        received_at: now,
        handed_off: false,
    };
    let mut exit = Exit::default();
    proxy.on_datagram(now, &datagram, &mut exit);
    let asked = std::mem::take(&mut exit.asked);
    for aor in &asked {
        assert_eq!(aor, b"bob", "nobody else is asked for");
        // Hashes of which nobody knows what they are of.
        let bare = Ha1s {
            sha256: Some([0x5a; 32]),
            md5: Some([0xa5; 16]),
            ..Ha1s::default()
        };
        let secrets = Secrets {
            bare,
            with_domain: bare,
        };
        let notice = Notice::Subscriber {
            aor,
            found: Ok(Some(secrets)),
        };
        proxy.on_notice(now, notice, &mut exit);
    }
    for status in &exit.statuses {
        let is_refusal = matches!(status.as_slice(), b"400" | b"401" | b"403" | b"503");
        assert!(is_refusal, "{}", String::from_utf8_lossy(status));
    }
    assert!(exit.statuses.len() <= 1 && location.bindings() == 0);
    !asked.is_empty()
}

fn proxy(location: &Arc<Location>) -> Proxy {
    let listener = Listener::new(ListenerId(0), "192.0.2.1:5060".parse().expect("an address"));
    let keys = Keys {
        nonces: vec![[7; 16]],
        tags: vec![[8; 16]],
        branches: vec![[9; 16]],
        tokens: vec![[10; 16]],
        ..Keys::default()
    };
    let mut settings = Settings::alone(keys, vec![listener], &["example.com"]);
    settings.message_bytes_max = 1 << 20;
    settings.transactions_max = 16;
    settings.auth = Some(AuthSettings {
        realm: "example.com".to_owned(),
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        nonce_lifetime: Duration::from_secs(300),
        ephemeral: Some(Ephemeral::new(
            vec![b"one".to_vec(), b"two".to_vec()],
            EphemeralHash::Sha1,
            EphemeralOrder::TimeFirst,
        )),
    });
    let registrar = Registrar::new(
        Arc::clone(location),
        Arc::new(Domains::new(["example.com"], [])),
        RegistrarSettings::default(),
    );
    Proxy::new(
        settings,
        Arc::clone(location),
        registrar,
        Arc::new(Counters::new()),
    )
}

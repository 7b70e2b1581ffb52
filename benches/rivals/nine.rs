//! The nine fields that each parser shows, and what they are in the three messages.

use std::fmt::Display;

/// What stands in the first line.
pub(crate) enum Start<'m> {
    /// Method and Request-URI.
    Request(&'m dyn Display, &'m dyn Display),
    /// Status.
    Response(u16),
}

/// The fields as a parser holds them: read, and written out by the check alone.
pub(crate) struct Nine<'m> {
    pub(crate) start: Start<'m>,
    pub(crate) branch: &'m dyn Display,
    pub(crate) from_tag: &'m dyn Display,
    pub(crate) to: &'m dyn Display,
    pub(crate) call_id: &'m dyn Display,
    pub(crate) cseq: u32,
    pub(crate) cseq_method: &'m dyn Display,
    pub(crate) contact: &'m dyn Display,
    pub(crate) content_length: u32,
}

/// Parses a message and shows its fields; false where one cannot be read.
pub(crate) type Read = fn(&[u8], &mut dyn FnMut(&Nine<'_>)) -> bool;

impl Nine<'_> {
    fn written_out(&self) -> [String; 9] {
        let (first, second) = match &self.start {
            Start::Request(method, uri) => (method.to_string(), uri.to_string()),
            Start::Response(status) => (status.to_string(), String::new()),
        };
        [
            first,
            second,
            self.branch.to_string(),
            self.from_tag.to_string(),
            self.to.to_string(),
            self.call_id.to_string(),
            format!("{} {}", self.cseq, self.cseq_method),
            self.contact.to_string(),
            self.content_length.to_string(),
        ]
    }
}

/// Fails where a parser does not find in a message what is written there.
pub(crate) fn check(parser: &str, read: Read, message: &str, text: &str) {
    let (_, expected) = EXPECTED
        .iter()
        .find(|(name, _)| *name == message)
        .expect("the fields of each message are written below");
    let mut found = None;
    let is_read = read(text.as_bytes(), &mut |nine| {
        found = Some(nine.written_out())
    });
    assert!(is_read, "{parser} cannot read {message}");
    let found = found.expect("what is read is shown");
    assert_eq!(
        found.each_ref().map(String::as_str),
        *expected,
        "{parser}, {message}"
    );
}

const EXPECTED: [(&str, [&str; 9]); 3] = [
    (
        "invite",
        [
            "INVITE",
            "sip:bob@example.com",
            "z9hG4bKPj7a2f9c41d6e84b0f",
            "9fxced76sl",
            "sip:bob@example.com",
            "3848276298220188511@client.atlanta.example.com",
            "314159 INVITE",
            "sip:alice@192.0.2.101:5060;ob",
            "286",
        ],
    ),
    (
        "register",
        [
            "REGISTER",
            "sip:example.com",
            "z9hG4bKPj0c7b1e95aa3d4f62",
            "a73kszlfl",
            "sip:alice@example.com",
            "1j9FpLxk3uxtm8tn@192.0.2.101",
            "4711 REGISTER",
            "sip:alice@192.0.2.101:5060;ob",
            "0",
        ],
    ),
    (
        "ok",
        [
            "200",
            "",
            "z9hG4bK00a8d1f7c35b6e2094",
            "9fxced76sl",
            "sip:bob@example.com",
            "3848276298220188511@client.atlanta.example.com",
            "314159 INVITE",
            "sip:bob@192.0.2.202:5060",
            "136",
        ],
    ),
];

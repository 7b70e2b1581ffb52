//! What is parsed, edited and counted: messages as phones and carriers send them, the same for every bench and every parser.

pub(crate) mod fields;

/// A call as a desk phone begins it, with its offer.
pub(crate) const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.101:5060;rport;branch=z9hG4bKPj7a2f9c41d6e84b0f\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice Liddell\" <sip:alice@example.com>;tag=9fxced76sl\r\n\
    To: <sip:bob@example.com>\r\n\
    Contact: <sip:alice@192.0.2.101:5060;ob>\r\n\
    Call-ID: 3848276298220188511@client.atlanta.example.com\r\n\
    CSeq: 314159 INVITE\r\n\
    Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS\r\n\
    Supported: replaces, 100rel, timer, norefersub\r\n\
    Session-Expires: 1800\r\n\
    Min-SE: 90\r\n\
    User-Agent: Acme Desk Phone 4.2.1\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 286\r\n\
    \r\n\
    v=0\r\n\
    o=alice 3843211232 3843211232 IN IP4 192.0.2.101\r\n\
    s=call\r\n\
    c=IN IP4 192.0.2.101\r\n\
    t=0 0\r\n\
    m=audio 49170 RTP/AVP 96 0 8 101\r\n\
    a=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 useinbandfec=1\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=sendrecv\r\n";

/// A phone that refreshes its binding.
pub(crate) const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.101:5060;rport;branch=z9hG4bKPj0c7b1e95aa3d4f62\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice Liddell\" <sip:alice@example.com>;tag=a73kszlfl\r\n\
    To: \"Alice Liddell\" <sip:alice@example.com>\r\n\
    Call-ID: 1j9FpLxk3uxtm8tn@192.0.2.101\r\n\
    CSeq: 4711 REGISTER\r\n\
    User-Agent: Acme Desk Phone 4.2.1\r\n\
    Contact: <sip:alice@192.0.2.101:5060;ob>;expires=300\r\n\
    Expires: 300\r\n\
    Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS\r\n\
    Content-Length: 0\r\n\
    \r\n";

/// The answer to a call, on its way back through two proxies.
pub(crate) const OK: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK00a8d1f7c35b6e2094\r\n\
    Via: SIP/2.0/UDP 192.0.2.101:5060;rport=5060;received=192.0.2.101;branch=z9hG4bKPj7a2f9c41d6e84b0f\r\n\
    Record-Route: <sip:d7f3a1c05b@192.0.2.1:5060;lr>\r\n\
    From: \"Alice Liddell\" <sip:alice@example.com>;tag=9fxced76sl\r\n\
    To: <sip:bob@example.com>;tag=314c2d5e\r\n\
    Call-ID: 3848276298220188511@client.atlanta.example.com\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:bob@192.0.2.202:5060>\r\n\
    Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS\r\n\
    Supported: replaces, timer\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 136\r\n\
    \r\n\
    v=0\r\n\
    o=bob 1 1 IN IP4 192.0.2.202\r\n\
    s=call\r\n\
    c=IN IP4 192.0.2.202\r\n\
    t=0 0\r\n\
    m=audio 40376 RTP/AVP 0 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\n";

/// The three, with their names.
pub(crate) const ALL: [(&str, &str); 3] = [("invite", INVITE), ("register", REGISTER), ("ok", OK)];

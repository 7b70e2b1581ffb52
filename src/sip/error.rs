//! What can be wrong with a message or a field, and what is to be done about it.

use std::fmt;

/// Why one field or URI could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipError {
    /// No scheme, or a byte that no URI may have.
    BadUri,
    /// A host that is neither a name nor an address, or an IPv6 reference without its bracket.
    BadHost,
    /// A port that is no number up to 65535.
    BadPort,
    /// A `%` that two hexadecimal digits do not follow.
    BadEscape,
    /// A display name that is neither tokens nor a quoted string, or a quote that never closes.
    BadDisplayName,
    /// Something between or after the parts of an address.
    BadAddress,
    /// An empty parameter, or one that is named twice where once is the rule.
    BadParameter,
    /// A Via whose sent-protocol or sent-by cannot be read.
    BadVia,
    /// A CSeq that is no number and method.
    BadCSeq,
    /// A q that is not 0 to 1 with at most three decimals.
    BadQ,
    /// An address-of-record longer than the scratch given for it.
    TooLong,
}

/// Why a request is refused by the parser: each is a phrase of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionCause {
    /// SIP, but not 2.0.
    Version,
    /// Whitespace other than the two single SPs.
    RequestLine,
    /// A Request-URI with whitespace, brackets, header components or no scheme.
    RequestUri,
    /// A CR or LF that is no CRLF.
    LineBreak,
    /// A line that is no header field.
    HeaderLine,
    /// The headers do not end with an empty line.
    NoEmptyLine,
    /// More header fields than the index holds (`limits::HEADERS_MAX`).
    TooManyHeaders,
    /// A field that may stand once stands twice.
    Repeated,
    /// No From.
    MissingFrom,
    /// No To.
    MissingTo,
    /// No Call-ID.
    MissingCallId,
    /// No CSeq.
    MissingCSeq,
    /// A malformed From.
    From,
    /// A malformed To.
    To,
    /// A malformed top Via.
    Via,
    /// A malformed Call-ID.
    CallId,
    /// A CSeq that is no number below 2^31 and a method.
    CSeq,
    /// The method of CSeq is not that of the request line.
    MethodMismatch,
    /// Max-Forwards is no number up to 255.
    MaxForwards,
    /// Expires is no number of 32 bits.
    Expires,
    /// A Contact with a quote that never closes.
    Contact,
    /// Content-Length is no number.
    ContentLength,
    /// Content-Length is more than what came.
    BodyTruncated,
    /// No Content-Length, over a stream.
    MissingContentLength,
}

/// What a request that cannot be served is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status code.
    status: u16,
    /// The cause.
    pub why: RejectionCause,
}

/// Why what came is dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSip {
    /// No bytes at all.
    Empty,
    /// Only CRs and LFs: a keepalive (RFC 5626 3.5.1), not an error.
    Keepalive,
    /// Longer than `limits::MESSAGE_LEN_MAX`.
    TooLong,
    /// No request line and no status line.
    StartLine,
    /// A request with no Via that an answer could be sent by.
    Unanswerable(RejectionCause),
    /// A malformed ACK: an ACK is never answered (RFC 3261 17).
    MalformedAck(RejectionCause),
    /// A response whose status code is not 100 to 699.
    Status,
    /// A malformed response (RFC 3261 16.7, 18.1.2: it is dropped).
    MalformedResponse(RejectionCause),
}

impl SipError {
    /// The name of the cause, for counters and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadUri => "bad_uri",
            Self::BadHost => "bad_host",
            Self::BadPort => "bad_port",
            Self::BadEscape => "bad_escape",
            Self::BadDisplayName => "bad_display_name",
            Self::BadAddress => "bad_address",
            Self::BadParameter => "bad_parameter",
            Self::BadVia => "bad_via",
            Self::BadCSeq => "bad_cseq",
            Self::BadQ => "bad_q",
            Self::TooLong => "too_long",
        }
    }
}

impl fmt::Display for SipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for SipError {}

impl RejectionCause {
    /// The reason phrase of the answer (RFC 3261 21.4.1: it should tell what is wrong with the request).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "Version Not Supported",
            Self::RequestLine => "Bad Request Line",
            Self::RequestUri => "Bad Request-URI",
            Self::LineBreak => "Bad Line Break",
            Self::HeaderLine => "Bad Header Line",
            Self::NoEmptyLine => "Headers Without End",
            Self::TooManyHeaders => "Too Many Headers",
            Self::Repeated => "Repeated Header",
            Self::MissingFrom => "Missing From",
            Self::MissingTo => "Missing To",
            Self::MissingCallId => "Missing Call-ID",
            Self::MissingCSeq => "Missing CSeq",
            Self::From => "Bad From",
            Self::To => "Bad To",
            Self::Via => "Bad Via",
            Self::CallId => "Bad Call-ID",
            Self::CSeq => "Bad CSeq",
            Self::MethodMismatch => "CSeq Method Mismatch",
            Self::MaxForwards => "Bad Max-Forwards",
            Self::Expires => "Bad Expires",
            Self::Contact => "Bad Contact",
            Self::ContentLength => "Bad Content-Length",
            Self::BodyTruncated => "Content-Length Exceeds Message",
            Self::MissingContentLength => "Missing Content-Length",
        }
    }
}

impl Rejection {
    /// The answer to `why`.
    #[must_use]
    pub const fn new(why: RejectionCause) -> Self {
        // RFC 3261 21.5.6: a protocol version that we do not speak is 505; whatever else the parser sees is 400.
        let status = if matches!(why, RejectionCause::Version) {
            505
        } else {
            400
        };
        Self { status, why }
    }

    /// The status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.status
    }

    /// The reason phrase.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.why.as_str()
    }
}

impl NotSip {
    /// The name of the cause, for traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Keepalive => "keepalive",
            Self::TooLong => "too_long",
            Self::StartLine => "start_line",
            Self::Unanswerable(_) => "unanswerable",
            Self::MalformedAck(_) => "malformed_ack",
            Self::Status => "status",
            Self::MalformedResponse(_) => "malformed_response",
        }
    }
}

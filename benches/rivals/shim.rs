//! The nine fields by the parsers in C, through the functions of `shim/`.

// The functions in C are linked into the library that is built with them.
use strowger_rivals as _;

use std::ffi::{c_char, c_int, c_void};
use std::fmt::{self, Display};

use crate::nine::{Nine, Start};

pub(crate) fn libosip2(bytes: &[u8], see: &mut dyn FnMut(&Nine<'_>)) -> bool {
    read(nine_by_osip, bytes, see)
}

pub(crate) fn libre(bytes: &[u8], see: &mut dyn FnMut(&Nine<'_>)) -> bool {
    read(nine_by_re, bytes, see)
}

fn read(by: ReadInC, bytes: &[u8], mut see: &mut dyn FnMut(&Nine<'_>)) -> bool {
    let context: *mut &mut dyn FnMut(&Nine<'_>) = &raw mut see;
    // SAFETY: the message is read for the time of the call, and `seen` is given its context within it alone.
    unsafe { by(bytes.as_ptr().cast(), bytes.len(), seen, context.cast()) == 0 }
}

/// `struct span` of `shim/nine.h`.
#[repr(C)]
struct Span {
    at: *const c_char,
    len: usize,
}

/// `struct nine_uri`; libosip2 names the first parameter, libre gives all of them with their semicolons.
#[repr(C)]
struct Uri {
    scheme: Span,
    user: Span,
    host: Span,
    parameters: Span,
    port: u32,
}

/// `struct nine`.
#[repr(C)]
struct NineInC {
    method: Span,
    status: u32,
    request_uri: Uri,
    branch: Span,
    from_tag: Span,
    to: Uri,
    call_id: Span,
    call_id_host: Span,
    cseq: u32,
    cseq_method: Span,
    contact: Uri,
    content_length: u32,
}

/// A Call-ID, whose host libosip2 keeps apart.
struct CallId<'m>(&'m Span, &'m Span);

type Seen = extern "C" fn(*const NineInC, *mut c_void);
type ReadInC = unsafe extern "C" fn(*const c_char, usize, Seen, *mut c_void) -> c_int;

unsafe extern "C" {
    fn nine_by_osip(message: *const c_char, len: usize, seen: Seen, context: *mut c_void) -> c_int;
    fn nine_by_re(message: *const c_char, len: usize, seen: Seen, context: *mut c_void) -> c_int;
}

extern "C" fn seen(nine: *const NineInC, context: *mut c_void) {
    // SAFETY: both are what `read` and the shim have on their stacks while this is called, and nothing else refers to them.
    let (nine, see) = unsafe { (&*nine, &mut *context.cast::<&mut dyn FnMut(&Nine<'_>)>()) };
    see(&Nine {
        start: match u16::try_from(nine.status) {
            Ok(status @ 1..) => Start::Response(status),
            _ => Start::Request(&nine.method, &nine.request_uri),
        },
        branch: &nine.branch,
        from_tag: &nine.from_tag,
        to: &nine.to,
        call_id: &CallId(&nine.call_id, &nine.call_id_host),
        cseq: nine.cseq,
        cseq_method: &nine.cseq_method,
        contact: &nine.contact,
        content_length: nine.content_length,
    });
}

impl Span {
    fn text(&self) -> &str {
        if self.len == 0 {
            return "";
        }
        // SAFETY: the shim's spans hold for the time of the call, and this one is not empty.
        let bytes = unsafe { std::slice::from_raw_parts(self.at.cast::<u8>(), self.len) };
        std::str::from_utf8(bytes).unwrap_or("not UTF-8")
    }
}

impl Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

impl Display for CallId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.1.len == 0 { "" } else { "@" };
        write!(out, "{}{at}{}", self.0, self.1)
    }
}

impl Display for Uri {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.user.len == 0 { "" } else { "@" };
        write!(out, "{}:{}{at}{}", self.scheme, self.user, self.host)?;
        if self.port != 0 {
            write!(out, ":{}", self.port)?;
        }
        match self.parameters.text().trim_start_matches(';') {
            "" => Ok(()),
            parameters => write!(out, ";{parameters}"),
        }
    }
}

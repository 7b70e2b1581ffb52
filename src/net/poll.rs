//! Sleeping until a descriptor is ready, and waking who sleeps so. Unsafe: `poll` and `eventfd` are plain system calls.
#![expect(unsafe_code, reason = "poll(2) and eventfd(2) have no wrapper in std")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A descriptor that any thread may make readable.
#[derive(Debug)]
pub(super) struct EventFd(File);

impl EventFd {
    /// Makes one that is not readable.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: eventfd(2) takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else owns it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes it readable.
    pub(super) fn wake(&self) {
        // The only failure is a counter at its end, and then it is readable already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub(super) fn clear(&self) {
        // Not readable is what is wanted, so that error too is success.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sleeps until one of `fds` is readable or has an error, or `timeout` is over; a signal ends it too.
pub(super) fn wait<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Duration) {
    let mut fds = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the array is live for the call and its length is what is said; the descriptors are borrowed.
    let _ = unsafe { libc::poll(fds.as_mut_ptr(), N as libc::nfds_t, timeout_ms) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wake_ends_the_wait_and_a_clear_undoes_it() {
        let event = EventFd::new().expect("a descriptor");
        event.wake();
        event.wake();
        let before = Instant::now();
        wait([event.as_fd()], Duration::from_secs(60));
        assert!(before.elapsed() < Duration::from_secs(30));
        event.clear();
        event.clear();
        let before = Instant::now();
        wait([event.as_fd()], Duration::from_millis(20));
        assert!(before.elapsed() >= Duration::from_millis(15));
    }
}

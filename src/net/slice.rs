//! How long a thread runs before the scheduler looks at who else waits. Unsafe: the system call has no wrapper.
//!
//! A thread that waits for packets runs for microseconds. Beside a database on the same processors it is to run as soon as a packet is
//! there, and not when the other's slice, of milliseconds, is used up. A thread that asks for a shorter slice than the one
//! that runs goes first (EEVDF, Linux 6.12 and later: `sched_attr.sched_runtime`); its share of the processor stays the same,
//! and it takes no privilege. An older kernel ignores the wish.
#![expect(unsafe_code, reason = "sched_setattr(2) has no wrapper")]

use std::io;

/// Asks for short slices for the calling thread.
///
/// # Errors
/// What the kernel says; whoever is scheduled otherwise than by fair shares (a real-time thread) is left alone, and that is no
/// error.
pub fn shorten_slices() -> io::Result<()> {
    change(|attr| attr.sched_runtime = SLICE_NS)
}

/// Has the calling thread give way: its slices are short, too, so that whoever becomes ready waits no longer than for one of them; it preempts
/// nobody when it becomes ready itself (`SCHED_BATCH`); and it is nicer by so much.
///
/// # Errors
/// As above.
pub fn give_way(by: i32) -> io::Result<()> {
    change(|attr| {
        attr.sched_policy = BATCH;
        attr.sched_nice = (attr.sched_nice + by).min(NICEST);
        attr.sched_runtime = SLICE_NS;
    })
}

fn change(how: impl FnOnce(&mut libc::sched_attr)) -> io::Result<()> {
    let mut attr = libc::sched_attr {
        size: LEN,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the structure is live for the call, and its length is what is said; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, LEN, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if ![OTHER, BATCH].contains(&attr.sched_policy) {
        return Ok(());
    }
    attr.size = LEN;
    how(&mut attr);
    // SAFETY: as above; what is asked for beside the changes is what the kernel just said.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The greatest nice value.
const NICEST: i32 = 19;
/// The policies of fair shares.
const OTHER: u32 = libc::SCHED_OTHER.unsigned_abs();
const BATCH: u32 = libc::SCHED_BATCH.unsigned_abs();
/// The shortest slice that the kernel gives.
const SLICE_NS: u64 = 100_000;
/// The structure's length, of its first version.
const LEN: u32 = 48;

const _: () = assert!(size_of::<libc::sched_attr>() == LEN as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_short_slices_and_keeps_its_nice_value() {
        let before = rustix::process::getpriority_process(None).expect("a thread");
        shorten_slices().expect("it takes no privilege");
        let after = rustix::process::getpriority_process(None).expect("a thread");
        assert_eq!(before, after);
        assert_is_short();
    }

    #[test]
    fn a_thread_that_gives_way_is_nicer_and_has_short_slices() {
        // A thread of its own, since there is no way back.
        let thread = std::thread::spawn(|| {
            let nice = || rustix::process::getpriority_process(None).expect("a thread");
            let before = nice();
            give_way(2).expect("it takes no privilege");
            assert_eq!(nice(), before + 2);
            assert_is_short();
        });
        thread.join().expect("as asserted");
    }

    fn assert_is_short() {
        let stated = std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
        // Kernels without the debugging file, or before 6.12, do not say.
        if let Some(line) = stated.lines().find(|line| line.starts_with("se.slice")) {
            assert!(line.trim_end().ends_with(" 100000"), "{line}");
        }
    }
}

//! What a message costs that came to one worker and belongs to another, in time of both: written into a frame, parsed by who received it,
//! handed over, and parsed by who owns it. By copy into the owner's mailbox; and by descriptor, where the frame itself goes over and comes
//! back by a second queue, as with a shared UMEM. `alone` is a message that is handed to nobody. (The server copies, and the receiver looks
//! for the Call-ID instead of parsing: docs/performance.md, "Steering".)
//!
//! Each worker is on a core of its own and works in batches; waiting for the other is not counted.

use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use crossbeam_queue::ArrayQueue;
use strowger::net::Conveyor;
use strowger::sip::Index;

use crate::messages::{self, fields::read_nine};

const BATCH: usize = 32;
/// Batches that the receiver may be ahead of the owner.
const AHEAD_MAX: usize = 4;
/// Batches before the clock runs: every frame and buffer has been touched by then.
const WARM: usize = FRAMES / BATCH;
const FRAMES: usize = 2_048;
const FRAME_LEN: usize = 4_096;

/// A frame that goes over whole, and how much of it is the message.
type Lent = (Box<[u8]>, usize);

/// How a message goes over.
enum Way {
    Alone,
    Copied(Box<Conveyor<u32>>),
    Lent(Box<Loans>),
}

/// The frames that are out: on their way to the owner, and back.
struct Loans {
    posted: ArrayQueue<Lent>,
    returned: ArrayQueue<Box<[u8]>>,
}

type Make = fn() -> Way;

/// One run: the way, and how many batches each side has done.
struct Run {
    way: Way,
    message: &'static [u8],
    batches: usize,
    given: AtomicUsize,
    taken: AtomicUsize,
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("steering");
    let ways: [(&str, Make); 3] = [("alone", || Way::Alone), ("copied", copied), ("lent", lent)];
    for (name, message) in [("514", messages::REGISTER), ("893", messages::INVITE)] {
        for (way, make) in ways {
            let run = |count: u64| Run::new(make(), message.as_bytes(), count);
            group.bench_function(
                BenchmarkId::new(format!("{way}/receiver"), name),
                |bencher| {
                    bencher.iter_custom(|count| run(count).times().0);
                },
            );
            if way != "alone" {
                group.bench_function(BenchmarkId::new(format!("{way}/owner"), name), |bencher| {
                    bencher.iter_custom(|count| run(count).times().1);
                });
            }
        }
    }
}

fn copied() -> Way {
    Way::Copied(Box::new(Conveyor::new(1_024, 32).expect("an eventfd")))
}

fn lent() -> Way {
    Way::Lent(Box::new(Loans {
        posted: ArrayQueue::new(1_024),
        returned: ArrayQueue::new(FRAMES),
    }))
}

impl Run {
    fn new(way: Way, message: &'static [u8], count: u64) -> Self {
        let batches = usize::try_from(count).expect("a count").div_ceil(BATCH);
        Self {
            way,
            message,
            batches: batches + WARM,
            given: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// What the receiver and the owner took for their messages.
    fn times(&self) -> (Duration, Duration) {
        thread::scope(|scope| {
            let owner = scope.spawn(|| self.own());
            let receiver = scope.spawn(|| self.receive());
            let received = receiver.join().expect("the receiver ends");
            (received, owner.join().expect("the owner ends"))
        })
    }

    fn receive(&self) -> Duration {
        pin(0);
        let mut index = Index::new();
        let frame = || vec![0; FRAME_LEN].into_boxed_slice();
        let mut frames: VecDeque<Box<[u8]>> = (0..FRAMES).map(|_| frame()).collect();
        let mut taken = Duration::ZERO;
        for batch in 0..self.batches {
            while batch - self.taken.load(Ordering::Acquire) >= AHEAD_MAX {
                spin_loop();
            }
            let start = Instant::now();
            for _ in 0..BATCH {
                let mut frame = frames.pop_front().expect("more than are out");
                let room = &mut frame[..self.message.len()];
                room.copy_from_slice(black_box(self.message));
                read_nine(room, &mut index);
                if let Some(frame) = self.give(frame) {
                    frames.push_back(frame);
                }
            }
            if let Way::Lent(loans) = &self.way {
                frames.extend(std::iter::from_fn(|| loans.returned.pop()));
            }
            if batch >= WARM {
                taken += start.elapsed();
            }
            self.given.store(batch + 1, Ordering::Release);
        }
        taken
    }

    /// Hands a frame's message over; gives the frame back where it stays.
    fn give(&self, frame: Box<[u8]>) -> Option<Box<[u8]>> {
        let len = self.message.len();
        match &self.way {
            Way::Alone => Some(frame),
            Way::Copied(conveyor) => {
                let copy = |room: &mut [u8]| room.copy_from_slice(&frame[..len]);
                conveyor.post(0, len, copy).expect("room");
                Some(frame)
            }
            Way::Lent(loans) => {
                loans.posted.push((frame, len)).expect("room");
                None
            }
        }
    }

    fn own(&self) -> Duration {
        pin(1);
        let mut index = Index::new();
        let mut taken = Duration::ZERO;
        for batch in 0..self.batches {
            while self.given.load(Ordering::Acquire) <= batch {
                spin_loop();
            }
            let start = Instant::now();
            for _ in 0..BATCH {
                self.take(&mut index);
            }
            if batch >= WARM {
                taken += start.elapsed();
            }
            self.taken.store(batch + 1, Ordering::Release);
        }
        taken
    }

    fn take(&self, index: &mut Index) {
        match &self.way {
            Way::Alone => {}
            Way::Copied(conveyor) => {
                let parcel = conveyor.take().expect("one");
                read_nine(parcel.bytes(), index);
                conveyor.discard(parcel);
            }
            Way::Lent(loans) => {
                let (frame, len) = loans.posted.pop().expect("one");
                read_nine(&frame[..len], index);
                loans.returned.push(frame).expect("room");
            }
        }
    }
}

fn pin(core: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(core) {
        core_affinity::set_for_current(*core);
    }
}

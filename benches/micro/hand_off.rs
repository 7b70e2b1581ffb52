//! A message handed from one worker to another: copied into a pooled buffer of the mailbox, taken out, its buffer given back. By one thread
//! that does both, and by two.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::Criterion;
use strowger::net::Conveyor;

use crate::messages;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand_off");
    let conveyor = Arc::new(Conveyor::new(1_024, 16).expect("an eventfd"));
    let message = messages::INVITE.as_bytes();
    let post = |conveyor: &Conveyor<u32>| {
        let copy = |room: &mut [u8]| room.copy_from_slice(black_box(message));
        conveyor.post(0, message.len(), copy)
    };
    group.bench_function("one_thread", |bencher| {
        bencher.iter(|| {
            post(&conveyor).expect("room");
            let parcel = conveyor.take().expect("one");
            black_box(parcel.bytes().len());
            conveyor.discard(parcel);
        });
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let owner = thread::spawn({
        let (conveyor, is_over) = (Arc::clone(&conveyor), Arc::clone(&is_over));
        move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(parcel) = conveyor.take() {
                    black_box(parcel.bytes().len());
                    conveyor.discard(parcel);
                }
            }
        }
    });
    group.bench_function("two_threads", |bencher| {
        bencher.iter(|| while post(&conveyor).is_err() {});
    });
    is_over.store(true, Ordering::Relaxed);
    owner.join().expect("the owner ends");
}

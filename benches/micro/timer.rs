//! The timer wheel with 100,000 timers pending: one scheduled and cancelled, one moved, one fired.

use std::hint::black_box;

use criterion::Criterion;
use strowger::time::{Duration, Instant};
use strowger::timer::Wheel;

const PENDING: u64 = 100_000;
const START: Instant = Instant::from_micros(1_700_000_000_000_000);

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timer");
    let mut wheel = Wheel::with_capacity(1 << 17);
    for number in 0..PENDING {
        wheel.schedule(
            START,
            START + Duration::from_millis(500 + number % 32_000),
            number,
        );
    }
    group.bench_function("schedule_cancel", |bencher| {
        bencher.iter(|| {
            let timer = wheel.schedule(START, START + Duration::from_millis(black_box(500)), 0);
            wheel.cancel(timer)
        });
    });
    let moved = wheel.schedule(START, START + Duration::from_secs(30), 0);
    let mut later = 0;
    group.bench_function("reschedule", |bencher| {
        bencher.iter(|| {
            later = (later + 37) % 30_000;
            wheel.reschedule(START, moved, START + Duration::from_millis(600 + later))
        });
    });
    // Each timer that fires is scheduled anew, so that as many are always pending.
    let mut now = START;
    group.bench_function("schedule_fire", |bencher| {
        bencher.iter(|| {
            loop {
                if let Some(number) = wheel.pop_expired(now) {
                    let span = Duration::from_millis(500 + number % 32_000);
                    wheel.schedule(now, now + span, number);
                    break number;
                }
                now = wheel.next_deadline().expect("timers").max(now);
            }
        });
    });
}

//! `strowger load`: an open-loop SIP load generator.
//!
//! Attempts are made when a schedule says so, whatever has become of those before, and delays are measured from when an
//! attempt was due: a server that stalls is seen to stall (no coordinated omission). `agent` and `callee` are the two ends
//! of all phones, pure but for what they keep; `generator` is the loop around them, over the ports of [`crate::net`].

mod agent;
mod arguments;
mod callee;
mod compose;
mod credentials;
mod error;
mod generator;
mod histogram;
mod mix;
mod operation;
mod outcome;
mod pen;
mod phones;
mod plan;
mod processor;
mod random;
mod report;
mod schedule;
mod search;
mod tally;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use self::arguments::{Arguments, Backend, Common, Registration, Role, Session};
pub use self::error::LoadError;
pub use self::mix::Mix;
pub use self::report::Report;
pub use self::schedule::Arrivals;

use self::generator::{Generator, Stretch};
use self::outcome::Outcome;
use self::plan::Plan;
use self::search::{Verdict, search};
use self::tally::Kind;
use crate::limits::{LOAD_RATE_MAX, LOAD_TIME_MAX, T1_64};
use crate::time::Duration;

/// Runs a load and gives what came of it. SIGINT ends it early.
///
/// # Errors
/// See [`LoadError`].
pub fn run(arguments: &Arguments) -> Result<Report, LoadError> {
    let plan = Plan::new(arguments)?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_stopped)).map_err(LoadError::Signal)?;
    }
    let mut generator = Generator::open(&plan, is_stopped)?;
    if let Some(rate) = plan.prepare_rate {
        prepare(&plan, &mut generator, rate)?;
    }
    if plan.is_uas {
        generator.serve(plan.time);
        return Ok(Report::new(&plan, None, None, generator.callees().taken()));
    }
    let mut last: Option<Outcome> = None;
    if !plan.is_search {
        let outcome = generator.run(&stretch(&plan, plan.rate), &plan.processor);
        let taken = generator.callees().taken();
        return Ok(Report::new(&plan, Some(&outcome), None, taken));
    }
    let found = search(plan.rate, LOAD_RATE_MAX, |rate| {
        // What a trial that failed has left on its way is nobody's fault.
        generator.serve(TRIAL_PAUSE);
        let outcome = generator.run(&stretch(&plan, rate), &plan.processor);
        // What was answered in time, counted from when it was due, was offered and held.
        let verdict = if outcome.holds(plan.success_percent) {
            Verdict::Holds
        } else if !outcome.limits().is_empty() {
            Verdict::Unoffered
        } else {
            Verdict::Fails
        };
        if verdict == Verdict::Holds {
            last = Some(outcome);
        }
        (!generator.is_stopped()).then_some(verdict)
    });
    let taken = generator.callees().taken();
    Ok(Report::new(&plan, last.as_ref(), Some(&found), taken))
}

/// The load at one rate.
fn stretch(plan: &Plan, rate: f64) -> Stretch {
    let planned = rate * plan.time.as_micros() as f64 / 1e6;
    let failures_max = planned.min(plan.count_max as f64) * (1.0 - plan.success_percent / 100.0);
    Stretch {
        mix: plan.mix,
        rate,
        arrivals: plan.arrivals,
        seed: plan.seed,
        count_max: plan.count_max,
        time: plan.time,
        warm_up: plan.warm_up,
        threshold: plan.settings.threshold,
        patience: plan.patience,
        failures_max: if plan.is_search {
            failures_max as u64
        } else {
            u64::MAX
        },
    }
}

/// Registers every phone once.
fn prepare(plan: &Plan, generator: &mut Generator, rate: f64) -> Result<(), LoadError> {
    let phones = generator.phones();
    let stretch = Stretch {
        mix: Mix::only(Kind::Register),
        rate,
        arrivals: Arrivals::Constant,
        seed: plan.seed,
        count_max: phones as u64,
        time: LOAD_TIME_MAX,
        warm_up: Duration::ZERO,
        // However long it takes them: this is no measurement.
        threshold: T1_64.doubled(),
        patience: None,
        failures_max: u64::MAX,
    };
    let outcome = generator.run(&stretch, &plan.processor);
    let (_, registered) = outcome.sums();
    if registered == phones as u64 || generator.is_stopped() {
        return Ok(());
    }
    let failures = outcome.tallies().map(|tally| tally.failures()).collect();
    Err(LoadError::Unprepared {
        registered,
        phones,
        failures,
    })
}

/// How long nothing is attempted between two trials.
const TRIAL_PAUSE: Duration = Duration::from_millis(500);

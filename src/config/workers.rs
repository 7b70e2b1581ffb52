//! `[workers]`: how many threads serve, and on which processors.

use super::section::Section;
use crate::limits::WORKERS_MAX;
use crate::time::Duration;

/// The workers, as far as the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// How many; `None`: one a queue, or one a processor where no listener has queues.
    pub count: Option<usize>,
    /// The processor of each worker, in order; empty: the first ones that the process may use.
    pub cpus: Vec<usize>,
    /// Whether an idle worker asks the kernel to poll the device for it, at the price of a busy processor.
    pub busy_poll: bool,
    /// How long a worker that has nothing to do looks again before it sleeps, at the price of a processor that is busy as long.
    pub spin: Duration,
}

/// Reads `[workers]`.
pub(super) fn read(root: &mut Section<'_>) -> Workers {
    let mut section = root.section("workers");
    let count = section.number("count", 1..=WORKERS_MAX as u64);
    let cpus = section.numbers("cpus", 0..=CPU_MAX);
    let busy_poll = section.flag("busy_poll");
    let spin_us = section.number("spin_us", 0..=SPIN_US_MAX);
    if let Some(spin_us) = spin_us.as_ref().filter(|spin_us| spin_us.value > 0)
        && busy_poll.as_ref().is_some_and(|flag| flag.value)
    {
        section.warning(
            spin_us.at,
            "spin_us",
            "has no effect with busy_poll, which never sleeps; remove one of the two",
        );
    }
    if let Some(cpus) = &cpus {
        match (cpus.value.len(), &count) {
            (0, _) => section.mistake(
                cpus.at,
                "cpus",
                "is empty; name a processor a worker, or remove the key",
            ),
            (named, Some(count)) if named as u64 != count.value => {
                let text = format!(
                    "{named} processors for {} workers; name one for each, or drop one of the two keys",
                    count.value
                );
                section.mistake(cpus.at, "cpus", &text);
            }
            (named, _) if named > WORKERS_MAX => {
                section.mistake(
                    cpus.at,
                    "cpus",
                    &format!("{named} are more than {WORKERS_MAX} workers; name fewer"),
                );
            }
            _ => {}
        }
    }
    section.finish();
    let cpus: Vec<usize> = cpus.map_or(Vec::new(), |cpus| {
        cpus.value
            .iter()
            .map(|cpu| usize::try_from(cpu.value).unwrap_or(0))
            .collect()
    });
    let count = count.map(|count| usize::try_from(count.value).unwrap_or(WORKERS_MAX));
    Workers {
        count: count.or((!cpus.is_empty()).then_some(cpus.len())),
        cpus,
        busy_poll: busy_poll.is_some_and(|flag| flag.value),
        spin: Duration::from_micros(spin_us.map_or(0, |spin_us| spin_us.value)),
    }
}

/// The longest that a worker may spin: half the time between two of its housekeepings.
const SPIN_US_MAX: u64 = 10_000;

/// The highest processor number that Linux counts to on any machine (`CONFIG_NR_CPUS` at most 8,192).
const CPU_MAX: u64 = 8_191;

#[cfg(test)]
mod tests {
    use super::super::Config;

    const LISTEN: &str = "[[listen]]\naddress = \"192.0.2.1:5060\"\n";

    #[test]
    fn the_processors_give_the_count() {
        let config = Config::parse("t".as_ref(), &format!("{LISTEN}[workers]\ncpus = [2, 4]\n"))
            .expect("good");
        assert_eq!(
            (config.workers.count, config.workers.cpus.as_slice()),
            (Some(2), [2, 4].as_slice())
        );
    }

    #[test]
    fn to_spin_and_never_to_sleep_are_one_too_many() {
        let parse = |keys: &str| {
            let text = format!("{LISTEN}[workers]\n{keys}");
            Config::parse("t".as_ref(), &text)
        };
        let config = parse("spin_us = 200\n").expect("good");
        assert_eq!(config.workers.spin.as_micros(), 200);
        let warned = |config: &Config| {
            let mut warnings = config.warnings.iter();
            warnings.any(|warning| {
                warning
                    .text
                    .contains("spin_us: has no effect with busy_poll")
            })
        };
        assert!(!warned(&config));
        assert!(warned(
            &parse("busy_poll = true\nspin_us = 200\n").expect("good")
        ));
        assert!(!warned(
            &parse("busy_poll = true\nspin_us = 0\n").expect("good")
        ));
        let mistake = parse("spin_us = 10001\n").expect_err("more than housekeeping allows");
        assert!(
            mistake
                .to_string()
                .contains("out of range; give 0 to 10000"),
            "{mistake}"
        );
    }

    #[test]
    fn count_and_processors_agree() {
        let mistakes = Config::parse(
            "t".as_ref(),
            &format!("{LISTEN}[workers]\ncount = 3\ncpus = [2, 4]\n"),
        );
        assert!(
            mistakes
                .expect_err("they differ")
                .to_string()
                .contains("2 processors for 3 workers")
        );
        let mistakes = Config::parse("t".as_ref(), &format!("{LISTEN}[workers]\ncount = 0\n"));
        assert!(
            mistakes
                .expect_err("none")
                .to_string()
                .contains("out of range; give 1 to 64")
        );
    }
}

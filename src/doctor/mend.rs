//! A step that mends something: as the line that a person types, and as the step of a script that knows how to take it back.

use std::fmt::Write;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// A setting of the kernel: key and value.
    Setting(String, String),
    /// A file of `/sys` or `/proc` that is written a value.
    File(String, String),
    /// A command, and the one that takes it back.
    Command(String, String),
    /// Words for the kernel's command line, which count from the next start on.
    Boot(String),
}

impl Mend {
    /// The line that a person types.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Setting(key, value) => {
                format!("sysctl -w {}", quoted(&format!("{key}={value}")))
            }
            Self::File(path, value) => format!("echo {} > {}", quoted(value), quoted(path)),
            Self::Command(run, _) => run.clone(),
            Self::Boot(words) => {
                format!("add to the kernel's command line and start the host anew: {words}")
            }
        }
    }

    /// The step as the script calls its functions.
    fn step(&self) -> String {
        match self {
            Self::Setting(key, value) => format!("setting {} {}", quoted(key), quoted(value)),
            Self::File(path, value) => format!("file {} {}", quoted(path), quoted(value)),
            Self::Command(run, undo) => format!("run {} {}", quoted(run), quoted(undo)),
            Self::Boot(words) => format!("boot {}", quoted(words)),
        }
    }
}

/// What is mended for what reason: a heading, what it costs, its cure in words, and the steps.
pub(super) struct Chapter<'a> {
    /// What is wrong.
    pub(super) heading: String,
    /// What it costs.
    pub(super) cost: Option<&'static str>,
    /// What a person has to do, where no step does.
    pub(super) cure: &'a str,
    /// The steps; none where only a person can do it.
    pub(super) steps: &'a [Mend],
}

/// The script that takes all the steps, and takes them back.
pub(super) fn script<'a>(chapters: impl Iterator<Item = Chapter<'a>>) -> String {
    let mut text = HEAD.to_owned();
    let mut done: Vec<&Mend> = Vec::new();
    let mut is_empty = true;
    for chapter in chapters {
        is_empty = false;
        let _ = writeln!(text, "\n# {}", comment(&chapter.heading));
        if let Some(cost) = chapter.cost {
            let _ = writeln!(text, "# costs: {}", comment(cost));
        }
        if chapter.steps.is_empty() {
            let _ = writeln!(text, "# for a person to do: {}", comment(chapter.cure));
            let advice = format!("{}: {}", chapter.heading, chapter.cure);
            let _ = writeln!(text, "by_hand {}", quoted(&comment(&advice)));
        }
        for mend in chapter.steps {
            // One setting may be the cure of two things.
            if !done.contains(&mend) {
                done.push(mend);
                let _ = writeln!(text, "{}", mend.step());
            }
        }
    }
    if is_empty {
        text += "\n# Nothing was found that is to be mended.\n";
    }
    text + FOOT
}

/// A word for the shell: as it is where it has nothing that the shell would take for more.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// One line, whatever was found.
fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

const HEAD: &str = include_str!("fix_head.sh");
const FOOT: &str = "\nfinish\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_would_read_is_quoted() {
        assert_eq!(quoted("net.core.rmem_max=1"), "net.core.rmem_max=1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("$(reboot)'"), r"'$(reboot)'\'''");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_step_stands_once_and_advice_is_told() {
        let steps = [Mend::Setting("vm.swappiness".to_owned(), "1".to_owned())];
        let chapter = |steps| Chapter {
            heading: "memory\nreboot".to_owned(),
            cost: Some("time"),
            cure: "buy more",
            steps,
        };
        let text = script([chapter(&steps[..]), chapter(&steps[..]), chapter(&[])].into_iter());
        assert_eq!(text.matches("\nsetting vm.swappiness 1\n").count(), 1);
        assert!(text.contains("\nby_hand 'memory reboot: buy more'\n"));
        assert!(!text.contains("\nreboot"), "a line break ends no comment");
    }
}

//! Where `/proc` and `/sys` are read: those of this host, or a copy of another's.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder that holds `proc`, `sys` and `etc`.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    is_this_host: bool,
}

impl Root {
    /// This host's own.
    #[must_use]
    pub fn host() -> Self {
        Self {
            path: PathBuf::from("/"),
            is_this_host: true,
        }
    }

    /// A copy of a host's files under `path`: the kernel cannot be asked anything about it.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            is_this_host: false,
        }
    }

    /// Whether the running kernel is the one whose files these are.
    pub(super) fn is_this_host(&self) -> bool {
        self.is_this_host
    }

    /// Where the folder is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a file, trimmed; `None` where it is absent or cannot be read.
    pub(super) fn read(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.place(file)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds one number.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.parse().ok()
    }

    /// A file that holds a list of processors, as `0-3,8`.
    pub(super) fn list(&self, file: &str) -> Option<Vec<usize>> {
        self.read(file).map(|text| numbers(&text))
    }

    /// The names in a folder, sorted; none where there is no such folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.place(folder)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Whether a file or a folder is there.
    pub(super) fn has(&self, file: &str) -> bool {
        self.place(file).exists()
    }

    /// The last part of what a symbolic link points to.
    pub(super) fn target(&self, link: &str) -> Option<String> {
        let target = fs::read_link(self.place(link)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    fn place(&self, file: &str) -> PathBuf {
        self.path.join(file.trim_start_matches('/'))
    }
}

/// The numbers of a list as the kernel writes it: `0-3,8`. What is no list has none; a range ends after 8,192.
pub(super) fn numbers(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>())
        {
            numbers.extend(first..=last.min(first.saturating_add(CPUS_MAX)));
        }
    }
    numbers
}

/// A list as the kernel reads it: `0-3,8`.
pub(super) fn as_list(numbers: &[usize]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let text = parts.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    text.collect::<Vec<_>>().join(",")
}

/// The highest number of processors that Linux is built for.
const CPUS_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_written_as_the_kernel_does() {
        assert_eq!(numbers("0-2,5\n"), [0, 1, 2, 5]);
        assert!(numbers("").is_empty() && numbers("(null)").is_empty());
        assert_eq!(as_list(&[5, 0, 1, 2, 2]), "0-2,5");
        assert_eq!(as_list(&[]), "");
        assert!(numbers("0-99999999999").len() <= CPUS_MAX + 1);
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        let root = Root::at(Path::new("/nonexistent"));
        assert_eq!(root.read("proc/cmdline"), None);
        assert!(root.names("/sys").is_empty() && !root.has("/sys"));
    }
}

//! Secrets that we share with somebody else, as with the service that gives out time-limited credentials: read from a file, one a line.
//!
//! The first is the one in use, the others are still good while it takes the place of the one before. A line that begins with `#`
//! is a comment. They are never printed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::limits::EPHEMERAL_SECRETS_MAX;

/// The secrets of one file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SharedSecrets {
    secrets: Vec<Vec<u8>>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum SharedSecretError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file is open to others.
    #[error("{}: is open to others (mode {mode:04o}), and whoever reads it can pass for those who share it; chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds none, or too many.
    #[error("{}: {what}; write one secret a line, 1 to {EPHEMERAL_SECRETS_MAX} of them, the newest first", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl SharedSecrets {
    /// Reads the secrets of a file that its owner alone can read.
    ///
    /// # Errors
    /// See [`SharedSecretError`].
    pub fn load(path: &Path) -> Result<Self, SharedSecretError> {
        let unreadable = |error| SharedSecretError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("it is no regular file")));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SharedSecretError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Vec::new();
        file.take(FILE_LEN_MAX)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        let secrets: Vec<Vec<u8>> = text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
            .map(<[u8]>::to_vec)
            .collect();
        let what = match secrets.len() {
            0 => "holds no secret",
            1..=EPHEMERAL_SECRETS_MAX => return Ok(Self { secrets }),
            _ => "holds too many secrets",
        };
        Err(SharedSecretError::Malformed {
            path: path.to_owned(),
            what,
        })
    }

    /// The secrets, the one in use first.
    #[must_use]
    pub fn as_slice(&self) -> &[Vec<u8>] {
        &self.secrets
    }
}

impl fmt::Debug for SharedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSecrets")
            .field("count", &self.secrets.len())
            .finish()
    }
}

const FILE_LEN_MAX: u64 = 64 * 1_024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load(name: &str, text: &str, mode: u32) -> Result<SharedSecrets, String> {
        let folder =
            std::env::temp_dir().join(format!("strowger-shared-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("made");
        let path = folder.join("a.secrets");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        let loaded = SharedSecrets::load(&path).map_err(|error| error.to_string());
        fs::remove_dir_all(&folder).expect("removed");
        loaded
    }

    #[test]
    fn a_line_is_a_secret_and_they_are_not_printed() {
        let secrets = load("good", "# new\nnorth#1\r\n\n south \n", 0o600).expect("two secrets");
        assert_eq!(secrets.as_slice(), [b"north#1".to_vec(), b"south".to_vec()]);
        assert_eq!(format!("{secrets:?}"), "SharedSecrets { count: 2 }");
    }

    #[test]
    fn what_cannot_serve_is_refused_with_its_cure() {
        let many = "x\n".repeat(EPHEMERAL_SECRETS_MAX + 1);
        for (name, text, mode, said) in [
            ("open", "north", 0o640, "chmod 600"),
            ("none", "# nothing\n", 0o600, "holds no secret"),
            ("many", many.as_str(), 0o600, "too many"),
        ] {
            let error = load(name, text, mode).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
        let error = SharedSecrets::load("/nonexistent".as_ref()).expect_err("no file");
        assert!(error.to_string().contains("cannot be read"));
    }
}

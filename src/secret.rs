//! The server's keys: kept in a file, so that what they signed outlives a restart, and shared by a cluster.
//!
//! The file holds one key a line, 64 hex digits: first the current one, then, while a key is being replaced, the
//! previous. `#` begins a comment. Every use has a subkey of its own, derived by label, so that no two uses can be
//! played against each other. The keys themselves are never printed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The keys of this server.
#[derive(Clone)]
pub struct Secret {
    current: [u8; KEY_LEN],
    previous: Option<[u8; KEY_LEN]>,
}

/// The keys of one use: signed with the current one, accepted by either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subkeys {
    /// What signs.
    pub current: [u8; SUBKEY_LEN],
    /// What is still accepted while keys are being replaced.
    pub previous: Option<[u8; SUBKEY_LEN]>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is there and cannot be read.
    #[error("{}: cannot be read: {error}; it must belong to the user that runs strowger", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file is not there and cannot be made.
    #[error("{}: cannot be made: {error}; make its folder writable for the user that runs strowger, or set [sip] secret_file", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file is open to others.
    #[error("{}: is open to others (mode {mode:04o}), and whoever reads it can forge calls; chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold keys.
    #[error("{}:{line}: {what}; write one key a line (64 hex digits), the current one and at most one previous", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The kernel gave no random numbers.
    #[error("no random numbers for a key: {0}")]
    NoRandomness(getrandom::Error),
}

impl Secret {
    /// Reads the keys from `path`; where there is no file, makes one with a new key, readable by its owner alone.
    ///
    /// Of several processes that start at once, one makes the file and all read it.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        if let Some(secret) = Self::load(path)? {
            return Ok(secret);
        }
        let mut key = [0; KEY_LEN];
        getrandom::fill(&mut key).map_err(SecretError::NoRandomness)?;
        let unwritable = |error| SecretError::Unwritable {
            path: path.to_owned(),
            error,
        };
        create(path, &key).map_err(unwritable)?;
        Self::load(path)?.ok_or_else(|| unwritable(io::ErrorKind::NotFound.into()))
    }

    /// Checks what [`load_or_create`](Self::load_or_create) would do, and leaves nothing behind.
    ///
    /// Gives whether the file is there already.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn check(path: &Path) -> Result<bool, SecretError> {
        if Self::load(path)?.is_some() {
            return Ok(true);
        }
        let draft = draft_path(path);
        let tried = create_new(&draft).and_then(|_| fs::remove_file(&draft));
        tried
            .map(|()| false)
            .map_err(|error| SecretError::Unwritable {
                path: path.to_owned(),
                error,
            })
    }

    /// Makes a secret of given keys: for tests and simulations.
    #[must_use]
    pub const fn from_keys(current: [u8; KEY_LEN], previous: Option<[u8; KEY_LEN]>) -> Self {
        Self { current, previous }
    }

    /// Derives the keys of the use that `label` names: HMAC-SHA256 of it, truncated (RFC 2104 5).
    #[must_use]
    pub fn derive(&self, label: &str) -> Subkeys {
        Subkeys {
            current: subkey(&self.current, label),
            previous: self.previous.map(|key| subkey(&key, label)),
        }
    }

    fn load(path: &Path) -> Result<Option<Self>, SecretError> {
        let unreadable = |error| SecretError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("it is no regular file")));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(FILE_LEN_MAX)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        Self::parse(path, &text).map(Some)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, SecretError> {
        let malformed = |line: usize, what| SecretError::Malformed {
            path: path.to_owned(),
            line,
            what,
        };
        let mut keys: Vec<[u8; KEY_LEN]> = Vec::with_capacity(2);
        for (index, line) in text.lines().enumerate() {
            let digits = line.split('#').next().unwrap_or_default().trim();
            if digits.is_empty() {
                continue;
            }
            let mut key = [0; KEY_LEN];
            let is_key = digits.len() == 2 * KEY_LEN
                && HEXLOWER_PERMISSIVE
                    .decode_mut(digits.as_bytes(), &mut key)
                    .is_ok();
            if !is_key {
                return Err(malformed(index + 1, "is not a key"));
            }
            if keys.len() == 2 {
                return Err(malformed(index + 1, "is a third key"));
            }
            keys.push(key);
        }
        let Some(current) = keys.first().copied() else {
            return Err(malformed(1, "holds no key"));
        };
        Ok(Self {
            current,
            previous: keys.get(1).copied(),
        })
    }
}

impl Subkeys {
    /// Both keys, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = [u8; SUBKEY_LEN]> {
        std::iter::once(self.current).chain(self.previous)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("has_previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subkeys")
            .field("has_previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

/// Writes the whole file under another name, and links it to its own: it is never seen half written, and one that
/// another process made meanwhile stays.
fn create(path: &Path, key: &[u8; KEY_LEN]) -> io::Result<()> {
    let draft = draft_path(path);
    let written = create_new(&draft).and_then(|mut file| {
        writeln!(file, "# Strowger's key. Whoever reads it can forge calls. To replace it, put a new line above;")?;
        writeln!(file, "# to share it, copy this file to the other nodes.")?;
        let mut line = [b'\n'; 2 * KEY_LEN + 1];
        HEXLOWER.encode_mut(key, &mut line[..2 * KEY_LEN]);
        file.write_all(&line)?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let removed = match &written {
        // A draft that stood there before is somebody else's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        _ if !draft.exists() => Ok(()),
        _ => fs::remove_file(&draft),
    };
    written.and(removed)?;
    // The name itself must outlive a power cut: what it signs does.
    File::open(folder(path))?.sync_all()
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A name beside `path` that no other process uses at the same time.
fn draft_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder(path).join(format!(".{name}.{}.new", std::process::id()))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn subkey(key: &[u8; KEY_LEN], label: &str) -> [u8; SUBKEY_LEN] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(label.as_bytes());
    let mut subkey = [0; SUBKEY_LEN];
    for (to, from) in subkey.iter_mut().zip(mac.finalize().into_bytes()) {
        *to = from;
    }
    subkey
}

/// The length of a key in bytes.
pub const KEY_LEN: usize = 32;
/// The length of a derived key in bytes: what SipHash takes.
pub const SUBKEY_LEN: usize = 16;
/// Two keys and a good many comments.
const FILE_LEN_MAX: u64 = 64 * 1_024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir()
                .join(format!("strowger-secret-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).expect("made");
            Self(path)
        }

        fn file(&self, text: &str, mode: u32) -> PathBuf {
            let path = self.0.join("a.key");
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    const ONE: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const TWO: &str = "0202020202020202020202020202020202020202020202020202020202020202";

    #[test]
    fn the_first_start_makes_a_key_and_the_next_reads_it() {
        let folder = Folder::new();
        let path = folder.0.join("a.key");
        let made = Secret::load_or_create(&path).expect("made");
        assert_eq!(
            fs::metadata(&path).expect("there").permissions().mode() & 0o7777,
            0o600
        );
        let read = Secret::load_or_create(&path).expect("read");
        assert!(made.derive("branch") == read.derive("branch"));
        assert_eq!(
            fs::read_dir(&folder.0).expect("listed").count(),
            1,
            "the draft is gone"
        );
    }

    #[test]
    fn two_keys_give_two_subkeys_and_labels_differ() {
        let folder = Folder::new();
        let path = folder.file(
            &format!("# rotating\n{TWO}\n{}\n", ONE.to_uppercase()),
            0o600,
        );
        let both = Secret::load_or_create(&path)
            .expect("read")
            .derive("branch");
        assert!(both == Secret::from_keys([2; KEY_LEN], Some([1; KEY_LEN])).derive("branch"));
        let one = Secret::from_keys([1; KEY_LEN], None).derive("branch");
        assert_eq!(both.previous, Some(one.current));
        assert_eq!(both.iter().count(), 2);
        assert_ne!(
            one.current,
            Secret::from_keys([1; KEY_LEN], None)
                .derive("route")
                .current
        );
    }

    #[test]
    fn a_subkey_is_hmac_sha256_truncated() {
        // `printf branch | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101..01`
        let subkey = Secret::from_keys([1; KEY_LEN], None)
            .derive("branch")
            .current;
        assert_eq!(
            u128::from_be_bytes(subkey),
            0x0b6c_ce90_d75e_067d_2b88_e3a5_1bf7_220f
        );
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_the_cure() {
        let folder = Folder::new();
        for mode in [0o640, 0o604, 0o660] {
            let error = Secret::load_or_create(&folder.file(ONE, mode))
                .expect_err("open")
                .to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_not_keys_is_refused_with_its_line() {
        let folder = Folder::new();
        for (text, line) in [
            ("", 1),
            ("# none\n", 1),
            ("\nabcd\n", 2),
            (&*format!("{ONE}\n{TWO}\n{ONE}\n"), 3),
        ] {
            let error = Secret::load_or_create(&folder.file(text, 0o600))
                .expect_err("malformed")
                .to_string();
            assert!(error.contains(&format!("a.key:{line}: ")), "{error}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_clear_error() {
        let error = Secret::load_or_create("/nonexistent/a.key".as_ref())
            .expect_err("no folder")
            .to_string();
        assert!(
            error.contains("cannot be made") && error.contains("secret_file"),
            "{error}"
        );
        assert!(Secret::check("/nonexistent/a.key".as_ref()).is_err());
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let folder = Folder::new();
        assert!(!Secret::check(&folder.0.join("a.key")).expect("could be made"));
        assert_eq!(fs::read_dir(&folder.0).expect("listed").count(), 0);
        assert!(Secret::check(&folder.file(ONE, 0o600)).expect("there"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::from_keys([0xab; KEY_LEN], None);
        let text = format!("{secret:?} {:?}", secret.derive("branch"));
        assert!(
            !text.contains("171") && !text.contains("ab, ") && !text.contains("abab"),
            "{text}"
        );
    }
}

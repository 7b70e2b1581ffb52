//! The bearer token that opens the admin server where it is not on loopback (RFC 6750 2.1).

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The token's digest: two digests are compared, so the time taken tells nothing about the token.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}; make one: (umask 077; openssl rand -hex 32 > {})", path.display(), path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// Everyone on the host can read the file.
    #[error("{}: everyone can read it (mode {mode:04o}); chmod o-rwx {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a token.
    #[error("{}: holds no token of {TOKEN_LEN_MIN} or more visible ASCII characters on one line", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// Loads the token from `path`: one line.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        Self::read(path).map(|token| Self::new(&token))
    }

    /// Reads the text of the token, for who has to show it.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(path: &Path) -> Result<String, TokenError> {
        let unreadable = |error| TokenError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(TokenError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(4_096)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        let token = text.trim_end();
        if token.len() < TOKEN_LEN_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Malformed {
                path: path.to_owned(),
            });
        }
        Ok(token.to_owned())
    }

    fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether an Authorization header carries this token.
    pub(super) fn admits(&self, authorization: &[u8]) -> bool {
        let Some((scheme, token)) = authorization.split_at_checked(7) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return false;
        }
        let offered: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        let difference = self
            .0
            .iter()
            .zip(offered)
            .fold(0, |difference, (mine, theirs)| difference | (mine ^ theirs));
        difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A shorter token can be guessed.
const TOKEN_LEN_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_token_itself_is_admitted() {
        let token = Token::new("0123456789abcdef");
        assert!(token.admits(b"Bearer 0123456789abcdef"));
        assert!(token.admits(b"bearer 0123456789abcdef"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeF",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!token.admits(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_everyone_reads_or_that_holds_little_is_refused() {
        let path = std::env::temp_dir().join(format!("strowger-token-{}", std::process::id()));
        assert!(
            Token::load(&path)
                .expect_err("not there")
                .to_string()
                .contains("openssl rand")
        );
        std::fs::write(&path, "0123456789abcdef\n").expect("written");
        for (mode, is_good) in [(0o600, true), (0o640, true), (0o644, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(Token::load(&path).is_ok(), is_good, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        std::fs::write(&path, "short\n").expect("written");
        assert!(matches!(
            Token::load(&path),
            Err(TokenError::Malformed { .. })
        ));
        std::fs::remove_file(&path).expect("removed");
    }
}

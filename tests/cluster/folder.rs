//! Where the nodes of one test keep their files.

use std::path::PathBuf;

use super::turn::{Alone, Beside, alone, beside};

/// A folder, and the turn of its test; dropped, both are gone.
pub(crate) struct Folder<Turn = Beside> {
    pub(crate) path: PathBuf,
    _turn: Turn,
}

impl Folder {
    /// For the test whose addresses have this third octet, which is no other's.
    pub(crate) fn new(third: u8) -> Self {
        Self::of(third, beside())
    }
}

impl Folder<Alone> {
    /// For a test that has the machine for itself.
    pub(crate) fn alone(third: u8) -> Self {
        Self::of(third, alone())
    }
}

impl<Turn> Folder<Turn> {
    /// The name is one that `tests/run.sh` knows for ours.
    fn of(third: u8, turn: Turn) -> Self {
        let path = std::env::temp_dir().join(format!("stg{}-{third}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder of this test alone");
        Self { path, _turn: turn }
    }
}

impl<Turn> Drop for Folder<Turn> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

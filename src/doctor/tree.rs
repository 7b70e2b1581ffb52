//! A made-up `/proc` and `/sys`, for tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::root::Root;

/// A folder with files as a host has them; dropped, it is removed.
pub(super) struct Tree(PathBuf);

impl Tree {
    /// An empty one.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("strowger-doctor-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder of our own");
        Self(path)
    }

    /// Puts a file into it.
    pub(super) fn with(self, file: &str, text: &str) -> Self {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder"))
            .expect("our own folder");
        std::fs::write(path, text).expect("our own folder");
        self
    }

    /// It, as a host's files.
    pub(super) fn root(&self) -> Root {
        Root::at(&self.0)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

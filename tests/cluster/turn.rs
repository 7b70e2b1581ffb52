//! Whose turn it is: a flood has the machine for itself, all other tests go on side by side.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::new(());

/// A turn with all others; a test takes one.
pub(crate) type Beside = RwLockReadGuard<'static, ()>;

/// A turn of one's own.
pub(crate) type Alone = RwLockWriteGuard<'static, ()>;

pub(crate) fn beside() -> Beside {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn alone() -> Alone {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

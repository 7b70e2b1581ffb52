//! A bounded memory of what was found: two generations, so that forgetting costs nothing.
//!
//! What is looked at moves into the younger generation; when that is full, the older one is forgotten whole and the younger
//! takes its place. So what is in use stays, and at most `len_max` entries are held.

use std::collections::HashMap;
use std::hash::Hash;

/// The memory.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Eq + Hash + Clone, V> Cache<K, V> {
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: (len_max / 2).max(1),
        }
    }

    /// What is known of `key`.
    pub(super) fn find(&mut self, key: &K) -> Option<&mut V> {
        if let Some(value) = self.old.remove(key) {
            self.keep(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    /// Remembers.
    pub(super) fn keep(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// How much is remembered.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_the_rest_is_bounded() {
        let mut cache = Cache::new(100);
        cache.keep(0_u32, "kept");
        for key in 1..10_000 {
            cache.keep(key, "new");
            assert_eq!(cache.find(&0), Some(&mut "kept"), "{key}");
            assert!(cache.len() <= 100);
        }
        assert_eq!(cache.find(&1), None);
        assert!(cache.find(&9_999).is_some());
    }

    #[test]
    fn a_key_is_held_once() {
        let mut cache = Cache::new(4);
        for key in [1, 2, 3, 1, 2, 1] {
            cache.keep(key, key);
        }
        assert_eq!(cache.len(), 3);
        cache.keep(1, 7);
        assert_eq!(cache.find(&1), Some(&mut 7));
    }
}

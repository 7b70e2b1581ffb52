//! Lots: random numbers that a seed gives again (SplitMix64). For spreading load, never for secrets.

/// A source of lots.
#[derive(Clone, Debug)]
pub(super) struct Lots(u64);

impl Lots {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `max`, both included.
    pub(super) fn up_to(&mut self, max: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper bits of a product instead of a remainder: no number is favoured by more than 2^-32.
        let drawn = (u128::from(mixed) * (u128::from(max) + 1)) >> 64;
        u32::try_from(drawn).unwrap_or(max)
    }

    /// Puts a list into a random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let drawn = self.up_to(u32::try_from(last).unwrap_or(u32::MAX));
            list.swap(last, drawn as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_lots_and_all_of_the_range() {
        let draw = |seed| {
            let mut lots = Lots::new(seed);
            (0..1_000).map(|_| lots.up_to(2)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for number in 0..=2 {
            let count = draw(1).iter().filter(|drawn| **drawn == number).count();
            assert!((250..420).contains(&count), "{number}: {count}");
        }
        assert_eq!(Lots::new(3).up_to(0), 0);
    }

    #[test]
    fn a_shuffled_list_is_the_same_list() {
        let mut list: Vec<u32> = (0..50).collect();
        Lots::new(4).shuffle(&mut list);
        assert_ne!(list, (0..50).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..50).collect::<Vec<_>>());
    }
}

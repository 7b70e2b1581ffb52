//! Which kinds a load has, and in what shares.

use std::str::FromStr;

use super::random::Random;
use super::tally::Kind;

/// The shares of the kinds, whose sum is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix([u32; Kind::ALL.len()]);

impl Mix {
    /// One kind alone.
    pub(super) const fn only(kind: Kind) -> Self {
        let mut shares = [0; Kind::ALL.len()];
        shares[kind as usize] = 1;
        Self(shares)
    }

    /// Draws a kind.
    pub(super) fn draw(&self, random: &mut Random) -> Kind {
        let sum: u64 = self.0.iter().map(|share| u64::from(*share)).sum();
        let mut lot = random.below(sum.max(1));
        for kind in Kind::ALL {
            let share = u64::from(self.0[kind as usize]);
            if lot < share {
                return kind;
            }
            lot -= share;
        }
        Kind::Options
    }

    /// Messages that the load sends for an attempt, in the mean.
    pub(super) fn weight(&self) -> f64 {
        let sum: u32 = self.0.iter().sum();
        let sessions = self.0[Kind::Invite as usize];
        // INVITE, ACK and BYE; 180, 200 and the 200 of the BYE.
        f64::from(sum + 5 * sessions) / f64::from(sum.max(1))
    }

    /// Whether it has a kind.
    pub(super) const fn has(&self, kind: Kind) -> bool {
        self.0[kind as usize] > 0
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [0; Kind::ALL.len()];
        for part in text.split(',') {
            let read = part.split_once('=').and_then(|(name, share)| {
                let kind = Kind::ALL
                    .into_iter()
                    .find(|kind| kind.method().eq_ignore_ascii_case(name.trim()))?;
                Some((kind, share.trim().parse::<u32>().ok()?))
            });
            let Some((kind, share)) = read else {
                return Err(format!(
                    "\"{part}\" is no share; write register=80,options=15,invite=5"
                ));
            };
            shares[kind as usize] = share;
        }
        if shares.iter().all(|share| *share == 0) {
            return Err("nothing has a share above 0".to_owned());
        }
        Ok(Self(shares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_by_their_shares() {
        let mix: Mix = "register=7, options=2,invite=1".parse().expect("shares");
        let mut random = Random::new(3);
        let mut counts = [0_u32; 3];
        for _ in 0..100_000 {
            counts[mix.draw(&mut random) as usize] += 1;
        }
        assert!((69_000..71_000).contains(&counts[0]), "{counts:?}");
        assert!((19_000..21_000).contains(&counts[1]), "{counts:?}");
        let mut random = Random::new(3);
        assert!((0..100).all(|_| Mix::only(Kind::Invite).draw(&mut random) == Kind::Invite));
    }

    #[test]
    fn what_is_no_share_is_named() {
        for text in ["", "register", "register=x", "bye=1", "register=0"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}

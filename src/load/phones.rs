//! The phones that the load plays: who they are, where each sends from, and what it remembers between two requests.

use super::credentials::Credentials;

/// All phones of a load.
#[derive(Debug)]
pub(super) struct Phones {
    phones: Vec<Phone>,
    /// Where the search for the next idle one begins.
    next: usize,
}

/// One phone.
#[derive(Debug)]
pub(super) struct Phone {
    /// Its user name.
    pub(super) user: Box<[u8]>,
    /// Its password, where it has one.
    pub(super) password: Option<Box<[u8]>>,
    /// By its place: which source it sends from.
    pub(super) source: u8,
    /// The CSeq of its last REGISTER.
    pub(super) cseq: u32,
    /// RFC 3261 10.2: no new registration while one is unanswered. So for a call's caller.
    pub(super) is_busy: bool,
    /// The last challenge it was given for REGISTER, and for other requests.
    pub(super) credentials: [Option<Box<Credentials>>; 2],
}

impl Phones {
    /// Spreads the accounts, each a user name and perhaps a password, over `sources` sources.
    pub(super) fn new(
        accounts: impl IntoIterator<Item = (String, Option<String>)>,
        sources: usize,
    ) -> Self {
        let phone = |(place, (user, password)): (usize, (String, Option<String>))| Phone {
            user: user.into_bytes().into(),
            password: password.map(|password| password.into_bytes().into()),
            source: u8::try_from(place % sources.max(1)).unwrap_or(0),
            cseq: 0,
            is_busy: false,
            credentials: [None, None],
        };
        Self {
            phones: accounts.into_iter().enumerate().map(phone).collect(),
            next: 0,
        }
    }

    /// How many.
    pub(super) const fn len(&self) -> usize {
        self.phones.len()
    }

    /// The phone at a place.
    pub(super) fn at(&self, place: u32) -> Option<&Phone> {
        self.phones.get(place as usize)
    }

    /// So, to change it.
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Phone> {
        self.phones.get_mut(place as usize)
    }

    /// The next idle phone in turn, made busy; none where so many in a row are busy that it is not worth while to look on.
    pub(super) fn take(&mut self) -> Option<u32> {
        for _ in 0..self.phones.len().min(LOOK_MAX) {
            let place = self.next;
            self.next = (self.next + 1) % self.phones.len();
            if let Some(phone) = self.phones.get_mut(place).filter(|phone| !phone.is_busy) {
                phone.is_busy = true;
                return u32::try_from(place).ok();
            }
        }
        None
    }

    /// Makes a phone idle again.
    pub(super) fn release(&mut self, place: u32) {
        if let Some(phone) = self.at_mut(place) {
            phone.is_busy = false;
        }
    }

    /// The phone that `caller` calls: half the way round, so that no phone calls itself.
    pub(super) fn callee_of(&self, caller: u32) -> u32 {
        let len = self.phones.len().max(1);
        u32::try_from((caller as usize + len.div_ceil(2)) % len).unwrap_or(0)
    }

    /// Begins anew with the first.
    pub(super) const fn rewind(&mut self) {
        self.next = 0;
    }
}

/// Busy phones passed over for one attempt.
const LOOK_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn phones(count: usize) -> Phones {
        Phones::new((0..count).map(|n| (format!("user{n}"), None)), 3)
    }

    #[test]
    fn phones_take_turns_and_the_busy_are_passed_over() {
        let mut phones = phones(4);
        let taken: Vec<_> = (0..5).map(|_| phones.take()).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), Some(3), None]);
        phones.release(2);
        assert_eq!(phones.take(), Some(2));
        assert_eq!(phones.at(2).map(|phone| phone.source), Some(2));
        assert_eq!(phones.at(3).map(|phone| phone.source), Some(0));
    }

    #[test]
    fn nobody_calls_himself_where_there_is_another() {
        for count in 2..9 {
            let phones = phones(count);
            for caller in 0..count as u32 {
                assert_ne!(phones.callee_of(caller), caller);
            }
        }
        assert_eq!(phones(1).callee_of(0), 0);
    }
}

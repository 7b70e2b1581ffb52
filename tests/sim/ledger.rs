//! What is known of each call from outside: who began it, what the network did to it, and so what may be asked of it.

/// A Call-ID's account.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What began it.
    pub(crate) method: &'static str,
    /// Messages that the network lost, whoever lost them.
    pub(crate) lost: u32,
    /// Of those, final responses to INVITE.
    pub(crate) lost_finals: u32,
    /// Whether some agent chose not to answer a request of it.
    pub(crate) is_silent: bool,
    /// Whether a message of it was changed on its way: then anything may have become of it.
    pub(crate) is_tainted: bool,
    /// Whether a node refused an INVITE of it without a transaction: a later copy may find the user there after all.
    pub(crate) is_refused: bool,
    /// Whether a node was killed or an agent was unreachable while it lasted.
    pub(crate) is_disturbed: bool,
}

/// All calls, by the number in their Call-ID.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Whether a REGISTER was changed on its way: then a contact may be any.
    pub(crate) has_tainted_bindings: bool,
    records: Vec<Record>,
}

impl Ledger {
    /// Opens a record; gives its number, which the Call-ID begins with.
    pub(crate) fn open(&mut self, method: &'static str) -> usize {
        self.records.push(Record {
            method,
            lost: 0,
            lost_finals: 0,
            is_silent: false,
            is_tainted: false,
            is_refused: false,
            is_disturbed: false,
        });
        self.records.len() - 1
    }

    /// A record.
    pub(crate) fn record(&self, call: usize) -> &Record {
        &self.records[call]
    }

    /// A record, to be changed.
    pub(crate) fn record_mut(&mut self, call: usize) -> &mut Record {
        &mut self.records[call]
    }

    /// The call that a message belongs to, by its Call-ID: `None` where that is corrupt.
    pub(crate) fn call_of(&self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes.get(super::message::find(bytes, PREFIX)? + PREFIX.len()..)?;
        let call = number(&mut rest)?;
        let sum = rest.split_first().filter(|(x, _)| **x == b'x');
        rest = sum?.1;
        let is_whole = number(&mut rest)? == check(call) && rest.first() == Some(&b'.');
        (is_whole && call < self.records.len()).then_some(call)
    }

    /// Something happened that no call in being is to be blamed for.
    pub(crate) fn disturb_all(&mut self) {
        for record in &mut self.records {
            record.is_disturbed = true;
        }
    }
}

/// What a Call-ID begins with: its record's number, and a sum by which a corrupt number is told.
pub(crate) fn call_name(call: usize) -> String {
    format!("sim-call-{call}x{}", check(call))
}

const PREFIX: &[u8] = b"sim-call-";

fn check(call: usize) -> usize {
    (call + 1) * 7_919 % 10_007
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at_checked(len)?;
    *rest = after;
    str::from_utf8(digits).ok()?.parse().ok()
}

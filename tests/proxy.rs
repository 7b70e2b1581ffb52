//! The core without a network: messages in, messages out, and a clock that the test moves.

mod proxy {
    mod bed;
    mod calls;
    mod cancels;
    mod failures;
    mod forks;
    mod refusals;
    mod restarts;
    mod steering;
}

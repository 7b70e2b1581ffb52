//! The core without a network: messages in, messages out, and a clock that the test moves.

mod proxy {
    mod authentication;
    mod bed;
    mod calls;
    mod cancels;
    mod commits;
    mod contacts;
    mod edge;
    mod failures;
    mod forks;
    mod gruus;
    mod keepalive;
    mod loading;
    mod names;
    mod outbound;
    mod refusals;
    mod restarts;
    mod routers;
    mod serial;
    mod steering;
    mod tcp;
}

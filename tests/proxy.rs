//! The core without a network: messages in, messages out, and a clock that the test moves.

mod proxy {
    mod answerer;
    mod authentication;
    mod bed;
    mod calls;
    mod cancels;
    mod commits;
    mod contacts;
    mod credentials;
    mod crowd;
    mod edge;
    mod failures;
    mod forks;
    mod gruus;
    mod homes;
    mod keepalive;
    mod loading;
    mod message;
    mod names;
    mod outbound;
    mod refusals;
    mod restarts;
    mod routers;
    mod serial;
    mod steering;
    mod tcp;
}

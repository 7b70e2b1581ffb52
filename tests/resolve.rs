//! Next-hop location (RFC 3263) against BIND's server: what it answers, how often it is asked, and what happens when it dies.

mod resolve {
    pub(crate) mod asker;
    pub(crate) mod named;

    mod outages;
    mod procedure;
    mod thrift;
}

//! `strowger load`, run beside the server under test.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::phone::DOMAIN;
use super::server::binary;

/// A load that runs; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Load(Option<Child>);

/// What phones register: how many of them, how many a second, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refreshes {
    pub(crate) phones: u32,
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    /// The first of the ports that they send from: with the same one their contacts are the same.
    pub(crate) port: u16,
}

impl Load {
    /// Starts it.
    pub(crate) fn start(server: SocketAddr, refreshes: Refreshes, further: &[&str]) -> Self {
        let Refreshes {
            phones,
            rate,
            seconds,
            port,
        } = refreshes;
        let child = Command::new(binary())
            .args(["load", "register", "--json", "--quiet", "--domain", DOMAIN])
            .args(["--target", &server.to_string(), "--ports", "4"])
            .args(["--phones", &phones.to_string(), "--rate", &rate.to_string()])
            .args(["--time", &seconds.to_string(), "--port", &port.to_string()])
            .args(further)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built");
        Self(Some(child))
    }

    /// Waits for its end and gives its result.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Value {
        let child = self.0.take().expect("it is taken once");
        let output = child.wait_with_output().expect("our own child");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no result: {}", output.status))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The q99.9 of a result, from when each registration was due, in milliseconds.
pub(crate) fn q999_ms(result: &Value) -> f64 {
    result["kinds"][0]["latency_ms"]["q99.9"]
        .as_f64()
        .expect("a number")
}

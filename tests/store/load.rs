//! `strowger load`, run beside the server under test.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::binary::binary;

/// A load that runs; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Load(Option<Child>);

impl Load {
    /// Has phones register, so many a second.
    pub(crate) fn start(server: SocketAddr, rate: u32, further: &[&str]) -> Self {
        let child = Command::new(binary())
            .args(["load", "register", "--json", "--quiet"])
            .args(["--domain", "example.com", "--rate", &rate.to_string()])
            .args(["--target", &server.to_string()])
            .args(further)
            .stdout(Stdio::piped())
            .spawn()
            .expect("our own binary");
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

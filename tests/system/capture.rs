//! tshark: records what passes on the phones' wire, and judges it by its own decoders.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::bed::{Link, PHONE_INTERFACE};
use super::namespace::run;
use super::scratch::Scratch;

/// A recording under way; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Capture {
    child: Child,
    log: PathBuf,
    file: PathBuf,
}

/// What was recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    file: PathBuf,
}

impl Capture {
    /// Records all UDP and TCP of `link` from now on.
    pub(crate) fn start(link: &Link, scratch: &Scratch) -> Self {
        let file = scratch.fresh("capture").with_extension("pcapng");
        let log = file.with_extension("log");
        let output = std::fs::File::create(&log).expect("a file in our own folder");
        let child = link
            .phones
            .command("tshark")
            .args(["-q", "-i", PHONE_INTERFACE, "-f", "port 5060", "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::from(output))
            .spawn()
            .expect("tshark is installed");
        let capture = Self { child, log, file };
        let deadline = Instant::now() + START_MAX;
        while !capture.said().contains("Capturing on") || !capture.file.exists() {
            assert!(
                Instant::now() < deadline,
                "tshark does not record: {}",
                capture.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        // dumpcap says so a moment before its socket is open.
        std::thread::sleep(Duration::from_millis(300));
        capture
    }

    /// Ends the recording.
    pub(crate) fn stop(mut self) -> Recording {
        // What was sent last is still on its way to the file.
        std::thread::sleep(Duration::from_millis(300));
        run(Command::new("kill").args(["-INT", &self.child.id().to_string()]));
        let deadline = Instant::now() + START_MAX;
        while self.child.try_wait().expect("our own child").is_none() {
            assert!(
                Instant::now() < deadline,
                "tshark does not end: {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Recording {
            file: self.file.clone(),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Recording {
    /// The packets for which `filter`, in tshark's language, holds: the fields asked for of each, separated by tabs.
    pub(crate) fn fields(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut command = Command::new("tshark");
        command
            .arg("-r")
            .arg(&self.file)
            .args(["-Y", filter, "-T", "fields"]);
        for field in fields {
            command.args(["-e", field]);
        }
        run(command.stderr(Stdio::null()))
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Asserts that tshark reads every packet as SIP and SDP without complaint, and that there are at least `count` of them.
    #[track_caller]
    pub(crate) fn assert_well_formed(&self, count: usize) {
        let messages = self.fields("sip", &["frame.number"]);
        assert!(
            messages.len() >= count,
            "{} messages, not {count}",
            messages.len()
        );
        let complaints = self.fields(
            "_ws.malformed || (sip && _ws.expert.severity >= 0x600000) || (udp.port == 5060 && !sip && !icmp)",
            &["frame.number", "ip.src", "udp.srcport", "_ws.expert.message", "sip.msg_hdr"],
        );
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// How long tshark may take to begin, and to end.
const START_MAX: Duration = Duration::from_secs(10);

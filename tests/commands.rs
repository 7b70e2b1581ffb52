//! The commands, as an operator types them: what they print, what they refuse, what they leave behind.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ports::free_port;

#[path = "store/ports.rs"]
mod ports;

mod commands {
    mod ctl;
    mod doctor;
    mod image;
    mod workers;
}

/// A folder of one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("strowger-commands-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder of our own");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("our own folder");
        path
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("our own folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that runs; dropped, it is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn strowger(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strowger"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_remove("RUST_LOG");
    command.output().expect("the binary that cargo built")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn configuration(sip_port: u16, admin_port: u16) -> String {
    format!(
        "[[listen]]\naddress = \"127.0.0.1:{sip_port}\"\nbackend = \"udp\"\n[workers]\ncount = 1\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n"
    )
}

fn fetch(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn start(folder: &Folder, file: &str) -> Running {
    let command = Command::new(env!("CARGO_BIN_EXE_strowger"))
        .current_dir(&folder.0)
        .args(["run", "--config", file])
        .stderr(Stdio::null())
        .spawn();
    Running(command.expect("the binary that cargo built"))
}

fn wait_until_it_serves(admin_port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fetch(admin_port, "/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        assert!(Instant::now() < deadline, "it does not serve");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn three_mistakes_are_three_lines_and_nothing_listens() {
    let (folder, sip_port, admin_port) = (Folder::new(), free_port(), free_port());
    let mistakes = "[sip]\ndomian = [\"example.com\"]\n[registrar]\nexpires_min_s = 90000\n[auth]\nenabled = true\n";
    folder.write(
        "strowger.toml",
        &(configuration(sip_port, admin_port) + mistakes),
    );
    for command in ["run", "check"] {
        let output = strowger(&folder.0, &[command, "--config", "strowger.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = stderr(&output);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(
            lines[0],
            "strowger.toml:9:1: [sip] domian: no such key; did you mean domains?"
        );
        assert_eq!(
            lines[1],
            "strowger.toml:11:17: [registrar] expires_min_s: 90000 is larger than expires_max_s (7200); \
             lower it or raise expires_max_s"
        );
        assert!(
            lines[2].starts_with("strowger.toml:12:1: [auth]: add realm"),
            "{text}"
        );
    }
    assert_eq!(folder.entries(), ["strowger.toml"], "no secret was made");
    assert!(TcpStream::connect(("127.0.0.1", admin_port)).is_err());
    UdpSocket::bind(("127.0.0.1", sip_port)).expect("nobody has it");
}

/// KiB of the process that are in RAM.
fn resident(server: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.0.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .expect("proc_pid_status(5)")
        .parse()
        .expect("a number")
}

#[test]
fn memory_is_taken_before_anything_is_served_and_kept() {
    let (folder, admin_port) = (Folder::new(), free_port());
    let limits = "[limits]\nmemory = \"256 MiB\"\nprefault = \"50%\"\n";
    folder.write("a.toml", &(configuration(free_port(), admin_port) + limits));
    let server = start(&folder, "a.toml");
    wait_until_it_serves(admin_port);
    let first = resident(&server);
    assert!(first >= 128 << 10, "{first} KiB");
    // The allocator's own delay is a second, after which it gives back what it finds when it is next asked for something.
    std::thread::sleep(Duration::from_millis(1_500));
    for _ in 0..20 {
        fetch(admin_port, "/metrics").expect("it serves");
    }
    let then = resident(&server);
    assert!(then >= first / 10 * 9, "{then} of {first} KiB");
    folder.write(
        "b.toml",
        &(configuration(free_port(), admin_port) + &limits.replace("50%", "1 GiB")),
    );
    let output = strowger(&folder.0, &["run", "--config", "b.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    let wanted = "b.toml:10:12: [limits] prefault is 1.0 GiB, and memory gives 256.0 MiB; lower it or raise memory";
    assert!(text.starts_with(wanted), "{text}");
}

#[test]
fn without_a_configuration_the_way_to_one_is_told() {
    let folder = Folder::new();
    let output = strowger(&folder.0, &["run"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("strowger.toml: is not here") && text.contains("strowger init"),
        "{text}"
    );
    let output = strowger(&folder.0, &["init", "--port", "5070"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = fs::read_to_string(folder.0.join("strowger.toml")).expect("written");
    assert!(text.contains("0.0.0.0:5070"), "{text}");
    assert_eq!(strowger(&folder.0, &["check"]).status.code(), Some(0));
    let output = strowger(&folder.0, &["init"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "a file that is there is left alone"
    );
}

#[test]
fn a_check_prints_the_budget_and_the_warnings_and_makes_nothing() {
    let folder = Folder::new();
    let limits = "[limits]\nmemory = \"1 GiB\"\nbindings = 100000\n";
    folder.write("a.toml", &(configuration(5060, 8060) + limits));
    let output = strowger(&folder.0, &["check", "--config", "a.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    let number = |name: &str| -> u64 {
        let mut rests = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix(name));
        let digits = rests.next().and_then(|rest| rest.split_whitespace().next());
        let number = digits.and_then(|digits| digits.parse().ok());
        number.unwrap_or_else(|| panic!("{name}\n{text}"))
    };
    assert_eq!(number("bindings"), 100_000);
    let transactions = number("transactions");
    assert!((200_000..400_000).contains(&transactions), "{text}");
    assert_eq!(number("calls a second"), transactions / 121);
    assert!(number("descriptors") > 0);
    assert!(
        text.contains("store             sqlite:strowger.db"),
        "{text}"
    );
    assert!(
        text.contains("warning: a.toml: [auth]: there is none"),
        "{text}"
    );
    assert_eq!(folder.entries(), ["a.toml"]);
}

#[test]
fn counts_beyond_the_memory_are_refused_with_their_line() {
    let folder = Folder::new();
    let limits = "[limits]\nmemory = \"1 GiB\"\ntransactions = 1000000\n";
    folder.write("a.toml", &(configuration(5060, 8060) + limits));
    let output = strowger(&folder.0, &["check", "--config", "a.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    let head = "a.toml:10:16: [limits]: transactions = 1000000 (2.6 GiB) need";
    assert!(text.starts_with(head), "{text}");
}

#[test]
fn help_offers_what_there_is() {
    let folder = Folder::new();
    let output = strowger(&folder.0, &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for command in ["run", "check", "doctor", "load", "ctl", "init"] {
        assert!(
            text.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command}\n{text}"
        );
    }
    assert!(text.contains("Exit status: 0"), "{text}");
    assert_eq!(strowger(&folder.0, &["--no-such"]).status.code(), Some(2));
    assert_eq!(
        strowger(&folder.0, &["check", "--log-level", "loud=="])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn the_server_makes_its_secret_serves_its_health_and_ends_on_sigterm() {
    let (folder, admin_port) = (Folder::new(), free_port());
    folder.write("a.toml", &configuration(free_port(), admin_port));
    let mut server = start(&folder, "a.toml");
    wait_until_it_serves(admin_port);
    let mode = fs::metadata(folder.0.join("strowger.key"))
        .expect("made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let metrics = fetch(admin_port, "/metrics").expect("served");
    assert!(
        metrics.contains("\nstrowger_transactions_live{kind=\"server\"} 0\n"),
        "{metrics}"
    );
    assert!(
        fetch(admin_port, "/latency")
            .expect("served")
            .contains("q99.9")
    );
    let killed = Command::new("kill")
        .args(["-TERM", &server.0.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    assert_eq!(server.0.wait().expect("our own child").code(), Some(0));
}

#[test]
fn addresses_that_a_killed_server_lets_go_of_late_are_waited_for() {
    let folder = Folder::new();
    let sip = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let admin = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let sip_port = sip.local_addr().expect("it is bound").port();
    let admin_port = admin.local_addr().expect("it is bound").port();
    folder.write("a.toml", &configuration(sip_port, admin_port));
    let taken = strowger(&folder.0, &["run", "--config", "a.toml"]);
    assert_eq!(taken.status.code(), Some(1), "{taken:?}");
    assert!(
        stderr(&taken).contains("Address already in use"),
        "{taken:?}"
    );
    let server = start(&folder, "a.toml");
    std::thread::sleep(Duration::from_millis(300));
    drop(sip);
    std::thread::sleep(Duration::from_millis(300));
    drop(admin);
    wait_until_it_serves(admin_port);
    drop(server);
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let folder = Folder::new();
    folder.write("a.toml", &configuration(free_port(), free_port()));
    let key = folder.write("strowger.key", &format!("{}\n", "ab".repeat(32)));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("our own file");
    for command in ["run", "check"] {
        let output = strowger(&folder.0, &[command, "--config", "a.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = stderr(&output);
        let what = "[sip] secret_file: strowger.key: is open to others (mode 0644)";
        assert!(
            text.contains(what) && text.contains("chmod 600 strowger.key"),
            "{text}"
        );
        assert!(!text.contains("abab"), "{text}");
    }
}

#[test]
fn a_secret_that_cannot_be_made_is_an_error_of_configuration() {
    let folder = Folder::new();
    let sip = "[sip]\nsecret_file = \"no/such/a.key\"\n";
    folder.write("a.toml", &(configuration(free_port(), free_port()) + sip));
    for command in ["run", "check"] {
        let output = strowger(&folder.0, &[command, "--config", "a.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            stderr(&output).contains("no/such/a.key: cannot be made"),
            "{output:?}"
        );
    }
}

#[test]
fn what_the_file_names_is_checked_all_at_once() {
    let folder = Folder::new();
    let text = "[[listen]]\naddress = \"127.0.0.1:5060\"\n[sip]\nsecret_file = \"no/such/a.key\"\n\
                [limits]\nmemory = \"16 MiB\"\nbindings = 1000000\n\
                [admin]\nlisten = \"0.0.0.0:8060\"\ntoken_file = \"no.token\"\n";
    folder.write("a.toml", text);
    let text = stderr(&strowger(&folder.0, &["run", "--config", "a.toml"]));
    assert_eq!(text.lines().count(), 3, "{text}");
    for part in [
        "[limits]: bindings = 1000000",
        "[sip] secret_file: ",
        "[admin] token_file: no.token: ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn doctor_prints_json_and_its_exit_status_agrees() {
    let folder = Folder::new();
    let output = strowger(&folder.0, &["doctor", "--interface", "lo", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["devices"][0]["name"], "lo");
    assert!(
        report["host"]
            .as_array()
            .is_some_and(|findings| findings.len() > 5),
        "{report}"
    );
    assert_eq!(
        output.status.code(),
        Some(if report["ready"] == true { 0 } else { 1 })
    );
    let output = strowger(&folder.0, &["doctor", "--interface", "nothing0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("there is no device nothing0"),
        "{output:?}"
    );
}

#[test]
fn without_privilege_doctor_names_what_is_missing_and_the_command() {
    let folder = Folder::new();
    // Within the reach of a user who has nothing, wherever cargo built the original.
    let copy = folder.0.join("strowger");
    fs::copy(env!("CARGO_BIN_EXE_strowger"), &copy).expect("copied");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).expect("our own folder");
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            .arg(&copy);
        command
    } else {
        Command::new(&copy)
    };
    command
        .current_dir(&folder.0)
        .args(["doctor", "--interface", "lo"]);
    let output = command.output().expect("setpriv");
    let text = stdout(&output);
    for name in ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"] {
        assert!(
            text.contains(&format!("{name} is missing: ")),
            "{name}\n{text}"
        );
    }
    let grant = "setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep ";
    assert!(
        text.contains(&format!("{grant}{}", copy.display())),
        "{text}"
    );
    assert!(
        text.contains("backend       udp: CAP_NET_ADMIN is missing"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}

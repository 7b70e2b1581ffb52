//! A Postgres of a test's own: made by initdb in a folder of its own, on a port of loopback, and stopped in every way that a server may
//! stop.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::database::Database;
use super::ports::free_port;
use super::scratch::Scratch;

/// A server with one database, `strowger`; dropped, it is stopped and gone.
#[derive(Debug)]
pub(crate) struct Cluster {
    scratch: Scratch,
    port: u16,
}

impl Cluster {
    /// Makes a cluster and starts it.
    pub(crate) fn start() -> Self {
        let cluster = Self::bare();
        let data = cluster.data();
        cluster.run(
            "initdb",
            &[
                "-D",
                &data,
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        let settings = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nwal_level = replica\nmax_wal_senders = 4\n",
            cluster.port,
            cluster.scratch.path().display()
        );
        append(&Path::new(&data).join("postgresql.conf"), &settings);
        cluster.resume();
        cluster.query_in("postgres", "CREATE DATABASE strowger");
        cluster
    }

    /// Makes a standby of this server and starts it.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::bare();
        let data = standby.data();
        let port = self.port.to_string();
        standby.run(
            "pg_basebackup",
            &[
                "-D",
                &data,
                "-R",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "postgres",
                "-c",
                "fast",
            ],
        );
        let settings = format!(
            "port = {}\nunix_socket_directories = '{}'\n",
            standby.port,
            standby.scratch.path().display()
        );
        append(&Path::new(&data).join("postgresql.conf"), &settings);
        standby.resume();
        standby
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "promote", "-w"]);
    }

    /// Starts a server that was stopped.
    pub(crate) fn resume(&self) {
        let log = self.scratch.path().join("log").display().to_string();
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-l", &log, "-w", "-t", "60", "start"],
        );
    }

    /// Stops it as a power failure would.
    pub(crate) fn crash(&self) {
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-m", "immediate", "-w", "stop"],
        );
    }

    /// Sends a signal to each of its processes.
    pub(crate) fn signal(&self, signal: &str) {
        let file = std::fs::read_to_string(Path::new(&self.data()).join("postmaster.pid"))
            .expect("it runs");
        let postmaster = file.lines().next().expect("its number").to_owned();
        let children = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &postmaster])
            .output()
            .expect("ps");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let mut kill = Command::new("kill");
        kill.arg(format!("-{signal}"))
            .arg(&postmaster)
            .args(children.split_whitespace());
        assert!(kill.status().expect("kill").success());
    }

    /// Keeps a copy of all its data, as a backup, while it is stopped.
    pub(crate) fn back_up(&self) {
        copy(&self.data(), &self.backup());
    }

    /// Brings the data back to that copy, while it is stopped.
    pub(crate) fn restore(&self) {
        std::fs::remove_dir_all(self.data()).expect("it is stopped");
        copy(&self.backup(), &self.data());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs a query in a database.
    pub(crate) fn query_in(&self, database: &str, sql: &str) -> Vec<String> {
        let output = Command::new("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                database,
            ])
            .args(["-v", "ON_ERROR_STOP=1", "-qAtX", "-c", sql])
            .output()
            .expect("psql, of the package postgresql-client");
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn bare() -> Self {
        let scratch = Scratch::new();
        // Postgres refuses to run as root.
        if is_root() {
            let status = Command::new("chown")
                .arg("postgres")
                .arg(scratch.path())
                .status();
            assert!(
                status.expect("chown").success(),
                "the user postgres, of the package postgresql"
            );
        }
        Self {
            scratch,
            port: free_port(),
        }
    }

    fn data(&self) -> String {
        self.scratch.path().join("data").display().to_string()
    }

    fn backup(&self) -> String {
        self.scratch.path().join("backup").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = programs().join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let output = command
            .args(arguments)
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .expect("the programs of Postgres");
        assert!(
            output.status.success(),
            "{} {arguments:?}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Database for Cluster {
    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/strowger", self.port)
    }

    fn query(&self, sql: &str) -> Vec<String> {
        self.query_in("strowger", sql)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let program = programs().join("pg_ctl");
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(&program);
            let mut command = if is_root() {
                command
            } else {
                Command::new(&program)
            };
            let _ = command
                .args(["-D", &self.data(), "-m", "immediate", "-w", "stop"])
                .stdout(Stdio::null())
                .status();
        }
    }
}

/// Where the newest Postgres of this host has its programs.
fn programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("Postgres, of the package postgresql");
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .max_by_key(|name| name.parse::<u32>().ok());
    Path::new("/usr/lib/postgresql")
        .join(newest.expect("a version of it"))
        .join("bin")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn append(path: &Path, text: &str) {
    let old = std::fs::read_to_string(path).expect("a configuration");
    std::fs::write(path, old + text).expect("a file of ours");
}

fn copy(from: &str, to: &str) {
    let status = Command::new("cp")
        .args(["-a", from, to])
        .status()
        .expect("cp");
    assert!(status.success());
}

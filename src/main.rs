//! Arguments, configuration, run.
//!
//! Exit status: 0 all went well; 1 what was asked for failed (for `doctor`: AF_XDP is not to be had); 2 the command line
//! or the configuration is wrong, and nothing was opened.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use strowger::admin::Token;
use strowger::config::budget::Budget;
use strowger::config::container::Container;
use strowger::config::host::Host;
use strowger::config::{Config, Mistakes};
use strowger::secret::Secret;
use strowger::shared_secret::{SharedSecretError, SharedSecrets};
use strowger::{ctl, doctor, load, worker};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A SIP edge proxy and registrar: AF_XDP sockets feed per-core run-to-completion workers.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Arguments {
    /// What goes to the log (standard error): error, warn, info, debug, trace, or a filter as RUST_LOG takes it
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT drains the server; a second one ends it at once
    ///
    /// Every mistake of the configuration is reported with its line before anything is opened.
    Run(ConfigFile),
    /// Report every mistake of the configuration, or print the resources that it comes to on this host
    ///
    /// Nothing is opened and no file is made. Memory, frames and descriptors are for the declared limits; memory is
    /// taken lazily. Warnings are about what is allowed and should be known. What a container needs is computed from the same limits.
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Print the manifest for Kubernetes instead: this file in it, and memory, huge pages and processors as the limits come to
        #[arg(long)]
        kubernetes: bool,
    },
    /// Tell whether this host is ready for AF_XDP and tuned for it, and the database for bindings; what it costs where not, and what mends it
    ///
    /// Looks at the kernel and its settings, privileges, limits, memory, the isolation and power saving of the workers' processors, and at each
    /// device's driver, queues, rings, spread of flows, coalescing, interrupts, MTU and XDP support. Changes nothing. What cannot be seen is
    /// marked "?", never good. With --config also at the database that [store] names, and the workers' processors are those of the file.
    ///
    /// Exits 0 where every device looked at can serve by AF_XDP as this user and the store can be used, 1 otherwise; with --strict 1 also
    /// where anything is to be better; with --fix-script 0 where the script was printed.
    Doctor {
        /// The configuration: its workers' processors, and its store
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Look at this device alone, rather than at each that is up and not loopback
        #[arg(long, value_name = "DEVICE")]
        interface: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Print a shell script that mends what can be mended, with --dry-run and --undo
        #[arg(long, conflicts_with = "json")]
        fix_script: bool,
        /// Exit with 1 also where something is to be better
        #[arg(long)]
        strict: bool,
        /// Read proc, sys and etc under this folder, a copy of another host's; what only its kernel could tell is then unknown
        #[arg(long, value_name = "FOLDER")]
        root: Option<PathBuf>,
    },
    /// Load a SIP server: attempts at a given rate, whatever becomes of them, and how long each took from when it was due
    ///
    /// Only what --target names is loaded: aim it at a server that is yours. Exits 0 where --success of the attempts
    /// succeeded, 1 otherwise. `strowger load KIND --help` tells the options.
    Load {
        #[command(subcommand)]
        arguments: Box<load::Arguments>,
    },
    /// Ask the running server, or change what it holds: bindings, memory, counters, latency
    ///
    /// The call goes to [admin] of FILE; without --config, of strowger.toml where it is here, else to 127.0.0.1:8060.
    #[command(after_help = ctl::methods())]
    Ctl {
        /// The configuration of the server; its [admin] says where it listens, and its token
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to call
        method: String,
        /// Words, NAME=VALUE, or one JSON array or object
        params: Vec<String>,
    },
    /// Write a first configuration: every IPv4 address, no authentication, bindings in a file of SQLite's, metrics on loopback
    ///
    /// A file that is there already is left alone.
    Init {
        /// The file to write; - for standard output
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// The UDP and TCP port of SIP
        #[arg(long, default_value_t = 5060, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file; paths in it are relative to it
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(text) = start_log(arguments.log_level.as_deref()) {
        return fail(USAGE, text);
    }
    match arguments.command {
        Command::Run(file) => run(&file.config),
        Command::Check { file, kubernetes } => check(&file.config, kubernetes),
        Command::Doctor {
            config,
            interface,
            json,
            fix_script,
            strict,
            root,
        } => {
            let form = match (json, fix_script) {
                (true, _) => Form::Json,
                (_, true) => Form::Script,
                _ => Form::Text,
            };
            let root = root.map_or_else(doctor::Root::host, |path| doctor::Root::at(&path));
            examine(&root, config.as_deref(), interface.as_deref(), form, strict)
        }
        Command::Load { arguments } => generate(&arguments),
        Command::Ctl {
            config,
            method,
            params,
        } => call(config.as_deref(), &method, &params),
        Command::Init { config, port } => init(&config, port),
    }
}

fn run(path: &Path) -> ExitCode {
    let Prepared { config, .. } = match prepare(path) {
        Ok(prepared) => prepared,
        Err(mistakes) => return fail(USAGE, mistakes),
    };
    let secret = match Secret::load_or_create(&config.sip.secret_file) {
        Ok(secret) => secret,
        Err(error) => return fail(USAGE, Mistakes::about_file(path, about_secret(error))),
    };
    for warning in &config.warnings {
        tracing::warn!("{}", warning.at(path));
    }
    match worker::serve(&config, &secret) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILURE, error),
    }
}

fn check(path: &Path, as_manifest: bool) -> ExitCode {
    if as_manifest {
        return manifest(path);
    }
    let Prepared {
        config,
        budget,
        has_secret,
    } = match prepare(path) {
        Ok(prepared) => prepared,
        Err(mistakes) => return fail(USAGE, mistakes),
    };
    let secret = if has_secret {
        "is there"
    } else {
        "will be made at the first start"
    };
    let secret_file = config.sip.secret_file.display();
    let mut text = format!("{}: good\n\n{budget}\n", path.display());
    text += &format!("secret            {secret_file} {secret}\n");
    text += &format!("store             {}\n", config.store.url);
    if let Ok(container) = Container::compute(&config, &Host::read()) {
        text += &format!(
            "container         {container} (the memory and a tenth, frames in huge pages, a processor beside the workers')\n"
        );
    }
    let warnings = config
        .warnings
        .iter()
        .map(|warning| warning.at(path).to_string());
    for (index, warning) in warnings.chain(budget.warnings()).enumerate() {
        text += if index == 0 { "\n" } else { "" };
        text += &format!("warning: {warning}\n");
    }
    print(&text);
    ExitCode::SUCCESS
}

/// The manifest is for another host: what the file names need not be here.
fn manifest(path: &Path) -> ExitCode {
    let made = Config::load(path).and_then(|config| {
        let about = |text: String| Mistakes::about_file(path, text);
        let text = std::fs::read_to_string(path).map_err(|error| about(error.to_string()))?;
        let container = Container::compute(&config, &Host::read())?;
        container
            .manifest(&config, &text)
            .map_err(|mistake| about(mistake.to_owned()))
    });
    match made {
        Ok(manifest) => {
            print(&manifest);
            ExitCode::SUCCESS
        }
        Err(mistakes) => fail(USAGE, mistakes),
    }
}

/// How the doctor's findings are printed.
enum Form {
    Text,
    Json,
    Script,
}

fn examine(
    root: &doctor::Root,
    path: Option<&Path>,
    interface: Option<&str>,
    form: Form,
    is_strict: bool,
) -> ExitCode {
    let config = match path.map(Config::load).transpose() {
        Ok(config) => config,
        Err(mistakes) => return fail(USAGE, mistakes),
    };
    let mut report = doctor::examine(root, interface, config.as_ref());
    if let Some(config) = &config {
        report = report.with_store(config);
    }
    match form {
        Form::Text => print(&report.to_string()),
        Form::Json => print(&format!("{}\n", report.to_json())),
        Form::Script => {
            print(&report.fix_script());
            return ExitCode::SUCCESS;
        }
    }
    if report.is_ready() && (!is_strict || report.is_tuned()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILURE)
    }
}

fn generate(arguments: &load::Arguments) -> ExitCode {
    worker::touch_small_pages();
    match load::run(arguments) {
        Ok(report) => {
            if arguments.is_json() {
                print(&format!("{:#}\n", report.json()));
            } else {
                print(report.text());
            }
            if report.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILURE)
            }
        }
        Err(error) => fail(if error.is_usage() { USAGE } else { FAILURE }, error),
    }
}

fn call(path: Option<&Path>, method: &str, params: &[String]) -> ExitCode {
    let path = path.or_else(|| Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()));
    let config = match path.map(Config::load).transpose() {
        Ok(config) => config,
        Err(mistakes) => return fail(USAGE, mistakes),
    };
    let admin = config.as_ref().and_then(|config| config.admin.as_ref());
    let called = match (ctl::Server::of(admin).call(method, params), &config) {
        (Err(error), Some(config)) if error.is_absence() && method == MIGRATE => {
            // Before the first start: the file says where the database is.
            return migrate(config);
        }
        (called, _) => called,
    };
    match called {
        Ok(result) => {
            print(&format!("{result:#}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(if error.is_usage() { USAGE } else { FAILURE }, error),
    }
}

fn migrate(config: &Config) -> ExitCode {
    match worker::migrate_without_server(config) {
        Ok(made) => {
            print(&format!("{made:#}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(FAILURE, error),
    }
}

fn init(path: &Path, port: u16) -> ExitCode {
    let text = Config::embedded(port);
    if path == Path::new("-") {
        print(&text);
        return ExitCode::SUCCESS;
    }
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            let name = path.display();
            print(&format!(
                "{name}: written; try `strowger check --config {name}`, then `strowger run --config {name}`\n"
            ));
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fail(
            FAILURE,
            format_args!("{}: is there already and was left alone", path.display()),
        ),
        Err(error) => fail(
            FAILURE,
            format_args!("{}: cannot be written: {error}", path.display()),
        ),
    }
}

/// A configuration that can be served on this host, as far as can be told without opening anything.
struct Prepared {
    config: Config,
    budget: Budget,
    has_secret: bool,
}

/// Reads the configuration and what it names, and computes what it comes to on this host; every mistake at once.
fn prepare(path: &Path) -> Result<Prepared, Mistakes> {
    if path == Path::new(DEFAULT_FILE) && !path.exists() {
        let text = "is not here; name your file with --config FILE, or make a first one with `strowger init`";
        return Err(Mistakes::about_file(path, text));
    }
    let mut config = Config::load(path)?;
    let ephemeral = read_shared_secrets(&mut config);
    let nodes = read_nodes_secrets(&mut config);
    let budget = Budget::compute(&config, &Host::read());
    let secret = Secret::check(&config.sip.secret_file);
    let token_file = config
        .admin
        .as_ref()
        .and_then(|admin| admin.token_file.as_deref());
    let token = token_file.map(Token::load).transpose();
    let list = match (budget, secret, token, ephemeral, nodes) {
        (Ok(budget), Ok(has_secret), Ok(_), Ok(()), Ok(())) => {
            return Ok(Prepared {
                config,
                budget,
                has_secret,
            });
        }
        (budget, secret, token, ephemeral, nodes) => {
            let about_token = |error| format!("[admin] token_file: {error}");
            let about_ephemeral = |error| format!("[auth] ephemeral_secret_file: {error}");
            let about_nodes = |error| format!("[cluster] secret_file: {error}");
            let texts = [
                secret.err().map(about_secret),
                token.err().map(about_token),
                ephemeral.err().map(about_ephemeral),
                nodes.err().map(about_nodes),
            ];
            let named = texts
                .into_iter()
                .flatten()
                .map(|text| Mistakes::about_file(path, text));
            budget
                .err()
                .into_iter()
                .chain(named)
                .flat_map(|mistakes| mistakes.list)
        }
    };
    Err(Mistakes {
        path: path.to_owned(),
        list: list.collect(),
    })
}

/// Reads the secrets of time-limited credentials, where there are to be such.
fn read_shared_secrets(config: &mut Config) -> Result<(), SharedSecretError> {
    let auth = config.auth.as_mut();
    if let Some(ephemeral) = auth.and_then(|auth| auth.ephemeral.as_mut()) {
        ephemeral.secrets = SharedSecrets::load(&ephemeral.secret_file)?;
    }
    Ok(())
}

/// Reads the secrets of a cluster, where it has such.
fn read_nodes_secrets(config: &mut Config) -> Result<(), SharedSecretError> {
    let cluster = config.cluster.as_mut();
    let Some(cluster) = cluster else {
        return Ok(());
    };
    if let Some(file) = &cluster.secret_file {
        cluster.secrets = SharedSecrets::load(file)?;
    }
    Ok(())
}

fn about_secret(error: impl Display) -> String {
    format!("[sip] secret_file: {error}")
}

const QUIET: &str = "hickory_resolver=off,hickory_net=off,hickory_proto=off";

/// The log goes to standard error: `--log-level`, else RUST_LOG, else info.
fn start_log(level: Option<&str>) -> Result<(), String> {
    let wanted = level.map(str::to_owned).or_else(|| {
        std::env::var("RUST_LOG")
            .ok()
            .filter(|text| !text.is_empty())
    });
    // What the DNS client says of a packet, whoever sent it, is not for the log unless somebody asks for it by name.
    let wanted = wanted.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}")).map_err(|error| {
        format!("--log-level or RUST_LOG: {error}; give error, warn, info, debug or trace")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .init();
    Ok(())
}

/// A reader that went away (`strowger check | head`) is no failure of ours.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn fail(status: u8, text: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(status)
}

/// The one method that needs no server.
const MIGRATE: &str = "store.migrate";
const DEFAULT_FILE: &str = "strowger.toml";
const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const EXIT_STATUS: &str = "Exit status: 0 all went well; 1 what was asked for failed (for doctor: AF_XDP is not to be had, or the store; for load: less succeeded than --success); \
2 the command line or the configuration is wrong, and nothing was opened.";

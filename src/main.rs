//! Arguments, configuration, run.
use strowger::{config::Config, secret::Secret, worker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let path = std::env::args().nth(3).expect("run --config FILE");
    let config = Config::load(path.as_ref()).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2)
    });
    let secret = Secret::load_or_create(&config.sip.secret_file).expect("secret");
    if let Err(e) = worker::serve(&config, &secret) {
        eprintln!("{e}");
        std::process::exit(1)
    }
}

//! Compiles the XDP program; `src/net/xdp/program.rs` embeds the object. Says whether the compiler has a profile (`tuning/release.sh`).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "bpf/strowger.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rustc-check-cfg=cfg(guided)");
    if env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("profile-use")) {
        println!("cargo:rustc-cfg=guided");
    }
    let clang = env::var_os("CLANG").map_or_else(|| PathBuf::from("clang"), PathBuf::from);
    if let Err(error) = Command::new(&clang).arg("--version").output() {
        fail(&format!(
            "cannot run {} ({error}), which compiles {SOURCE}",
            clang.display()
        ));
    }
    // -g makes the BTF that libbpf needs; -mcpu=v3 has 32-bit jumps, which kernels know since 5.1.
    let mut arguments = vec![
        "-Wall".to_owned(),
        "-Werror".to_owned(),
        "-mcpu=v3".to_owned(),
    ];
    if let Some(directory) = multiarch_include() {
        arguments.push(format!("-I{}", directory.display()));
    }
    let object =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("strowger.bpf.o");
    let built = SkeletonBuilder::new()
        .source(SOURCE)
        .obj(&object)
        .clang(&clang)
        .clang_args(arguments)
        .build();
    if let Err(error) = built {
        fail(&format!("{SOURCE} does not compile: {error:#}"));
    }
}

/// Where `asm/types.h` is, if not in /usr/include itself: Debian and its like keep it by architecture, and clang, which
/// compiles for BPF, does not look there.
fn multiarch_include() -> Option<PathBuf> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let mut candidates = vec![format!("{architecture}-linux-gnu")];
    if let Ok(output) = Command::new("cc").arg("-print-multiarch").output() {
        candidates.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    candidates
        .iter()
        .filter(|candidate| !candidate.is_empty())
        .map(|candidate| Path::new("/usr/include").join(candidate))
        .find(|directory| directory.join("asm/types.h").exists())
}

/// Ends the build with what is missing and how to get it.
fn fail(message: &str) -> ! {
    eprintln!(
        "strowger: {message}\n\
         The build needs clang and the headers of libc and Linux. On Debian and Ubuntu:\n\
         \n    apt-get install --no-install-recommends clang m4 libelf-dev zlib1g-dev pkg-config make gcc libc6-dev \
         linux-libc-dev binutils\n"
    );
    process::exit(1);
}

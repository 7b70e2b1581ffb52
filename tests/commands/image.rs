//! `tuning/Containerfile`: what it copies is enough for cargo to know the workspace, and for the script that builds.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Folder;

/// The sources of a line `COPY SOURCE... TARGET` that takes from the clone.
fn copied(line: &str) -> Vec<&str> {
    let Some(rest) = line.strip_prefix("COPY ") else {
        return Vec::new();
    };
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    match words.split_last() {
        Some((_, sources)) if !rest.starts_with("--from") => sources.to_vec(),
        _ => Vec::new(),
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("a file of the clone");
        return;
    }
    fs::create_dir_all(to).expect("our own folder");
    for entry in fs::read_dir(from).expect("a folder of the clone").flatten() {
        // What the benches of others have built is no part of a clone.
        if entry.file_name() != "target" {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

#[test]
fn what_the_image_is_built_from_is_a_whole_workspace() {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = fs::read_to_string(clone.join("tuning/Containerfile")).expect("the Containerfile");
    let context = Folder::new();
    let sources: Vec<&str> = file.lines().flat_map(copied).collect();
    assert!(sources.contains(&"Cargo.toml"), "{sources:?}");
    for source in sources {
        copy(&clone.join(source), &context.0.join(source));
    }
    let cargo = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--locked",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(&context.0)
        .output()
        .expect("cargo");
    assert!(
        cargo.status.success(),
        "{}",
        String::from_utf8_lossy(&cargo.stderr)
    );
    let help = Command::new("bash")
        .args(["tuning/release.sh", "--help"])
        .current_dir(&context.0)
        .output()
        .expect("bash");
    let told = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success() && told.contains("--core"), "{told}");
}

//! The parsers in C are found, and what reads their fields is compiled.

fn main() {
    println!("cargo::rerun-if-changed=shim");
    let mut shim = cc::Build::new();
    shim.files(["shim/osip.c", "shim/re.c"])
        .opt_level(3)
        .warnings(true)
        .extra_warnings(true);
    // Linked after the shim that calls them, so their names wait until it is there.
    let found = ["libosip2", "libre"].map(|library| {
        let mut asked = pkg_config::Config::new();
        asked
            .cargo_metadata(false)
            .probe(library)
            .unwrap_or_else(|error| {
                eprintln!("{error}");
                panic!("{library} is not installed: apt-get install -y libosip2-dev libre-dev");
            })
    });
    for path in found.iter().flat_map(|library| &library.include_paths) {
        shim.include(path);
    }
    shim.compile("nine");
    for library in &found {
        for path in &library.link_paths {
            println!("cargo::rustc-link-search=native={}", path.display());
        }
        for name in &library.libs {
            println!("cargo::rustc-link-lib={name}");
        }
    }
}

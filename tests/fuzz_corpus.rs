//! The fuzz targets of `fuzz/`, replayed over their corpora: what a fuzzer once found interesting stays right.

mod fuzz {
    pub(crate) mod credentials;
    pub(crate) mod message;
    pub(crate) mod oracle;
    pub(crate) mod packet;
    pub(crate) mod sequence;
    pub(crate) mod stream;
}

use std::fs;
use std::path::Path;

/// Runs `target` on every file of its corpus.
fn replay(name: &str, mut target: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("a file").path();
        println!("{}", path.display());
        target(&fs::read(&path).expect("a file of the corpus"));
        count += 1;
    }
    assert!(count > 10, "{name}: {count} files are no corpus");
}

#[test]
fn the_corpus_of_messages_holds() {
    replay("message", fuzz::message::run);
}

#[test]
fn the_corpus_of_credentials_holds() {
    let mut asked = 0;
    replay("credentials", |bytes| {
        asked += usize::from(fuzz::credentials::run(bytes));
    });
    assert!(asked > 5, "some of it comes as far as the store");
}

#[test]
fn the_corpus_of_what_the_oracle_reads_holds() {
    replay("oracle", |bytes| {
        fuzz::oracle::run(bytes);
    });
}

#[test]
fn the_corpus_of_streams_holds() {
    replay("stream", fuzz::stream::run);
}

#[test]
fn the_corpus_of_packets_holds() {
    replay("packet", fuzz::packet::run);
}

#[test]
fn the_corpus_of_event_sequences_holds() {
    replay("sequence", fuzz::sequence::run);
}

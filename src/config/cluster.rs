//! `[cluster]`: other nodes. This version serves alone; the section is read so that its mistakes show with the others.

use super::address;
use super::section::Section;

/// Reads `[cluster]`, which this version refuses.
pub(super) fn read(root: &mut Section<'_>) {
    let mut section = root.section("cluster");
    let _server_id = section.number("server_id", 1..=u64::from(u16::MAX));
    let _listen = section.parsed("listen", address::listen_address);
    let _peers = section.parsed_list("peers", address::next_hop);
    let _allow = section.parsed_list("allow", address::network);
    if section.is_present() {
        section.mistake_here(
            "a cluster is not in this version: this server would serve alone; remove the section",
        );
    }
    section.finish();
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_cluster_is_refused_with_its_other_mistakes() {
        let text = "[[listen]]\naddress = \"192.0.2.1:5060\"\n[cluster]\nserver_id = 0\n";
        let text = Config::parse("t".as_ref(), text)
            .expect_err("not in this version")
            .to_string();
        assert!(
            text.contains("t:3:1: [cluster]: a cluster is not in this version"),
            "{text}"
        );
        assert!(
            text.contains("t:4:13: [cluster] server_id: 0 is out of range"),
            "{text}"
        );
    }
}

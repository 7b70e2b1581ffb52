//! The store of a configuration: whether it is reached, what a commit is worth there, whose tables they are, and how long their numbers last.

use super::finding::Finding;
use crate::config::{Config, StoreUrl};
use crate::store::{Database, Sequence, Survey, survey};

/// Looks at the database that a configuration names, and changes nothing.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let database = match &config.store.url {
        StoreUrl::None => {
            let text = "url = \"none\": bindings are lost when the server ends".to_owned();
            return vec![Finding::ok(REACH, text)];
        }
        StoreUrl::Sqlite(path) => Database::Sqlite(path.clone()),
        StoreUrl::Postgres(url) => Database::Postgres(url.clone()),
    };
    match survey(&database) {
        Ok(Some(survey)) => findings(&survey),
        Ok(None) => {
            let text = format!("{} will be made at the first start", config.store.url);
            vec![Finding::ok(REACH, text)]
        }
        Err(error) => {
            let cure = "see that it runs, that the URL is right and the user may log in; meanwhile bindings live in memory alone";
            vec![Finding::fail(REACH, error.to_string(), cure.to_owned())]
        }
    }
}

fn findings(survey: &Survey) -> Vec<Finding> {
    let mut findings = vec![if survey.is_read_only {
        let text = format!("{} takes no writes", survey.engine);
        let cure = "name the primary in [store] url, or let the user that runs strowger write it";
        Finding::fail(REACH, text, cure.to_owned())
    } else {
        Finding::ok(REACH, format!("{} answers", survey.engine))
    }];
    findings.push(settings(survey));
    findings.push(tables(survey));
    findings.extend(survey.sequences.iter().map(sequence));
    findings
}

/// What a commit is worth. Strowger asks for a sync itself; what it cannot ask for is named.
fn settings(survey: &Survey) -> Finding {
    let of = |name: &str| {
        let mut settings = survey.settings.iter();
        let found = settings.find(|(setting, _)| setting == name);
        found.map(|(_, value)| value.as_str())
    };
    let all: Vec<String> = survey
        .settings
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let all = all.join(", ");
    let warn =
        |text: &str, cure: &str| Finding::warn(SYNC, format!("{all}: {text}"), cure.to_owned());
    match (of("fsync"), of("full_page_writes"), of("journal_mode")) {
        (Some("off"), ..) => warn(
            "what is committed may be lost when the host fails",
            "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();",
        ),
        (_, Some("off"), _) => warn(
            "a page that is half written when the host fails cannot be mended",
            "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();",
        ),
        (_, _, Some(mode)) if mode != "wal" => Finding::ok(
            SYNC,
            format!("{all}; strowger run makes it wal, with synchronous = FULL"),
        ),
        (_, _, Some(_)) => {
            Finding::ok(SYNC, format!("{all}; strowger run sets synchronous = FULL"))
        }
        _ => Finding::ok(
            SYNC,
            format!("{all}; each commit of ours is synced, whatever the default"),
        ),
    }
}

fn tables(survey: &Survey) -> Finding {
    if !survey.wrong.is_empty() {
        let cure = "strowger does not change a table of another version; see the guide of the Kamailio that made it";
        return Finding::fail(TABLES, survey.wrong.join("; "), cure.to_owned());
    }
    let text = if survey.absent.is_empty() {
        "all are there, location of version 9".to_owned()
    } else {
        format!(
            "{} will be made at the first start",
            survey.absent.join(", ")
        )
    };
    Finding::ok(TABLES, text)
}

fn sequence(sequence: &Sequence) -> Finding {
    let Sequence {
        table,
        name,
        used,
        max,
    } = sequence;
    let percent = *used as f64 / *max as f64 * 100.0;
    let text = format!("{table}: {used} of {max} row numbers are used ({percent:.1} %)");
    if !sequence.is_half_used() {
        return Finding::ok(SEQUENCE, text);
    }
    let cure = format!(
        "ALTER TABLE {table} ALTER COLUMN id TYPE bigint; ALTER SEQUENCE {name} AS bigint; (it rewrites and locks the table: strowger goes on \
         from memory meanwhile)"
    );
    Finding::warn(SEQUENCE, text, cure)
}

const REACH: &str = "store";
const SYNC: &str = "sync";
const TABLES: &str = "tables";
const SEQUENCE: &str = "sequence";

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn sequence_at(used: i64) -> Finding {
        sequence(&Sequence {
            table: "location".to_owned(),
            name: "public.location_id_seq".to_owned(),
            used,
            max: 2_147_483_647,
        })
    }

    #[test]
    fn a_sequence_is_warned_of_when_more_than_half_is_used() {
        assert_eq!(sequence_at(1_073_741_823).level, Level::Ok);
        let finding = sequence_at(1_073_741_824);
        assert_eq!(finding.level, Level::Warn);
        let cure = finding.cure.expect("a cure");
        assert!(
            cure.contains("ALTER SEQUENCE public.location_id_seq AS bigint"),
            "{cure}"
        );
    }

    #[test]
    fn a_server_that_does_not_sync_or_takes_no_writes_is_told_of() {
        let mut survey = Survey {
            settings: vec![("fsync".to_owned(), "off".to_owned())],
            ..Survey::default()
        };
        assert_eq!(settings(&survey).level, Level::Warn);
        assert_eq!(findings(&survey)[0].level, Level::Ok);
        survey.is_read_only = true;
        survey
            .wrong
            .push("the table location has version 8".to_owned());
        assert_eq!(findings(&survey)[0].level, Level::Fail);
        assert_eq!(tables(&survey).level, Level::Fail);
    }
}

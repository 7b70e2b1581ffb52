//! The parameters of a call, from the words of a command line.

use serde_json::{Map, Value};

/// Why words are no parameters.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WordsError {
    /// It begins as JSON and is none.
    #[error("{0}: begins as JSON, but is none")]
    NotJson(String),
    /// JSON stands with other words.
    #[error("a JSON array or object stands alone")]
    NotAlone,
    /// Some have names and others not.
    #[error("{0}: either every parameter is NAME=VALUE or none is")]
    Mixed(String),
    /// A name stands twice.
    #[error("{0} is given twice")]
    Twice(String),
}

/// One JSON array or object; `NAME=VALUE`s; or words in the method's order. All values but JSON's own are texts: the server reads
/// numbers from them.
pub(super) fn params(words: &[String]) -> Result<Option<Value>, WordsError> {
    let Some(first) = words.first() else {
        return Ok(None);
    };
    if words.iter().any(|word| word.starts_with(['{', '['])) {
        if words.len() > 1 {
            return Err(WordsError::NotAlone);
        }
        let json = serde_json::from_str(first);
        return json
            .map(Some)
            .map_err(|_| WordsError::NotJson(first.clone()));
    }
    let mut named = Map::new();
    for word in words {
        let Some((name, value)) = named_value(word) else {
            continue;
        };
        if named.insert(name.to_owned(), value.into()).is_some() {
            return Err(WordsError::Twice(name.to_owned()));
        }
    }
    if named.is_empty() {
        return Ok(Some(words.iter().map(String::as_str).collect()));
    }
    match words.iter().find(|word| named_value(word).is_none()) {
        Some(word) => Err(WordsError::Mixed(word.clone())),
        None => Ok(Some(Value::Object(named))),
    }
}

/// A name is a word in lower case: `sip:a@b;transport=udp` has none.
fn named_value(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(words: &[&str]) -> Result<Option<Value>, WordsError> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        params(&words)
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(
            of(&["1001", "sip:a@192.0.2.1;transport=udp"]),
            Ok(Some(json!(["1001", "sip:a@192.0.2.1;transport=udp"])))
        );
        assert_eq!(
            of(&["aor=alice", "contact=sip:a@192.0.2.1;transport=udp"]),
            Ok(Some(
                json!({"aor": "alice", "contact": "sip:a@192.0.2.1;transport=udp"})
            ))
        );
        assert_eq!(of(&["{\"limit\": 5}"]), Ok(Some(json!({ "limit": 5 }))));
        assert_eq!(of(&["[]"]), Ok(Some(json!([]))));
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert_eq!(of(&["{"]), Err(WordsError::NotJson("{".to_owned())));
        assert_eq!(of(&["a", "[]"]), Err(WordsError::NotAlone));
        assert_eq!(of(&["aor=a", "b"]), Err(WordsError::Mixed("b".to_owned())));
        assert_eq!(
            of(&["aor=a", "aor=b"]),
            Err(WordsError::Twice("aor".to_owned()))
        );
    }
}

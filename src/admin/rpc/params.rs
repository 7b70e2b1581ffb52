//! The parameters of a call: by name or by place, and as forgiving about text and numbers as a command line needs.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Fault;
use super::method::Method;

/// The parameters of one call, each in its place or absent.
#[derive(Debug)]
pub(super) struct Params<'a> {
    names: &'static [&'static str],
    values: Vec<Option<&'a Value>>,
}

impl<'a> Params<'a> {
    /// Puts each parameter into its place.
    pub(super) fn read(method: &Method, given: Option<&'a Value>) -> Result<Self, Fault> {
        let names = method.params;
        let mut params = Self {
            names,
            values: vec![None; names.len()],
        };
        match given {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => params.take_list(without_table(list))?,
            Some(Value::Object(map)) => params.take_map(map)?,
            Some(_) => return Err(Fault::params("params is an array or an object")),
        }
        let missing = names.iter().zip(&params.values).take(method.required);
        match missing.into_iter().find(|(_, value)| value.is_none()) {
            Some((name, _)) => Err(Fault::params(format!("{name} is missing"))),
            None => Ok(params),
        }
    }

    /// A text; a number counts as its digits, since users are often called by numbers.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
            Some(Value::Number(number)) => Ok(Some(Cow::Owned(number.to_string()))),
            Some(_) => Err(Fault::params(format!("{name} is a text"))),
        }
    }

    /// A text that the method cannot do without.
    pub(super) fn required(&self, name: &str) -> Result<Cow<'a, str>, Fault> {
        self.text(name)?
            .ok_or_else(|| Fault::params(format!("{name} is missing")))
    }

    /// A whole number within a range; the text of one counts, since a command line knows nothing else.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Fault> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong = || {
            let (least, most) = (range.start(), range.end());
            Fault::params(format!("{name} is a whole number from {least} to {most}"))
        };
        number.map(Some).ok_or_else(wrong)
    }

    /// What stands for a name; null is the same as nothing.
    fn value(&self, name: &str) -> Option<&'a Value> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.values.get(place).copied().flatten()
    }

    fn take_list(&mut self, list: &'a [Value]) -> Result<(), Fault> {
        if list.len() > self.names.len() {
            return Err(Fault::params(format!(
                "{} parameters, but the method takes {}",
                list.len(),
                self.offered()
            )));
        }
        for (place, value) in self.values.iter_mut().zip(list) {
            *place = Some(value).filter(|value| !value.is_null());
        }
        Ok(())
    }

    fn take_map(&mut self, map: &'a Map<String, Value>) -> Result<(), Fault> {
        for (name, value) in map {
            let place = self.names.iter().position(|known| known == name);
            let Some(place) = place.and_then(|place| self.values.get_mut(place)) else {
                let offered = self.offered();
                return Err(Fault::params(format!(
                    "there is no parameter {name}; the method takes {offered}"
                )));
            };
            *place = Some(value).filter(|value| !value.is_null());
        }
        Ok(())
    }

    fn offered(&self) -> String {
        if self.names.is_empty() {
            "none".to_owned()
        } else {
            self.names.join(", ")
        }
    }
}

/// Kamailio's methods begin with the name of the table, and there is but one: `["location", "alice"]` is `["alice"]`.
fn without_table(list: &[Value]) -> &[Value] {
    let is_uri = |value: &Value| {
        let text = value.as_str().unwrap_or_default().to_ascii_lowercase();
        text.starts_with("sip:") || text.starts_with("sips:")
    };
    match list {
        [table, rest @ ..] if table == TABLE && rest.first().is_some_and(|next| !is_uri(next)) => {
            rest
        }
        _ => list,
    }
}

/// What Kamailio calls the table of bindings.
const TABLE: &str = "location";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<'a>(name: &str, given: &'a Value) -> Result<Params<'a>, Fault> {
        Params::read(Method::named(name).expect("a method"), Some(given))
    }

    #[test]
    fn by_name_by_place_and_none() {
        for given in [
            json!({"aor": "alice", "contact": null}),
            json!(["alice"]),
            json!(["location", "alice"]),
        ] {
            let params = read("ul.rm", &given).expect("good");
            assert_eq!(params.required("aor").expect("there"), "alice");
            assert_eq!(params.text("contact").expect("absent"), None);
        }
        for given in [json!([]), json!({}), Value::Null] {
            let params = read("ul.dump", &given).expect("good");
            assert_eq!(params.number("limit", 1..=9).expect("absent"), None);
        }
    }

    #[test]
    fn a_user_may_be_a_number_and_a_number_a_text() {
        let given = json!(["x", "7"]);
        let params = read("ul.dump", &given).expect("good");
        assert_eq!(params.number("limit", 1..=9).expect("good"), Some(7));
        let given = json!([1001]);
        let params = read("ul.lookup", &given).expect("good");
        assert_eq!(params.required("aor").expect("there"), "1001");
    }

    #[test]
    fn a_user_called_location_is_reached_by_his_contact() {
        let given = json!(["location", "sip:a@192.0.2.1"]);
        let params = read("ul.rm", &given).expect("good");
        assert_eq!(params.required("aor").expect("there"), "location");
        let given = json!(["location"]);
        let params = read("ul.lookup", &given).expect("good");
        assert_eq!(params.required("aor").expect("there"), "location");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |name: &str, given: Value| read(name, &given).expect_err("wrong").message;
        assert_eq!(
            message("ul.lookup", json!({"user": "a"})),
            "there is no parameter user; the method takes aor"
        );
        assert_eq!(
            message("core.uptime", json!(["a"])),
            "1 parameters, but the method takes none"
        );
        assert_eq!(message("ul.lookup", json!([])), "aor is missing");
        assert_eq!(
            message("ul.lookup", json!(7)),
            "params is an array or an object"
        );
        let given = json!({"limit": "many"});
        let params = read("ul.dump", &given).expect("the names are good");
        assert_eq!(
            params.number("limit", 1..=9).expect_err("wrong").message,
            "limit is a whole number from 1 to 9"
        );
    }
}

//! TOML read by hand, with every problem and its line: what the readers of a scenario's parts
//! share.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::dice::Latency;
use super::directive::MAX_TOKENS;
use crate::problems::{KeyPath, Problems, nearest};
use crate::units::HumanDuration;

/// A value and where it stands.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// Reads the parts of one file and collects what is wrong with them.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    /// What was found so far.
    pub(crate) problems: Problems,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Parses the text; what is no TOML is the first that is reported.
    pub(crate) fn new(file: &'a Path, text: &'a str) -> (Self, Spanned<DeTable<'a>>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self { file, text, problems: Problems::new() };
        for error in errors {
            reader.report(error.span().unwrap_or_default(), &KeyPath::root(), error.message());
        }
        (reader, table)
    }

    /// The line, from 1, on which a place of the text stands.
    pub(crate) fn line(&self, at: usize) -> u32 {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        u32::try_from(memchr::memchr_iter(b'\n', before).count() + 1).unwrap_or(0)
    }

    /// Notes a problem at a place of the text.
    pub(crate) fn report(&mut self, span: Range<usize>, key: &KeyPath, message: impl Into<String>) {
        let line = self.line(span.start);
        self.problems.add(self.file, line, key.clone(), message);
    }

    /// Notes that a value is not of the kind that is wanted.
    pub(crate) fn wrong(&mut self, value: &Value<'_>, key: &KeyPath, wanted: &str) {
        let found = value.get_ref().type_str();
        self.report(value.span(), key, format!("wants {wanted}, found {found}"));
    }

    /// Goes over a table's entries; keys that are not `known` are reported.
    pub(crate) fn entries<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        at: &KeyPath,
        known: &[&str],
    ) -> Vec<(&'t str, KeyPath, &'t Value<'i>)> {
        let mut entries = Vec::new();
        for (name, value) in table {
            let key = at.key(name.get_ref());
            if known.contains(&name.get_ref().as_ref()) {
                entries.push((name.get_ref().as_ref(), key, value));
            } else {
                let hint = nearest(name.get_ref(), known.iter().copied()).map_or_else(
                    || format!("known are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.report(name.span(), &key, format!("unknown key; {hint}"));
            }
        }
        entries
    }

    /// A table of median and sigma, or just a duration.
    pub(crate) fn latency(&mut self, value: &Value<'_>, at: &KeyPath, default: Latency) -> Latency {
        if value.get_ref().is_str() {
            return self.duration(value, at).map_or(default, Latency::constant);
        }
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(
                value,
                at,
                "a duration, or a table like { median = \"300ms\", sigma = 0.4 }",
            );
            return default;
        };
        let mut latency = Latency { sigma: 0.0, ..default };
        for (name, key, value) in self.entries(table, at, &["median", "sigma"]) {
            if name == "median" {
                latency.median = self.duration(value, &key).unwrap_or(latency.median);
            } else {
                match self.number(value, &key) {
                    Some(sigma) if (0.0..=4.0).contains(&sigma) => latency.sigma = sigma,
                    Some(_) => self.report(value.span(), &key, "wants a number from 0 to 4"),
                    None => {}
                }
            }
        }
        latency
    }

    /// Least and most.
    pub(crate) fn range(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<(u64, u64)> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table like { min = 20, max = 120 }");
            return None;
        };
        let (mut min, mut max) = (None, None);
        for (name, key, value) in self.entries(table, at, &["min", "max"]) {
            let number = self.whole(value, &key);
            if name == "min" { min = number } else { max = number }
        }
        let (Some(min), Some(max)) = (min, max) else {
            self.report(value.span(), at, "wants both `min` and `max`");
            return None;
        };
        if min > max || max > MAX_TOKENS {
            self.report(value.span(), at, format!("wants min <= max <= {MAX_TOKENS}"));
            return None;
        }
        Some((min, max))
    }

    /// A duration such as `300ms`.
    pub(crate) fn duration(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<Duration> {
        match value.get_ref().as_str().map(str::parse::<HumanDuration>) {
            Some(Ok(duration)) => return Some(duration.0),
            Some(Err(problem)) => self.report(value.span(), at, problem.to_string()),
            None => self.wrong(value, at, "a duration like \"300ms\""),
        }
        None
    }

    /// A number from 0 to 1.
    pub(crate) fn share(&mut self, value: &Value<'_>, at: &KeyPath) -> f64 {
        match self.number(value, at) {
            Some(share) if (0.0..=1.0).contains(&share) => share,
            Some(_) => {
                self.report(value.span(), at, "wants a share from 0 to 1");
                0.0
            }
            None => 0.0,
        }
    }

    /// How many times.
    pub(crate) fn factor(&mut self, value: &Value<'_>, at: &KeyPath) -> f64 {
        match self.number(value, at) {
            Some(factor) if (0.0..=1e6).contains(&factor) => factor,
            Some(_) => {
                self.report(value.span(), at, "wants a factor from 0 to 1000000");
                1.0
            }
            None => 1.0,
        }
    }

    /// Any number.
    pub(crate) fn number(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        if number.is_none() {
            self.wrong(value, at, "a number");
        }
        number
    }

    /// A whole number from 0.
    pub(crate) fn whole(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<u64> {
        let integer = value.get_ref().as_integer();
        let number = integer.and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        if number.is_none() {
            self.wrong(value, at, "a whole number from 0");
        }
        number
    }

    /// The elements of an array; none where it is something else.
    pub(crate) fn array<'t, 'i>(&mut self, value: &'t Value<'i>, at: &KeyPath) -> &'t [Value<'i>] {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, at, "an array");
            return &[];
        };
        array
    }

    /// An array of texts.
    pub(crate) fn strings(&mut self, value: &Value<'_>, at: &KeyPath) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, value) in self.array(value, at).iter().enumerate() {
            match value.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.wrong(value, &at.index(index), "a text"),
            }
        }
        texts
    }

    /// A text.
    pub(crate) fn text(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(value, at, "a text");
        }
        text
    }

    /// Yes or no.
    pub(crate) fn truth(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong(value, at, "true or false");
        }
        truth
    }

    /// One of these words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        value: &Value<'_>,
        at: &KeyPath,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(value, at)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = nearest(&text, known.iter().copied()).map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.report(value.span(), at, format!("`{text}` is not known; {hint}"));
        }
        found
    }

    /// Each table of an array of tables.
    pub(crate) fn tables<'t, 'i>(
        &mut self,
        value: &'t Value<'i>,
        at: &KeyPath,
    ) -> Vec<(&'t DeTable<'i>, Range<usize>, KeyPath)> {
        let mut tables = Vec::new();
        for (index, value) in self.array(value, at).iter().enumerate() {
            let key = at.index(index);
            match value.get_ref().as_table() {
                Some(table) => tables.push((table, value.span(), key)),
                None => self.wrong(value, &key, "a table"),
            }
        }
        tables
    }
}

//! Some cases of a suite: those of incidents, or with a tag.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::suite::{Case, Suite};

/// Which cases of a suite are asked: all incidents, or those with a tag or of one incident.
///
/// What has failed once in front of people is not to fail again. So of incidents each case is
/// critical, whatever it is in the suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Only(String);

/// The longest name.
const MAX_BYTES: usize = 256;
/// The word for all incidents.
const INCIDENTS: &str = "incidents";

// === impl Only ===

impl Only {
    /// Reads `incidents`, a tag, or what an incident is called.
    ///
    /// # Errors
    ///
    /// Where it is empty or has more than 256 bytes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(format!(
                "must be `{INCIDENTS}`, a tag or an incident, of {MAX_BYTES} bytes at most"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is about incidents, rather than a tag.
    pub fn is_of_incidents(&self) -> bool {
        self.0 == INCIDENTS
    }

    /// Whether a case is one of them.
    pub fn takes(&self, case: &Case) -> bool {
        match self.is_of_incidents() {
            true => case.incident.is_some(),
            false => case.tags.contains(&self.0) || case.incident.as_ref() == Some(&self.0),
        }
    }

    /// Leaves only its cases in a suite.
    pub fn leave_in(&self, suite: &mut Suite) {
        suite.cases.retain(|case| self.takes(case));
        if self.is_of_incidents() {
            suite.cases.iter_mut().for_each(|case| case.is_critical = true);
        }
    }
}

impl fmt::Display for Only {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::problems::Problems;

    const SUITE: &str = "
- {vars: {q: a}, metadata: {id: plain, tags: [tone]}}
- {vars: {q: b}, metadata: {id: once, incident: spring outage}}
- {vars: {q: c}, metadata: {id: twice, incident: lost order, tags: tone, critical: true}}
";

    fn left(which: &str) -> Vec<(String, bool)> {
        let mut problems = Problems::new();
        let files = [(PathBuf::from("s.yaml"), SUITE.to_owned())];
        let mut suite = Suite::parse("s", &files, &mut problems).expect("a suite");
        Only::parse(which).expect("a name").leave_in(&mut suite);
        suite.cases.into_iter().map(|case| (case.id, case.is_critical)).collect()
    }

    #[test]
    fn incidents_are_all_critical_and_tags_are_as_they_are() {
        let of = |cases: &[(&str, bool)]| -> Vec<(String, bool)> {
            cases.iter().map(|(id, is_critical)| ((*id).to_owned(), *is_critical)).collect()
        };
        assert_eq!(left("incidents"), of(&[("once", true), ("twice", true)]));
        assert_eq!(left("tone"), of(&[("plain", false), ("twice", true)]));
        assert_eq!(left(" spring outage "), of(&[("once", false)]));
        assert_eq!(left("nothing"), of(&[]));
    }

    #[test]
    fn a_name_is_not_empty_and_not_endless() {
        assert!(Only::parse(" ").is_err());
        assert!(Only::parse(&"x".repeat(257)).is_err());
    }
}

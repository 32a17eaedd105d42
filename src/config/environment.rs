//! Environment variables. Nothing else in the program reads them.

use std::collections::BTreeMap;
use std::fmt;

/// Where environment variables come from.
#[derive(Clone)]
pub struct Environment(Variables);

#[derive(Clone)]
enum Variables {
    Process,
    Fixed(BTreeMap<String, String>),
}

// === impl Environment ===

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Self(Variables::Process)
    }

    /// Exactly these variables, for tests and simulations.
    pub fn fixed<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(Variables::Fixed(variables.into_iter().map(owned).collect()))
    }

    /// The trimmed value of a variable. One that is empty counts as not set.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match &self.0 {
            Variables::Process =>
            {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "this is the one place that reads it"
                )]
                std::env::var(name).ok()
            }
            Variables::Fixed(variables) => variables.get(name).cloned(),
        }?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: values may be secrets.
        match &self.0 {
            Variables::Process => f.write_str("Environment(process)"),
            Variables::Fixed(variables) => f.debug_set().entries(variables.keys()).finish(),
        }
    }
}

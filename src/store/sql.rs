//! Statements that are put together at run time.

use std::fmt::Write;

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type};

/// A statement under construction: text that the program chose, and values by number. sqlx's own
/// builder writes `?` for values where the kind of database is not known, which PostgreSQL does not
/// take.
#[derive(Default)]
pub(crate) struct Sql {
    text: String,
    values: AnyArguments,
    count: usize,
    failure: Option<sqlx::error::BoxDynError>,
}

// === impl Sql ===

impl Sql {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// Adds text. Never what came from outside.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value and its number in the text.
    pub(crate) fn bind<'t, T: Encode<'t, Any> + Type<Any>>(&mut self, value: T) -> &mut Self {
        self.count += 1;
        // Writing to a string does not fail.
        let _ = write!(self.text, "${}", self.count);
        if let Err(error) = self.values.add(value) {
            self.failure = Some(error);
        }
        self
    }

    /// Adds the condition that a column has a value, where there is one to have.
    pub(crate) fn and_is(&mut self, column: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.push(" AND ").push(column).push(" = ").bind(value.to_owned());
        }
        self
    }

    /// Adds the condition that a column, which holds `name@version`, has this name, or this name
    /// and version, where there is one to have.
    pub(crate) fn and_is_version(&mut self, column: &str, value: Option<&str>) -> &mut Self {
        let Some(name) = value.filter(|value| !value.contains('@')) else {
            return self.and_is(column, value);
        };
        let start = format!("{name}@");
        let chars = i64::try_from(start.chars().count()).unwrap_or(i64::MAX);
        self.push(" AND substr(").push(column).push(", 1, CAST(").bind(chars);
        self.push(" AS INTEGER)) = ").bind(start)
    }

    /// The finished statement.
    ///
    /// # Errors
    ///
    /// Where a value could not be encoded.
    pub(crate) fn query(self) -> Result<Query<'static, Any, AnyArguments>, sqlx::Error> {
        match self.failure {
            Some(error) => Err(sqlx::Error::Encode(error)),
            None => Ok(sqlx::query_with(AssertSqlSafe(self.text), self.values)),
        }
    }
}

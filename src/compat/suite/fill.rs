//! Templates of a suite: promptfoo's are nunjucks', ours are MiniJinja's, which read the same text
//! the same way but for a few filters, which are reported by name.
//!
//! A variable that a template prints and that is not there is an error, where promptfoo prints
//! nothing: a question with a hole in it tests nothing. `{% if name %}` may ask whether it is
//! there.

use std::collections::BTreeSet;
use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as Filled};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

use crate::prompt::bound_filters;

/// Steps of the template engine for one text.
const FUEL: u64 = 200_000;
/// How deep templates may nest.
const MAX_RECURSION: usize = 64;
/// The most that may come out of one template.
const MAX_FILLED_BYTES: usize = 1 << 20;
/// The longest template.
const MAX_TEMPLATE_BYTES: usize = 256 << 10;

/// Fills in templates.
#[derive(Debug)]
pub(super) struct Filler {
    environment: Environment<'static>,
}

/// A text that may only become so long.
struct Bounded {
    text: Vec<u8>,
    is_over: bool,
}

// === impl Filler ===

impl Filler {
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // What stands at the end of a text is a part of it, in nunjucks.
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        if let Ok(syntax) = syntax {
            environment.set_syntax(syntax);
        }
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        bound_filters(&mut environment);
        environment.add_filter("tojson", to_json);
        environment.add_filter("dump", to_json);
        Self { environment }
    }

    /// Whether a text is more than itself.
    pub(super) fn is_template(text: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
    }

    /// Fills in one text.
    ///
    /// # Errors
    ///
    /// Why it cannot be, in words.
    pub(super) fn fill(&self, text: &str, vars: &Map<String, Value>) -> Result<String, String> {
        if !Self::is_template(text) {
            return Ok(text.to_owned());
        }
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("the template is longer than {MAX_TEMPLATE_BYTES} bytes"));
        }
        let template = self.environment.template_from_str(text).map_err(|error| spoken(&error))?;
        let mut into = Bounded { text: Vec::with_capacity(text.len()), is_over: false };
        let rendered = template.render_captured_to(Filled::from(Serde(vars)), &mut into);
        match rendered.map(|_| ()) {
            _ if into.is_over => Err(format!("becomes longer than {MAX_FILLED_BYTES} bytes")),
            Ok(()) => String::from_utf8(into.text).map_err(|_| "becomes no text".to_owned()),
            Err(error) if error.kind() == ErrorKind::UndefinedError => {
                Err(self.naming(&spoken(&error), text, vars))
            }
            Err(error) => Err(spoken(&error)),
        }
    }

    /// An error of something that is not there, with the names of what is not: the engine does not
    /// say.
    fn naming(&self, why: &str, text: &str, vars: &Map<String, Value>) -> String {
        let names = self.names(text).into_iter().filter(|name| !vars.contains_key(name));
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        match names.as_slice() {
            [] => why.to_owned(),
            [one] => format!("{why}: there is no variable {one}"),
            several => format!("{why}: there are no variables {}", several.join(", ")),
        }
    }

    /// The variables that a text uses, but for those it makes itself; none of one that is no
    /// template.
    pub(super) fn names(&self, text: &str) -> BTreeSet<String> {
        let template = self.environment.template_from_str(text).ok();
        let used = template.map(|template| template.undeclared_variables(false));
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let used = used.unwrap_or_default().into_iter();
        used.filter(|name| !globals.contains(name.as_str())).collect()
    }

    /// Whether a text can be read, and what is wrong with it: its form, and filters that do not
    /// exist.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        self.environment.template_from_str(text).map_err(|error| spoken(&error))?;
        match filters(text).find(|name| !self.is_filter(name)) {
            Some(name) => Err(format!("the filter `{name}` is not supported")),
            None => Ok(()),
        }
    }

    fn is_filter(&self, name: &str) -> bool {
        let probe = self.environment.render_str(&format!("{{{{ ''|{name} }}}}"), ());
        !matches!(probe, Err(error) if error.kind() == ErrorKind::UnknownFilter)
    }

    /// Fills in the texts within a value.
    pub(super) fn fill_all(
        &self,
        value: &Value,
        vars: &Map<String, Value>,
    ) -> Result<Value, String> {
        match value {
            Value::String(text) => self.fill(text, vars).map(Value::String),
            Value::Array(items) => items.iter().map(|item| self.fill_all(item, vars)).collect(),
            Value::Object(members) => {
                let filled = members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), self.fill_all(member, vars)?)));
                filled.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }
}

// === impl Bounded ===

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > MAX_FILLED_BYTES {
            self.is_over = true;
            return Err(io::Error::other("too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The words after `|` within the marks of a template.
fn filters(text: &str) -> impl Iterator<Item = &str> {
    let within = text.split("{{").chain(text.split("{%")).skip(1);
    let within = within.filter_map(|rest| rest.split(['}', '%']).next());
    within.flat_map(|inner| inner.split('|').skip(1)).filter_map(|rest| {
        let name = rest.trim_start();
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        name.get(..end).filter(|name| !name.is_empty())
    })
}

fn spoken(error: &Error) -> String {
    let line = error.line().filter(|line| *line > 1);
    let at = line.map(|line| format!("line {line} of the template: ")).unwrap_or_default();
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("{at}it takes too many steps; loop over less"),
        (ErrorKind::SyntaxError, Some(detail)) => format!("{at}{detail}"),
        (kind, Some(detail)) => format!("{at}{kind}: {detail}"),
        (kind, None) => format!("{at}{kind}"),
    }
}

/// JSON as it is, where the engine's own filter would escape it for HTML.
fn to_json(value: &Filled) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

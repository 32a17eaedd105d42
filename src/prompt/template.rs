//! The messages' templates: MiniJinja without files, other templates, or surprises.
//!
//! A value that is not there is an error, nothing is escaped, and one rendering takes a bounded
//! number of steps and bytes.

use std::collections::BTreeSet;
use std::io::{self, Write};

use minijinja::value::{Serde, Value as Filled};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

use super::growth::bound_filters;
use super::{Prompt, RenderError};

/// Steps of the template engine for one message: some ten milliseconds at worst. A loop over a
/// thousand lines takes ten thousand.
const FUEL: u64 = 200_000;
/// How deep templates may nest.
const MAX_RECURSION: usize = 64;
/// The longest template of one message.
pub(super) const MAX_TEMPLATE_BYTES: usize = 256 * 1024;

/// The compiled templates of one prompt.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    names: Vec<String>,
}

/// What is wrong with a template.
#[derive(Debug)]
pub(super) struct TemplateProblem {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// A text that may only become so long.
struct Bounded<'a> {
    text: &'a mut Vec<u8>,
    left: &'a mut usize,
    is_over: &'a mut bool,
}

// === impl Templates ===

impl Templates {
    /// No templates yet.
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        bound_filters(&mut environment);
        environment.add_filter("tojson", to_json);
        Self { environment, names: Vec::new() }
    }

    /// Compiles one more and says which variables it uses, but for those it makes itself.
    pub(super) fn add(&mut self, source: &str) -> Result<BTreeSet<String>, TemplateProblem> {
        let name = self.names.len().to_string();
        let added = self.environment.add_template_owned(name.clone(), source.to_owned());
        added.map_err(|error| TemplateProblem::of(&error))?;
        let template = self.environment.get_template(&name);
        let template = template.map_err(|error| TemplateProblem::of(&error))?;
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let used = template.undeclared_variables(false);
        let used = used.into_iter().filter(|name| !globals.contains(name.as_str())).collect();
        self.names.push(name);
        Ok(used)
    }

    /// Filters, tests and functions that do not exist, as far as a run with a sample meets them:
    /// the engine looks them up where it comes by.
    pub(super) fn unknown_words(&self, sample: Value) -> Vec<(usize, TemplateProblem)> {
        let context = Filled::from(Serde(sample));
        let names = self.names.iter().enumerate();
        let failed = names.filter_map(|(index, name)| {
            let template = self.environment.get_template(name).ok()?;
            let error = template.render_captured_to(context.clone(), io::sink()).err()?;
            let is_word = [
                ErrorKind::UnknownFilter,
                ErrorKind::UnknownTest,
                ErrorKind::UnknownFunction,
                ErrorKind::UnknownMethod,
            ];
            is_word.contains(&error.kind()).then(|| (index, TemplateProblem::of(&error)))
        });
        failed.collect()
    }

    /// Fills in all of them.
    pub(super) fn render(&self, variables: Map<String, Value>) -> Result<Vec<String>, RenderError> {
        let context = Filled::from(Serde(variables));
        let mut left = Prompt::MAX_RENDERED_BYTES;
        let mut texts = Vec::with_capacity(self.names.len());
        for (message, name) in self.names.iter().enumerate() {
            texts.push(self.render_one(message, name, &context, &mut left)?);
        }
        Ok(texts)
    }

    fn render_one(
        &self,
        message: usize,
        name: &str,
        context: &Filled,
        left: &mut usize,
    ) -> Result<String, RenderError> {
        let failed = |error: &Error| {
            let TemplateProblem { line, problem } = TemplateProblem::of(error);
            RenderError::Template { message, line, problem }
        };
        let template = self.environment.get_template(name).map_err(|error| failed(&error))?;
        let mut text = Vec::with_capacity(template.source().len());
        let mut is_over = false;
        let into = Bounded { text: &mut text, left, is_over: &mut is_over };
        let rendered = template.render_captured_to(context.clone(), into).map(|_| ());
        match rendered {
            _ if is_over => Err(RenderError::TooLong),
            Ok(()) => String::from_utf8(text).map_err(|_| RenderError::Template {
                message,
                line: 0,
                problem: "what comes out is no text".to_owned(),
            }),
            Err(error) => Err(failed(&error)),
        }
    }
}

// === impl TemplateProblem ===

impl TemplateProblem {
    fn of(error: &Error) -> Self {
        let kind = error.kind();
        let problem = match (kind, error.detail()) {
            (ErrorKind::OutOfFuel, _) => "it takes too many steps; loop over less".to_owned(),
            (_, None) => kind.to_string(),
            (ErrorKind::SyntaxError, Some(detail)) if names_other_template(detail) => {
                format!("{detail}: a message is one text; there is no other template to take in")
            }
            (ErrorKind::SyntaxError, Some(detail)) => detail.to_owned(),
            (_, Some(detail)) => format!("{kind}: {detail}"),
        };
        Self { line: error.line().unwrap_or_default(), problem }
    }
}

/// Whether an error is about a tag that other engines have for texts in other files.
fn names_other_template(detail: &str) -> bool {
    let tag = detail.strip_prefix("unknown statement ");
    tag.is_some_and(|tag| ["include", "extends", "import", "from", "block"].contains(&tag))
}

// === impl Bounded ===

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => {
                *self.left = left;
                self.text.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => {
                *self.is_over = true;
                Err(io::Error::other("too long"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON as it is, where the engine's own filter would escape it for HTML.
fn to_json(value: &Filled) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

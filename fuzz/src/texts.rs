//! What people write: prompts, configurations, suites, tables, times, addresses.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tidegate::compat::Answer;
use tidegate::compat::suite::{self, Files, Suite};
use tidegate::config::{Environment, Source, load};
use tidegate::problems::Problems;
use tidegate::prompt::{Prompts, RenderError, Wanted};
use tidegate::runs::Schedule;
use tidegate::webhook::address::is_public;
use tidegate::webhook::receiver::Receiver;

/// The secret of the environment that configurations may refer to.
const SECRET: &str = "sk-secret-of-the-environment";
/// More takes time and makes no other case.
const MAX_CASES: usize = 20;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A template; after a line `---`, its variables as JSON.
pub(crate) fn template(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (template, variables) = text.split_once("\n---\n").unwrap_or((text, "{}"));
    let file = format!(
        "[[messages]]\nrole = \"user\"\ncontent = {}\n[[messages]]\nrole = \"user\"\n\
         content = \"{{{{ text }}}}{{{{ list }}}}{{{{ n }}}}\"\n\
         [variables.properties]\ntext = {{ default = \"a text\" }}\nlist = {{ default = [1, \"b\"] }}\n\
         n = {{ default = 3 }}\n",
        Value::from(template)
    );
    let mut problems = Problems::new();
    let files = [(Path::new("prompts/p/1.0.0.toml"), file.as_str())];
    let prompts = Prompts::parse(files, None, &mut problems);
    let Ok(prompt) = prompts.find("p", &Wanted::Unsaid) else {
        assert!(!problems.is_empty(), "what is not read has a reason");
        return;
    };
    let given: Map<String, Value> = serde_json::from_str(variables).unwrap_or_default();
    match prompt.render(given) {
        Ok(rendered) => {
            let bytes: usize = rendered.messages.iter().map(|message| message.text.len()).sum();
            assert!(bytes <= tidegate::prompt::Prompt::MAX_RENDERED_BYTES);
        }
        Err(RenderError::TooLong) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A file of this thread's own.
fn written(bytes: &[u8]) -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder"));
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, bytes).expect("written");
        file
    })
}

/// A configuration.
pub(crate) fn config(bytes: &[u8]) {
    let environment = Environment::fixed([("KEY", SECRET)]);
    let source = Source { file: Some(written(bytes)), ..Source::environment(environment) };
    let said = match load(&source, None) {
        Ok(snapshot) => format!("{snapshot:?}"),
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.to_string()
        }
    };
    assert!(!said.contains(SECRET), "a secret is shown");
}

/// A suite of promptfoo's, its assertions included.
pub(crate) fn suite(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut problems = Problems::new();
    let files = [(PathBuf::from("suite.yaml"), text.to_owned())];
    let Some(suite) = Suite::parse("suite", &files, &mut problems) else {
        assert!(!problems.is_empty(), "what is not read has a reason");
        return;
    };
    let answer = Answer { text: "An answer: {\"a\": 1}".to_owned(), ..Answer::default() };
    for case in suite.cases.iter().take(MAX_CASES) {
        for prompt in 0..suite.prompts.len().min(MAX_CASES) {
            let _ = suite.question(prompt, &case.vars);
        }
        case.grade(&answer, "A question?", &|_| None, Default::default());
    }
}

/// A folder with one file. What that refers to is not there.
struct One<'a> {
    name: &'a str,
    text: &'a str,
}

impl Files for One<'_> {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        match path == Path::new(self.name) {
            true => Ok(self.text.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&mut self, _folder: &Path) -> io::Result<Vec<(String, bool)>> {
        Ok(vec![(self.name.to_owned(), false)])
    }
}

/// Tests in a file beside a suite: CSV, JSON Lines, YAML.
pub(crate) fn table(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    for name in ["tests.csv", "tests.jsonl", "tests.yaml"] {
        let suite =
            json!({ "prompts": ["{{ a }}"], "tests": format!("file://{name}") }).to_string();
        let inlined = suite::inline_files(&suite, &mut One { name, text });
        if inlined.wrong.is_empty() {
            let mut problems = Problems::new();
            let files = [(PathBuf::from("suite.yaml"), inlined.text)];
            Suite::parse("suite", &files, &mut problems);
        }
    }
}

/// A text that is recorded.
pub(crate) fn redact(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let redacted = suite::redact(text);
    assert!(redacted.len() <= 2 * text.len() + 16, "it grew: {redacted}");
    let secret = "abcdefghijkl0123456789";
    if !text.contains(secret) {
        let keyed = format!("{text} sk-{secret} ");
        assert!(!suite::redact(&keyed).contains(secret), "a key stays in {keyed}");
    }
}

/// When something happens.
pub(crate) fn cron(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(schedule) = Schedule::parse(text) else { return };
    let mut at = 1_700_000_000_000;
    for _ in 0..3 {
        let Some(next) = schedule.next_after(at) else { return };
        assert!(next > at, "{text}: {next} is not after {at}");
        at = next;
    }
}

/// Where a webhook goes.
pub(crate) fn receiver(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(receiver) = text.parse::<Receiver>() else { return };
    let again = receiver.to_string().parse::<Receiver>();
    assert_eq!(again.as_ref(), Ok(&receiver), "{receiver}");
    if receiver.check(&[]).is_ok() {
        assert!(receiver.https, "{receiver}");
        if let Ok(address) = receiver.host.parse() {
            assert!(is_public(address), "{receiver}");
        }
    }
    assert!(receiver.path.bytes().all(|byte| byte.is_ascii_graphic()), "{receiver}");
}

//! Forms of words that are one where another text says so: a verb beside "does", a noun of any
//! number.

use std::borrow::Cow;

use super::contents::{Article, Content, Reading};
use super::tables;

/// A reading with those words changed that stand in another form in the other reading.
pub(super) fn of<'a>(reading: &'a Reading, other: &Reading) -> Cow<'a, Reading> {
    let mut changed = Cow::Borrowed(reading);
    let verbs = !reading.does && other.does;
    let general = is_general(reading) && is_general(other);
    if !verbs && !general {
        return changed;
    }
    for (n, content) in reading.contents.iter().enumerate() {
        let Some(bare) = content.key.strip_suffix('s').map(tables::cut_ending) else { continue };
        let verb = verbs
            && n > 0
            && is_last(&reading.contents, n)
            && !is_last(&reading.contents, n - 1)
            && has(other, &bare, |_| true);
        let noun = general
            && content.article == Article::Bare
            && is_last(&reading.contents, n)
            && !has(reading, &bare, |_| true)
            && has(other, &bare, |there| {
                other.contents.get(there).is_some_and(|c| c.article == Article::Indefinite)
                    && is_last(&other.contents, there)
            });
        if (verb || noun)
            && let Some(content) = changed.to_mut().contents.get_mut(n)
        {
            content.key = bare;
        }
    }
    changed
}

/// Whether a text only asks what something is or how it is done. Then "an egg" is any egg, and
/// "eggs" are too; but "can I bring a guest" is not "can I bring guests".
fn is_general(reading: &Reading) -> bool {
    reading.asks.len() == 1
        && ["@how", "@what", "@why"].iter().any(|ask| reading.asks.contains(*ask))
}

/// Whether the words that stand together end with this one.
fn is_last(contents: &[Content], n: usize) -> bool {
    let run = |n: usize| contents.get(n).map(|content| content.run);
    run(n + 1) != run(n)
}

fn has(reading: &Reading, key: &str, at: impl Fn(usize) -> bool) -> bool {
    reading.contents.iter().enumerate().any(|(n, content)| content.key == key && at(n))
}

/// Whether the first is only the heading of what the other asks: "flu symptoms" for "what are the
/// symptoms of the flu?"
pub(super) fn is_heading(heading: &Reading, question: &Reading) -> bool {
    heading.asks.is_empty()
        && heading.clauses == 1
        && heading.persons.is_empty()
        && heading.contents.len() > 1
        && question.clauses == 1
        && question.asks.len() == 1
        && question.asks.contains("@what")
        && !question.auxiliary
        && !heading.auxiliary
}

//! Settles what a whole text asks, once all of its words are read.

use super::contents::{Article, Content, Kind, Reading};
use super::language::Language;

/// Makes one of ways to ask that say the same. `cost` is the key of the word "cost".
pub(super) fn settle(reading: &mut Reading, language: Language, cost: &str) {
    // "How much does it cost" is "what does it cost".
    let costs = reading.contents.iter().any(|content| content.key == cost);
    if costs && reading.asks.remove("@howmuch") {
        reading.asks.insert("@what".to_owned());
    }
    // "Is my boss allowed to" is "can my boss".
    if ["@can", "@should", "@must"].iter().any(|ask| reading.asks.contains(*ask)) {
        reading.asks.remove("@whether");
        reading.asks.remove("@is");
    }
    // "Wie ich es kündigen kann" is "wie kann ich es kündigen".
    if language == Language::German && reading.asks.contains("@how") {
        reading.asks.remove("@can");
    }
    settle_indirect(reading);
    drop_mean(reading);
}

/// "Do you know if the shop is open" is "is the shop open", "... if it opens" is "does it open".
fn settle_indirect(reading: &mut Reading) {
    let modal = ["@can", "@should", "@must", "@future", "@would"];
    let is_modal = modal.iter().any(|ask| reading.asks.contains(*ask));
    if reading.asks.remove("@yesno") && !is_modal {
        reading.asks.insert(if reading.be { "@is" } else { "@whether" }.to_owned());
    }
}

/// "What does inflation mean" is "what is inflation"; but "what does my result mean" is not "what
/// is my result", and "what does it mean in French" asks for a word.
fn drop_mean(reading: &mut Reading) {
    let is_mean = |content: &Content| content.floats && content.key == "mean";
    let plain = |content: &Content| {
        content.article != Article::Definite
            && content.link.is_empty()
            && content.kind != Kind::Quote
            && !content.condition
    };
    let alone = reading.asks.len() == 1 && reading.asks.contains("@what");
    if alone
        && reading.persons.is_empty()
        && reading.contents.len() > 1
        && reading.contents.iter().all(|content| is_mean(content) || plain(content))
    {
        reading.contents.retain(|content| !is_mean(content));
    }
}

//! What changed between two versions, and whether the number says so.
//!
//! | changed | number |
//! |---|---|
//! | the family of `target_model` | MAJOR |
//! | `target_model` within the family, messages added or removed, their roles, variables, tools, response format | MINOR |
//! | wording, parameters | PATCH |
//!
//! A number may step further than it must: whoever counts on `^1.2` is not surprised by a 2.0.0.
//! One that steps less is refused with what changed.

use super::{Prompt, Version};

/// How far a version is from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It says the same.
    Nothing,
    /// Another wording.
    Patch,
    /// Another structure.
    Minor,
    /// Another model family.
    Major,
}

// === impl Change ===

impl Change {
    /// What changed from `before` to `after`: the most that did, and all of it in words.
    pub fn between(before: &Prompt, after: &Prompt) -> (Self, Vec<&'static str>) {
        let mut change = Self::Nothing;
        let mut what = Vec::new();
        let mut note = |is: Self, differs: bool, words: &'static str| {
            if differs {
                change = change.max(is);
                what.push(words);
            }
        };
        let other_family = before.family() != after.family();
        note(Self::Major, other_family, "the model family of `target_model`");
        let other_target = !other_family && before.target_model != after.target_model;
        note(Self::Minor, other_target, "`target_model`");
        let other_count = before.roles.len() != after.roles.len();
        note(Self::Minor, other_count, "the number of messages");
        let other_roles = !other_count && before.roles != after.roles;
        note(Self::Minor, other_roles, "the roles of messages");
        note(Self::Minor, before.variables() != after.variables(), "`variables`");
        note(Self::Minor, before.tools != after.tools, "`tools`");
        note(Self::Minor, before.response_format != after.response_format, "`response_format`");
        note(Self::Patch, !other_count && before.sources != after.sources, "the wording");
        note(Self::Patch, before.parameters != after.parameters, "`parameters`");
        (change, what)
    }

    /// How far a number is from the one before it.
    pub fn of_numbers(before: Version, after: Version) -> Self {
        if before.major != after.major {
            Self::Major
        } else if before.minor != after.minor {
            Self::Minor
        } else if before.patch != after.patch {
            Self::Patch
        } else {
            Self::Nothing
        }
    }

    /// The least number that says it, after `before`.
    pub fn after(self, before: Version) -> Version {
        match self {
            Self::Nothing => before,
            Self::Patch => Version::new(before.major, before.minor, before.patch.saturating_add(1)),
            Self::Minor => Version::new(before.major, before.minor.saturating_add(1), 0),
            Self::Major => Version::new(before.major.saturating_add(1), 0, 0),
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "no",
            Self::Patch => "PATCH",
            Self::Minor => "MINOR",
            Self::Major => "MAJOR",
        }
    }
}

// === impl Prompt ===

impl Prompt {
    /// The family of the model it was written for.
    pub(super) fn family(&self) -> Option<&str> {
        self.target_model.as_deref().map(family_of)
    }
}

/// Why `after` may not be the number of what follows `before`; nothing where it may.
pub(super) fn contradiction(before: &Prompt, after: &Prompt) -> Option<String> {
    let (change, what) = Change::between(before, after);
    let step = Change::of_numbers(before.version, after.version);
    if change == Change::Nothing && step == Change::Patch {
        return Some(format!("says the same as {}; leave one of them out", before.version));
    }
    (step < change).then(|| {
        let least = change.after(before.version);
        format!(
            "{} follows {}, but {} changed, which is a {} change: number it {least} or higher",
            after.version,
            before.version,
            what.join(" and "),
            change.as_str(),
        )
    })
}

/// The family of a model: the words of its name before the first that holds a digit.
/// `openai/gpt-5-mini` is of `gpt`, `anthropic/claude-sonnet-4-6` of `claude-sonnet`. Who serves it
/// does not count.
fn family_of(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let end = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let family = name.get(..end).unwrap_or(name).trim_end_matches(['-', '_', '.', ':', '@']);
    if family.is_empty() { name } else { family }
}

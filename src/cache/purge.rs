//! Which kept answers are to be forgotten.

use serde::{Deserialize, Serialize};

use super::Owner;

/// Which kept answers are to be forgotten: those of which everything holds that is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Purge {
    /// Of keys of this team.
    pub team: Option<String>,
    /// Of this key.
    pub caller: Option<String>,
    /// Of this route.
    pub route: Option<String>,
    /// Of requests with this tag: its name and its value.
    pub tag: Option<(String, String)>,
    /// Of this registered prompt, `id` or `id@version`.
    pub prompt: Option<String>,
}

// === impl Purge ===

impl Purge {
    /// Whether it is about everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is about the answers of this owner.
    pub fn is_about(&self, owner: &Owner) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let prompt = owner.prompt.as_deref();
        let id = prompt.and_then(|prompt| prompt.split_once('@')).map(|(id, _)| id);
        is(&self.team, owner.team.as_ref().map(|team| team.as_str()))
            && is(&self.caller, Some(owner.caller.as_str()))
            && is(&self.route, Some(owner.route.as_str()))
            && self.tag.as_ref().is_none_or(|tag| owner.tags.contains(tag))
            && (is(&self.prompt, prompt) || is(&self.prompt, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CallerId, RouteName, TeamId};

    #[test]
    fn a_purge_is_about_what_has_all_that_it_names() {
        let owner = Owner {
            team: Some(TeamId::new("t")),
            caller: CallerId::new("c"),
            route: RouteName::new("r"),
            prompt: Some("support@1.2.0".to_owned()),
            tags: vec![("env".to_owned(), "prod".to_owned())],
        };
        let some = |text: &str| Some(text.to_owned());
        let tag = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        let all = Purge::default;
        let cases = [
            (all(), true),
            (Purge { team: some("t"), ..all() }, true),
            (Purge { team: some("x"), ..all() }, false),
            (Purge { caller: some("c"), route: some("r"), ..all() }, true),
            (Purge { caller: some("c"), route: some("x"), ..all() }, false),
            (Purge { tag: tag("env", "prod"), ..all() }, true),
            (Purge { tag: tag("env", "test"), ..all() }, false),
            (Purge { prompt: some("support"), ..all() }, true),
            (Purge { prompt: some("support@1.2.0"), ..all() }, true),
            (Purge { prompt: some("support@1.2.1"), ..all() }, false),
            (Purge { prompt: some("supp"), ..all() }, false),
        ];
        for (purge, wanted) in cases {
            assert_eq!(purge.is_about(&owner), wanted, "{purge:?}");
        }
        let alone = Owner { team: None, prompt: None, ..owner };
        assert!(!Purge { team: some("t"), ..all() }.is_about(&alone));
        assert!(!Purge { prompt: some("support"), ..all() }.is_about(&alone));
    }
}

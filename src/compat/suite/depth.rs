//! Which cases are asked.

use super::Case;
use crate::compat::{Category, Depth};

/// How many of each category are asked of a mere rewording, besides the marked ones.
const FEW: usize = 3;

pub(super) fn chosen<'a>(cases: &'a [Case], depth: Depth, touched: &[String]) -> Vec<&'a Case> {
    let few = few(cases);
    let is_smoke =
        |case: &Case| case.is_critical || case.is_smoke || few.contains(&case.id.as_str());
    let is_chosen = |case: &&Case| match depth {
        Depth::Full => true,
        // Whoever passes more cases has passed the few.
        Depth::Targeted => is_smoke(case) || is_targeted(case, touched),
        Depth::Smoke => is_smoke(case),
    };
    cases.iter().filter(is_chosen).collect()
}

fn is_targeted(case: &Case, touched: &[String]) -> bool {
    let is_touched =
        || touched.iter().any(|name| case.vars.contains_key(name) || case.tags.contains(name));
    let is_core = match case.category {
        Category::Functional | Category::Semantic => true,
        Category::Edge | Category::Performance => false,
    };
    is_core || is_touched()
}

/// The cases of each category whose ids have the least hashes: a drawing that another case changes
/// only by being drawn itself.
fn few(cases: &[Case]) -> Vec<&str> {
    let all = [Category::Functional, Category::Semantic, Category::Edge, Category::Performance];
    let of = |category: Category| {
        let mut drawn: Vec<_> = cases
            .iter()
            .filter(|case| case.category == category)
            .map(|case| (*blake3::hash(case.id.as_bytes()).as_bytes(), case.id.as_str()))
            .collect();
        drawn.sort_unstable();
        drawn.truncate(FEW);
        drawn
    };
    all.into_iter().flat_map(of).map(|(_, id)| id).collect()
}

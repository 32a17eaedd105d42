//! Whether two texts of the same contents put them in the same order and relation.

use super::Difference;
use super::contents::Content;

/// Compares texts whose contents are the same, in whatever order.
///
/// Every two contents must follow each other as they do in the other text, except where an order
/// means nothing:
///
/// - between equals: "TCP and UDP", "UDP and TCP";
/// - between a condition and what it conditions;
/// - where one is only added to the other, by a preposition that a compound does not need ("the
///   capital of France", "the France capital") or from the front ("in France, what is the capital").
pub(super) fn agree(left: &[Content], right: &[Content]) -> Result<(), Difference> {
    let places = pair(left, right).ok_or(Difference::Word)?;
    let pairs: Vec<(&Content, usize, &Content)> =
        left.iter().zip(&places).filter_map(|(a, n)| Some((a, *n, right.get(*n)?))).collect();
    let ors = |contents: &[Content]| contents.iter().filter(|c| c.join == "or").count();
    if ors(left) != ors(right) {
        return Err(Difference::Relation);
    }
    for (n, (a, place, b)) in pairs.iter().enumerate() {
        if a.condition != b.condition {
            return Err(Difference::Order);
        }
        let moved = *place != n;
        if !related(&a.link, &b.link, moved || a.floats || b.floats) {
            return Err(Difference::Relation);
        }
        for (c, other, d) in pairs.iter().take(n) {
            if other > place && !may_swap((c, a), (d, b), (n, *place)) {
                return Err(Difference::Order);
            }
        }
    }
    Ok(())
}

/// For each content of the left the place of its partner on the right.
fn pair(left: &[Content], right: &[Content]) -> Option<Vec<usize>> {
    let mut taken = vec![false; right.len()];
    let mut places = Vec::with_capacity(left.len());
    for content in left {
        let free = |(n, other): &(usize, &Content)| {
            other.key == content.key && !taken.get(*n).copied().unwrap_or(true)
        };
        let (place, _) = right.iter().enumerate().find(free)?;
        *taken.get_mut(place)? = true;
        places.push(place);
    }
    Some(places)
}

/// Whether two contents, the first and the second on the left, may change places on the right.
fn may_swap(
    (first, second): (&Content, &Content),
    (first_there, second_there): (&Content, &Content),
    _at: (usize, usize),
) -> bool {
    if first.floats || second.floats || first_there.floats || second_there.floats {
        return true;
    }
    if first.condition != second.condition {
        return true;
    }
    // Joined to each other here and there.
    if !second.join.is_empty() && !first_there.join.is_empty() {
        return true;
    }
    let bare = |a: &Content, b: &Content| a.link.is_empty() && b.link.is_empty();
    let added = |a: &Content, b: &Content| {
        is_loose(&a.link) && is_loose(&b.link) && !(a.link.is_empty() && b.link.is_empty())
    };
    (bare(first, first_there) && added(second, second_there))
        || (bare(second, second_there) && added(first, first_there))
}

/// Prepositions that a compound does without.
fn is_loose(link: &str) -> bool {
    matches!(link, "" | "in" | "on" | "at" | "of" | "for")
}

/// Whether one preposition may stand for the other.
fn related(a: &str, b: &str, moved: bool) -> bool {
    if a == b {
        return true;
    }
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    matches!(
        (a, b),
        ("at", "in") | ("at", "on") | ("in", "on") | ("in", "of") | ("of", "on") | ("for", "of")
            | ("for", "on") | ("for", "in") | ("using", "with") | ("in", "with") | ("in", "using")
            | ("about", "regarding") | ("about", "on") | ("into", "to") | ("to", "onto")
            | ("via", "with") | ("using", "via") | ("by", "via") | ("as", "of") | ("in", "into")
    ) || (moved && a.is_empty() && is_loose(b))
}

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
/// - where one is added to the other by a preposition that a compound does not need: "the capital
///   of France", "the France capital";
/// - between two that have prepositions of their own: "from the airport to the city";
/// - where one is set before the question: "in France, what is the capital".
pub(super) fn agree(left: &[Content], right: &[Content]) -> Result<(), Difference> {
    let places = pair(left, right).ok_or(Difference::Word)?;
    let pairs: Vec<(&Content, usize, &Content)> =
        left.iter().zip(&places).filter_map(|(a, n)| Some((a, *n, right.get(*n)?))).collect();
    let ors = |contents: &[Content]| contents.iter().filter(|c| c.join == "or").count();
    if ors(left) != ors(right) {
        return Err(Difference::Relation);
    }
    for (n, (a, place, b)) in pairs.iter().enumerate() {
        let swapped = |(c, other, d): &&(&Content, usize, &Content)| {
            other > place && !may_swap((c, a), (d, b))
        };
        if a.condition != b.condition || pairs.iter().take(n).any(|pair| swapped(&pair)) {
            return Err(Difference::Order);
        }
    }
    let related = pairs
        .iter()
        .enumerate()
        .all(|(n, (a, place, b))| related(&a.link, &b.link, *place != n || a.floats || b.floats));
    if related { Ok(()) } else { Err(Difference::Relation) }
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
) -> bool {
    [first, second, first_there, second_there].iter().any(|content| content.floats)
        || first.condition != second.condition
        || joined(first, second) && joined(second_there, first_there)
        || first.front != first_there.front && first.front != second.front
        || second.front != second_there.front && second_there.front != first_there.front
        || placed(first, first_there) && placed(second, second_there) && first.run != second.run
        || compound(first, second, first_there, second_there)
        || compound(second_there, first_there, second, first)
}

/// Whether the second is joined to the first by "and" or its like, or the words that it stands
/// with.
const fn joined(first: &Content, second: &Content) -> bool {
    second.run == first.run + 1 && !second.join.is_empty()
}

/// Whether a content has a preposition that tells its part wherever it stands, and the same one
/// there.
fn placed(here: &Content, there: &Content) -> bool {
    here.link == there.link && !matches!(here.link.as_str(), "" | "of" | "as" | "by")
}

/// Whether what is "a capital of France" here is "a France capital" there.
fn compound(head: &Content, added: &Content, head_there: &Content, added_there: &Content) -> bool {
    added.run == head.run + 1
        && !added.link.is_empty()
        && is_loose(&added.link)
        && head_there.run == added_there.run
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
    matches!((a, b), ("using", "with") | ("into", "to") | ("about", "regarding") | ("using", "via"))
        || (moved && a.is_empty() && is_loose(b))
}

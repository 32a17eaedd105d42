//! Places of targets in their tiers, and an order of them by weight alone; `rank` draws by scores, too.
//!
//! Tiers first: a later tier is for when an earlier one cannot serve. Within a tier the order is
//! drawn by weight without replacement (Efraimidis and Spirakis, "Weighted random sampling with a
//! reservoir", 2006: sort by `u^(1/w)`), so that over many requests each target comes first as often
//! as its weight says, and what follows a failure is spread by weight too.

/// A place in the tiers of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tier, from 0.
    pub tier: usize,
    /// The target within the tier, from 0.
    pub index: usize,
}

/// Draws an order over all targets. `weights` are those of each tier's targets; a weight of 0 counts
/// as 1. `random` yields numbers uniform in 0..1.
pub fn draw<'a>(
    weights: impl IntoIterator<Item = &'a [u32]>,
    mut random: impl FnMut() -> f64,
) -> Vec<Place> {
    let mut order = Vec::new();
    for (tier, weights) in weights.into_iter().enumerate() {
        if let [_] = weights {
            order.push(Place { tier, index: 0 });
            continue;
        }
        let mut keyed: Vec<(f64, usize)> = weights
            .iter()
            .enumerate()
            // ln(u)/w orders as u^(1/w) does, and does not underflow.
            .map(|(index, weight)| (random().ln() / f64::from((*weight).max(1)), index))
            .collect();
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
        order.extend(keyed.into_iter().map(|(_, index)| Place { tier, index }));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_lower_tier_never_comes_before_a_higher_one() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..100 {
            let order = draw([&[1, 9, 3][..], &[100]], || rng.random());
            assert_eq!(order.iter().map(|place| place.tier).collect::<Vec<_>>(), [0, 0, 0, 1]);
        }
    }

    #[test]
    fn each_target_comes_once() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut indexes: Vec<_> =
            draw([&[5, 1, 2, 2][..]], || rng.random()).iter().map(|place| place.index).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, [0, 1, 2, 3]);
    }

    #[test]
    fn the_first_place_goes_by_weight() {
        let mut rng = StdRng::seed_from_u64(3);
        let first = (0..10_000).filter(|_| draw([&[3, 1][..]], || rng.random())[0].index == 0);
        let share = first.count() as f64 / 10_000.0;
        assert!((0.735..0.765).contains(&share), "{share} of the requests for 3 of 4 parts");
    }
}

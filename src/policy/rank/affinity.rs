//! Which target a key prefers, so that all gateways agree without sharing anything.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit
//! rates", 1998; the weighting by logarithm is Schindelhauer and Schomaker, "Weighted distributed
//! hash tables", 2005): each target draws a number from the key and its own name, the best wins.
//! When a target goes, only its own keys move.
//!
//! The preference is a discount on the score, not an order: see `Settings::sticky_factor`.

/// Hashes a routing key or a target's name. The same everywhere and for ever: FNV-1a with the
/// finaliser of SplitMix64. Not for secrets, and not safe against keys chosen to collide, which
/// here can only make a caller's own requests share a target.
pub fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(folded)
}

/// The index of the target that `key` prefers, from each target's hash and weight; a weight of 0
/// counts as 1. `None` if there are no targets. Give it all targets of the tier, not only those
/// that are well, or keys move with every hiccup.
pub fn preferred(key: u64, targets: impl IntoIterator<Item = (u64, u32)>) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (index, (target, weight)) in targets.into_iter().enumerate() {
        // In 0..1, open at both ends, from the upper 53 bits.
        let drawn = ((mix(key ^ target.rotate_left(32)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let value = -f64::from(weight.max(1)) / drawn.ln();
        if best.is_none_or(|(highest, _)| value > highest) {
            best = Some((value, index));
        }
    }
    best.map(|(_, index)| index)
}

fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<(u64, u32)> {
        ["a/m", "b/m", "c/m", "d/m"]
            .iter()
            .zip([1, 1, 2, 4])
            .map(|(n, w)| (hash(n.as_bytes()), w))
            .collect()
    }

    fn choices(targets: &[(u64, u32)]) -> Vec<usize> {
        (0..20_000)
            .map(|n| {
                preferred(hash(format!("user-{n}").as_bytes()), targets.iter().copied()).unwrap()
            })
            .collect()
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let chosen = choices(&targets());
        for (index, expected) in [0.125, 0.125, 0.25, 0.5].into_iter().enumerate() {
            let share = chosen.iter().filter(|c| **c == index).count() as f64 / 20_000.0;
            assert!((share - expected).abs() < 0.012, "{index}: {share} instead of {expected}");
        }
    }

    #[test]
    fn only_the_keys_of_a_target_that_goes_move() {
        let all = choices(&targets());
        let rest = choices(&targets()[..3]);
        assert!(all.iter().zip(&rest).all(|(before, after)| *before == 3 || before == after));
    }

    #[test]
    fn a_key_prefers_the_same_target_in_every_release() {
        let key = hash(b"conversation-42");
        assert_eq!(key, 0x0131_0681_886a_9362);
        assert_eq!(preferred(key, targets()), Some(2));
        assert_eq!(preferred(key, []), None);
    }
}

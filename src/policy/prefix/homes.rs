//! Where a request is at home.

use crate::policy::rank;

/// When a target is somebody's home.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// c: how many times the mean load of those that serve the same model a home may carry.
    pub bound: f64,
    /// Requests at a time that a home may always carry: below, waiting costs less than reading
    /// anew.
    pub min_in_flight: u32,
    /// How many standard deviations above the bound the load of a moment may be, as that of
    /// requests that come independently of each other.
    pub deviations: f64,
    /// Requests of late that a home of what nobody holds may always have had.
    pub min_recent: f64,
    /// How much more of a prompt a target must hold than another for that to count, 0 to 1.
    pub min_advantage: f64,
}

/// What is known of a target, for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resident {
    /// Whether it can be asked.
    pub is_ready: bool,
    /// Those with the same number serve the same model, and can stand in for each other.
    pub kind: usize,
    /// h: the part of the prompt that it holds, 0 to 1.
    pub cached_share: f64,
    /// Its name's hash; see [`rank::hash`].
    pub hash: u64,
    /// Its weight; 0 counts as 1.
    pub weight: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Requests of late.
    pub recent: f64,
}

/// What a target is to a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Home {
    /// One of several.
    #[default]
    No,
    /// Nobody holds more of the prompt than others, and of those that serve the model this is where
    /// it shall be held.
    Cold,
    /// It holds more of the prompt than another, and none holds more.
    Warm,
    /// It carries more than its bound of the load, so that it is nobody's home.
    Crowded,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { bound: 1.25, min_in_flight: 2, deviations: 2.0, min_recent: 4.0, min_advantage: 0.1 }
    }
}

/// What each target is to a request with this key, in their order. Where only one target serves a
/// model it is nobody's home: what its cache is worth is in its price and its time.
pub fn homes(key: u64, residents: &[Resident], settings: &Settings) -> rank::Few<Home> {
    let mut homes: rank::Few<Home> = residents.iter().map(|_| Home::No).collect();
    for (first, resident) in residents.iter().enumerate() {
        let is_first = !residents.iter().take(first).any(|other| other.kind == resident.kind);
        if is_first {
            of_kind(key, residents, resident.kind, settings, &mut homes);
        }
    }
    homes
}

fn of_kind(key: u64, residents: &[Resident], kind: usize, settings: &Settings, homes: &mut [Home]) {
    let ready =
        || residents.iter().enumerate().filter(|(_, other)| other.kind == kind && other.is_ready);
    let (mut count, mut weight, mut in_flight, mut recent) = (0_u32, 0.0, 0.0, 0.0);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for (_, other) in ready() {
        count += 1;
        weight += of_weight(other);
        in_flight += f64::from(other.in_flight);
        recent += other.recent;
        least = least.min(other.cached_share);
    }
    if count < 2 {
        return;
    }
    let bound =
        |all: f64, other: &Resident| settings.bound * (all + 1.0) * of_weight(other) / weight;
    let has_room = |other: &Resident| {
        let most = bound(recent, other).max(settings.min_recent);
        other.recent + 1.0 <= most
    };
    let is_crowded = |other: &Resident| {
        let most = bound(in_flight, other);
        let now = f64::from(other.in_flight) + 1.0;
        // Requests come by chance: a moment above the bound is no imbalance, unless it lasts, or is
        // more than chance explains.
        let is_above = now > most.ceil().max(f64::from(settings.min_in_flight));
        is_above && (!has_room(other) || now > most + settings.deviations * most.sqrt())
    };
    for (at, other) in ready() {
        if is_crowded(other) {
            set(homes, at, Home::Crowded);
        } else {
            most = most.max(other.cached_share);
        }
    }
    let free = || ready().filter(|(_, other)| !is_crowded(other));
    let chosen = |among: &[(usize, &Resident)]| {
        let best = rank::preferred(key, among.iter().map(|(_, other)| (other.hash, other.weight)));
        best.and_then(|best| among.get(best)).map(|(at, _)| *at)
    };
    if most - least >= settings.min_advantage {
        // Of those that hold about as much, all gateways choose the same.
        let warm: Vec<_> = free()
            .filter(|(_, other)| other.cached_share > most - settings.min_advantage)
            .collect();
        if let Some(at) = chosen(&warm) {
            set(homes, at, Home::Warm);
        }
        return;
    }
    let cold: Vec<_> = free().filter(|(_, other)| has_room(other)).collect();
    if let Some(at) = chosen(&cold) {
        set(homes, at, Home::Cold);
    }
}

fn of_weight(resident: &Resident) -> f64 {
    f64::from(resident.weight.max(1))
}

fn set(homes: &mut [Home], at: usize, home: Home) {
    if let Some(slot) = homes.get_mut(at) {
        *slot = home;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> [Resident; 4] {
        [1, 2, 3, 4].map(|n: u64| Resident {
            is_ready: true,
            hash: rank::hash(&n.to_le_bytes()),
            weight: 1,
            ..Resident::default()
        })
    }

    fn of(key: u64, residents: &[Resident]) -> Vec<Home> {
        homes(key, residents, &Settings::default()).to_vec()
    }

    #[test]
    fn what_nobody_holds_has_the_same_home_everywhere_and_all_are_used_alike() {
        let mut counts = [0; 4];
        for n in 0..4_000_u64 {
            let key = rank::hash(&n.to_le_bytes());
            let homes = of(key, &four());
            assert_eq!(homes, of(key, &four()));
            let cold: Vec<_> = (0..4).filter(|at| homes[*at] == Home::Cold).collect();
            assert_eq!(cold.len(), 1);
            counts[cold[0]] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn who_holds_the_prompt_is_home() {
        for at in 0..4 {
            let mut residents = four();
            residents[at].cached_share = 0.6;
            residents[(at + 1) % 4].cached_share = 0.3;
            let homes = of(99, &residents);
            assert_eq!(homes[at], Home::Warm);
            assert_eq!(homes.iter().filter(|home| **home == Home::No).count(), 3);
        }
    }

    #[test]
    fn who_carries_more_than_its_bound_is_nobodys_home() {
        let mut residents = four();
        residents[0].cached_share = 0.9;
        for (loads, at_the_moment, for_long) in [
            ([1, 0, 0, 0], Home::Warm, Home::Warm),
            ([2, 0, 0, 0], Home::Crowded, Home::Crowded),
            ([4, 4, 4, 4], Home::Warm, Home::Warm),
            ([7, 4, 4, 4], Home::Warm, Home::Crowded),
            ([15, 4, 4, 4], Home::Crowded, Home::Crowded),
            ([49, 40, 40, 40], Home::Warm, Home::Warm),
            ([60, 40, 40, 40], Home::Warm, Home::Crowded),
            ([90, 40, 40, 40], Home::Crowded, Home::Crowded),
        ] {
            for (recent, expected) in [(100.0, at_the_moment), (200.0, for_long)] {
                residents.iter_mut().for_each(|resident| resident.recent = 100.0);
                residents[0].recent = recent;
                residents.iter_mut().zip(loads).for_each(|(other, load)| other.in_flight = load);
                assert_eq!(of(7, &residents)[0], expected, "{loads:?} {recent}");
            }
        }
    }

    #[test]
    fn what_nobody_holds_goes_where_less_was_sent_of_late() {
        let key = (0..).map(|n: u64| rank::hash(&n.to_le_bytes()));
        for key in key.take(100) {
            let mut residents = four();
            residents.iter_mut().for_each(|resident| resident.recent = 100.0);
            residents[2].recent = 140.0;
            assert_ne!(of(key, &residents)[2], Home::Cold);
            residents[2].cached_share = 0.9;
            assert_eq!(of(key, &residents)[2], Home::Warm, "what it holds it keeps");
        }
    }

    #[test]
    fn only_those_who_serve_the_same_model_and_are_ready_are_homes() {
        let mut residents = four();
        residents.iter_mut().zip(0..).for_each(|(resident, kind)| resident.kind = kind);
        residents[1].cached_share = 0.9;
        assert_eq!(of(3, &residents), [Home::No; 4]);
        let mut residents = four();
        residents.iter_mut().skip(1).for_each(|resident| resident.is_ready = false);
        assert_eq!(of(3, &residents), [Home::No; 4]);
        residents[1].is_ready = true;
        residents[1].weight = 1_000_000;
        assert_eq!(of(3, &residents)[1], Home::Cold, "by weight");
        assert_eq!(of(3, &[]), []);
    }
}

//! What a count of errors proves about the rate behind it: the bound of Clopper and Pearson.
//!
//! C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
//! case of the binomial", Biometrika 26 (1934). The upper bound is the rate at which so few errors,
//! or fewer, would be seen with a chance of only `1 - confidence`. It is exact: never too low,
//! whatever the rate and however few the observations. That chance is a regularised incomplete beta
//! function, evaluated by its continued fraction (Abramowitz and Stegun, 26.5.8).

/// Steps of a bisection of [0, 1]: as many as an `f64` has bits of precision, and a few.
const BISECTIONS: u32 = 60;

/// Terms of the continued fraction. It converges within about the root of the larger count: 5,000
/// is enough for 10 million.
const TERMS: u32 = 5_000;

/// The rate of errors that is not exceeded with this `confidence` (such as 0.95, one-sided) where
/// `errors` of `trials` were seen. 1 where nothing was tried, or where all were errors.
///
/// No error in 300 trials gives 0.0099.
pub fn upper(errors: u64, trials: u64, confidence: f64) -> f64 {
    if errors >= trials || confidence.is_nan() || confidence >= 1.0 {
        return 1.0;
    }
    let chance = 1.0 - confidence.max(0.0);
    if errors == 0 {
        // The closed form of what follows.
        return 1.0 - (chance.ln() / trials as f64).exp();
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..BISECTIONS {
        let rate = f64::midpoint(low, high);
        // P(at most `errors` of `trials`) falls as the rate grows.
        if at_most(errors, trials, rate) > chance { low = rate } else { high = rate }
    }
    high
}

/// How many trials without an error it takes to prove a rate of at most `rate`; none for a rate
/// that no number of trials proves.
pub fn trials_needed(rate: f64, confidence: f64) -> Option<u64> {
    let none = rate.is_nan() || rate <= 0.0 || confidence.is_nan() || confidence >= 1.0;
    if none {
        return None;
    }
    if rate >= 1.0 {
        return Some(0);
    }
    let trials = ((1.0 - confidence.max(0.0)).ln() / (1.0 - rate).ln()).ceil();
    Some(trials.max(1.0) as u64)
}

/// The chance of `errors` or fewer in `trials` at a rate between 0 and 1; `errors` below `trials`.
fn at_most(errors: u64, trials: u64, rate: f64) -> f64 {
    incomplete_beta((trials - errors) as f64, errors as f64 + 1.0, 1.0 - rate)
}

/// The regularised incomplete beta function: I_x(a, b) for positive a and b, and x in [0, 1].
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let scale = a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    // The fraction converges quickly on this side of the mean; the other is its mirror.
    if x < (a + 1.0) / (a + b + 2.0) {
        scale.exp() * beta_fraction(a, b, x) / a
    } else {
        1.0 - scale.exp() * beta_fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction of the incomplete beta function, by the method of Lentz.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    // Stands for a zero that would be divided by.
    const TINY: f64 = 1e-300;
    let solid = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = solid(1.0 - (a + b) * x / (a + 1.0)).recip();
    let mut fraction = d;
    for m in 1..=TERMS {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = solid(1.0 + term * d).recip();
            c = solid(1.0 + term / c);
            step = c * d;
            fraction *= step;
        }
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// The logarithm of the gamma function of a positive number: Stirling's series from 15 on, below
/// it by way of the recurrence. Good to 14 digits.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 15.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let square = (x * x).recip();
    let series = square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0));
    let tail = (1.0 / 12.0 - square * (1.0 / 360.0) + square * series) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + tail
}

#[cfg(test)]
mod tests;

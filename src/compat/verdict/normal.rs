//! The normal distribution and Student's, as far as bounds need them.

use std::f64::consts::TAU;

/// Steps of a bisection: as many as an `f64` has bits of precision, and a few.
const BISECTIONS: u32 = 60;
/// Beyond this the series below loses digits; the tail is under `1e-15` there.
const FAR: f64 = 8.0;

/// The chance of being below `x`.
///
/// Marsaglia, "Evaluating the normal distribution", Journal of Statistical Software 11 (2004): a
/// series that adds positive terms only.
pub(super) fn below(x: f64) -> f64 {
    if x.abs() > FAR || x.is_nan() {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    (0.5 + sum * density(x)).clamp(0.0, 1.0)
}

/// The density at `x`.
pub(super) fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / TAU.sqrt()
}

/// What is exceeded with the chance `level`, 0 to 1: 1.645 for 5 %.
pub(super) fn exceeded(level: f64) -> f64 {
    let (mut low, mut high) = (-FAR, FAR);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if 1.0 - below(middle) > level { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// What Student's distribution of so many degrees of freedom exceeds with the chance that the
/// normal one exceeds `z` with: wider bounds where a deviation is known from few cases.
///
/// Abramowitz and Stegun 26.7.5, good to three digits from five degrees on. With fewer than three
/// nothing can be said; three are reckoned with, and callers ask for more cases.
pub(super) fn student(z: f64, degrees: usize) -> f64 {
    let n = degrees.max(3) as f64;
    let square = z * z;
    let first = z * (square + 1.0) / 4.0;
    let second = z * (5.0 * square * square + 16.0 * square + 3.0) / 96.0;
    let third = z * (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) / 384.0;
    let fourth = z
        * ((((79.0 * square + 776.0) * square + 1_482.0) * square - 1_920.0) * square - 945.0)
        / 92_160.0;
    z + (first + (second + (third + fourth / n) / n) / n) / n
}

//! The rules one by one.

use super::*;

pub(super) fn standing() -> Standing {
    Standing {
        admission: Admission::Yes,
        success: 0.99,
        ttft_seconds: Some(0.5),
        token_seconds: Some(0.02),
        input_tokens: 1_000.0,
        output_tokens: 200.0,
        prices: Prices { input: 0.15e-6, cached: 0.075e-6, output: 0.6e-6 },
        cached_share: 0.0,
        in_flight: 0,
        limit: 100,
        is_self_hosted: false,
        headroom: 1.0,
        weight: 1,
        slow_start: 1.0,
        is_suspect: false,
        is_preferred: false,
    }
}

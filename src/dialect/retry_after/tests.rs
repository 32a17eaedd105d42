//! Every format of a pause.

use http::HeaderValue;

use super::*;

fn pause(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    of_headers(&pairs.iter().map(pair).collect())
}

#[test]
fn the_finest_header_counts() {
    assert_eq!(pause(&[]), None);
    assert_eq!(pause(&[("x-ratelimit-reset-requests", "6s")]), None);
    assert_eq!(pause(&[("retry-after", "1.5")]), Some(Duration::from_millis(1_500)));
    let both = [("retry-after", "1"), ("retry-after-ms", "174")];
    assert_eq!(pause(&both), Some(Duration::from_millis(174)));
    let one_is_broken = [("retry-after", "1"), ("retry-after-ms", "soon")];
    assert_eq!(pause(&one_is_broken), Some(Duration::from_secs(1)));
}

#[test]
fn a_date_is_read_against_the_answers_own() {
    let sent = "Wed, 21 Oct 2026 07:28:00 GMT";
    let pause_until = |then| pause(&[("retry-after", then), ("date", sent)]);
    let later = "Wed, 21 Oct 2026 07:29:30 GMT";
    assert_eq!(pause_until(later), Some(Duration::from_secs(90)));
    assert_eq!(pause_until("Wed, 21 Oct 2026 07:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(pause_until("next week"), None);
    assert_eq!(pause(&[("retry-after", later)]), None, "no time to compare it with");
}

#[test]
fn nonsense_is_no_pause() {
    for value in ["-1", "NaN", "inf", "1e300", "", "12 parsecs"] {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(pause(&[("retry-after", value), date]), None, "{value:?}");
        assert_eq!(pause(&[("retry-after-ms", value)]), None, "{value:?}");
    }
}

#[test]
fn a_protobuf_duration_is_read() {
    assert_eq!(protobuf("34s"), Some(Duration::from_secs(34)));
    assert_eq!(protobuf("0.25s"), Some(Duration::from_millis(250)));
    for nonsense in ["", "s", "34", "-3s", "1m", "NaNs"] {
        assert_eq!(protobuf(nonsense), None, "{nonsense:?}");
    }
}

//! Tables of retirements and of what may stand for a model.

use std::sync::Arc;

use super::*;
use crate::catalog::{Feature, Features, PriceSettings, Prices};

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

/// A chat model of this window and price; `retires` where it does.
fn model(name: &str, tokens: u64, price: &str, retires: &str) -> Arc<Model> {
    let prices: PriceSettings =
        serde_json::from_value(serde_json::json!({ "input": price, "output": price })).unwrap();
    Arc::new(Model {
        context_tokens: (tokens > 0).then_some(tokens),
        features: [Feature::Stream, Feature::Tools].into_iter().collect(),
        prices: Some(Prices::from(&prices)),
        retires_on: (!retires.is_empty()).then(|| day(retires)),
        listed: true,
        is_made_up: false,
        as_of: "2026-01-01".to_owned(),
        ..Model::unlisted(name)
    })
}

#[test]
fn a_retirement_says_when_and_how_long_that_is() {
    for (today, said, is_near, is_over) in [
        ("2026-11-21", "retires on 2026-12-11, in 20 days", true, false),
        ("2026-12-10", "retires on 2026-12-11, in 1 day", true, false),
        ("2026-12-11", "retires today, 2026-12-11", true, true),
        ("2026-12-12", "was retired on 2026-12-11, 1 day ago", true, true),
        ("2027-12-11", "was retired on 2026-12-11, 365 days ago", true, true),
        ("2026-09-12", "retires on 2026-12-11, in 90 days", true, false),
        ("2026-09-11", "retires on 2026-12-11, in 91 days", false, false),
        ("2024-02-28", "retires on 2026-12-11, in 1017 days", false, false),
    ] {
        let retirement = Retirement::seen_from(day(today), day("2026-12-11"));
        assert_eq!(retirement.to_string(), said);
        assert_eq!((retirement.is_near(), retirement.is_over()), (is_near, is_over), "{today}");
    }
}

#[test]
fn the_nearest_model_has_all_that_the_old_one_has_and_stays() {
    let today = day("2026-11-21");
    let old = model("old", 100_000, "1", "2026-12-11");
    let without_tools = Model {
        features: [Feature::Stream].into_iter().collect(),
        ..(*model("without-tools", 100_000, "1", "")).clone()
    };
    let embedding = Model { kind: ModelKind::Embedding, ..(*model("e", 100_000, "1", "")).clone() };
    let newer =
        Model { as_of: "2026-06-01".to_owned(), ..(*model("newer", 200_000, "2", "")).clone() };
    let unfit = [
        Arc::clone(&old),
        model("small", 99_999, "1", ""),
        model("unknown", 0, "1", ""),
        Arc::new(without_tools),
        Arc::new(embedding),
        model("goes-soon", 100_000, "1", "2027-02-19"),
        Arc::new(Model { features: Features::ALL, ..Model::unlisted("not-listed") }),
    ];
    assert_eq!(old.nearest_of(&unfit, today), None);
    let mut all = unfit.to_vec();
    let mut nearest_with = |name: &str, price| {
        all.push(model(name, 100_000, price, ""));
        old.nearest_of(&all, today).unwrap().name.as_str().to_owned()
    };
    assert_eq!(nearest_with("dear", "9"), "dear");
    assert_eq!(
        nearest_with("cheap", "0.2"),
        "cheap",
        "five times less is nearer than nine times more"
    );
    assert_eq!(nearest_with("fits", "2"), "fits");
    all.push(Arc::new(newer));
    assert_eq!(old.nearest_of(&all, today).unwrap().name.as_str(), "newer", "at the same price");

    let later = model("later", 100_000, "1", "2027-02-20");
    assert!(later.outlives(&old, today), "it goes in 91 days");
    let never = model("never", 100_000, "1", "");
    assert!(never.outlives(&never, today) && !old.outlives(&never, today));
}

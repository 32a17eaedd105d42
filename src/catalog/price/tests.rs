//! Tests of prices.

use proptest::prelude::*;

use super::*;

fn price(text: &str) -> UsdPerMillion {
    text.parse().unwrap()
}

fn prices(toml: &str) -> Prices {
    Prices::from(&toml::from_str::<PriceSettings>(toml).unwrap())
}

#[test]
fn money_is_rounded_once_for_the_whole_answer() {
    let prices = prices(
        "input = \"0.25\"\ncached_input = \"0.025\"\ncache_write = \"0.3125\"\noutput = \"2\"",
    );
    let usage = Usage { input: 1, cached_input: 1, cache_write: 1, output: 1, reasoning: 1 };
    // 0.25 + 0.025 + 0.3125 + 2 + 2 = 4.5875 micro-dollars; each part rounded alone gives 4.
    assert_eq!(prices.cost(&usage), MicroUsd(5));
    let much = Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() };
    assert_eq!(prices.cost(&much), MicroUsd(u64::MAX));
}

#[test]
fn half_a_micro_dollar_is_rounded_up() {
    let prices = prices("input = \"0.5\"\noutput = \"0.499999\"");
    assert_eq!(prices.cost(&Usage { input: 1, ..Usage::default() }), MicroUsd(1));
    assert_eq!(prices.cost(&Usage { output: 1, ..Usage::default() }), MicroUsd(0));
}

#[test]
fn what_is_not_priced_costs_what_is_nearest_to_it() {
    let few = prices("input = \"1\"\noutput = \"4\"").rates;
    assert_eq!(
        (few.cached_input, few.cache_write, few.reasoning),
        (price("1"), price("1"), price("4"))
    );
    let all = prices("input = \"1\"\noutput = \"4\"\nreasoning = \"6\"").rates;
    assert_eq!((all.output, all.reasoning), (price("4"), price("6")));
}

#[test]
fn a_long_prompt_has_prices_of_its_own_from_the_first_token_on() {
    let prices = prices(
        "input = \"1\"\ncached_input = \"0.1\"\noutput = \"4\"\nlong_prompt = { over_tokens = 200000, input = \"2\", output = \"6\" }",
    );
    let usage = |input, cached_input| Usage { input, cached_input, output: 10, ..Usage::default() };
    assert_eq!(prices.cost(&usage(200_000, 0)), MicroUsd(200_040));
    assert_eq!(prices.cost(&usage(200_001, 0)), MicroUsd(400_062));
    // Cached tokens make a prompt long as well, and cost what they do.
    assert_eq!(prices.cost(&usage(100_000, 100_001)), MicroUsd(200_000 + 10_000 + 60));
    assert_eq!(prices.long_prompt.unwrap().rates.reasoning, price("6"));
}

fn any_price() -> impl Strategy<Value = UsdPerMillion> {
    (0_u64..1_000, 0_u32..1_000_000).prop_map(|(whole, part)| price(&format!("{whole}.{part:06}")))
}

fn any_rates() -> impl Strategy<Value = Rates> {
    [any_price(), any_price(), any_price(), any_price(), any_price()].prop_map(
        |[input, cached_input, cache_write, output, reasoning]| Rates {
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
        },
    )
}

fn any_usage() -> impl Strategy<Value = Usage> {
    [0_u64..1_000_000, 0..1_000_000, 0..1_000_000, 0..1_000_000, 0..1_000_000].prop_map(
        |[input, cached_input, cache_write, output, reasoning]| Usage {
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
        },
    )
}

proptest! {
    /// Against decimals of unlimited length, by way of the text of each price.
    #[test]
    fn a_cost_is_the_exact_sum_rounded_half_up(rates in any_rates(), usage in any_usage()) {
        let decimal = |price: UsdPerMillion| -> u128 {
            let text = price.to_string();
            let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
            format!("{whole}{part:0<6}").parse().unwrap()
        };
        let exact = decimal(rates.input) * u128::from(usage.input)
            + decimal(rates.cached_input) * u128::from(usage.cached_input)
            + decimal(rates.cache_write) * u128::from(usage.cache_write)
            + decimal(rates.output) * u128::from(usage.output)
            + decimal(rates.reasoning) * u128::from(usage.reasoning);
        let cost = Prices { rates, long_prompt: None }.cost(&usage);
        let (whole, rest) = (exact / 1_000_000, exact % 1_000_000);
        prop_assert_eq!(u128::from(cost.0), whole + u128::from(rest >= 500_000));
    }

    #[test]
    fn more_tokens_never_cost_less(rates in any_rates(), less in any_usage(), more in any_usage()) {
        let prices = Prices { rates, long_prompt: None };
        let sum = Usage {
            input: less.input + more.input,
            cached_input: less.cached_input + more.cached_input,
            cache_write: less.cache_write + more.cache_write,
            output: less.output + more.output,
            reasoning: less.reasoning + more.reasoning,
        };
        let (parts, whole) = (prices.cost(&less) + prices.cost(&more), prices.cost(&sum));
        prop_assert!(whole >= prices.cost(&less));
        // Rounded twice is at most one off from rounded once.
        prop_assert!(parts.0.abs_diff(whole.0) <= 1, "{parts} {whole}");
    }

    #[test]
    fn a_price_is_read_as_it_is_written(price in any_price()) {
        prop_assert_eq!(price.to_string().parse::<UsdPerMillion>().unwrap(), price);
    }
}

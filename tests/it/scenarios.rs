//! Every scenario that expects something, in virtual time; one of them on real sockets.
//!
//! `cargo nextest run scenarios --no-capture` prints the figures.

use std::fs;
use std::path::PathBuf;

use tidegate::config::{Environment, Source};
use tidegate::rehearse::{Options, Rehearsal, Report, run};

use crate::support::package;

/// A test for each scenario, so that they run beside each other and each has a name.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name), false);
        })*

        #[test]
        fn every_scenario_that_expects_something_is_a_test() {
            let mut tested = [$(stringify!($name)),*].map(str::to_owned).to_vec();
            tested.sort();
            assert_eq!(expecting(), tested);
        }
    };
}

scenarios!(
    all_down_retries,
    breaker_slow_traffic,
    cut_after_commit,
    cut_before_commit,
    every_figure,
    failover,
    hedging_brownout,
    hedging_stragglers,
    outage,
    outage_50rps,
    overload_2x,
    prefix_affinity,
    prefix_slow_home,
    recovery,
    sink_fast_failure,
    slow_neighbour,
    soak_one_hour,
    splice,
    three_times_slower,
    twenty_percent_errors,
);

#[test]
fn a_scenario_holds_on_real_sockets() {
    holds("every_figure", true);
}

/// Runs a scenario and prints its figures.
fn holds(name: &str, real: bool) {
    let report = report(name, real);
    println!("{name}:\n{report}");
    assert!(report.is_good(), "{name}:\n{report}");
}

fn report(name: &str, real: bool) -> Report {
    let file = PathBuf::from(format!("tests/scenarios/{name}.toml"));
    let text = fs::read_to_string(package().join(&file)).unwrap();
    let rehearsal = Rehearsal::parse(&file, &text).unwrap_or_else(|problems| panic!("{problems}"));
    let source = Source::environment(Environment::fixed([]));
    let options = Options { source, replace: false, real };
    run(&rehearsal, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// The names of all scenarios that expect something.
fn expecting() -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(package().join("tests/scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let is_scenario = path.extension().is_some_and(|extension| extension == "toml");
        if is_scenario && fs::read_to_string(&path).unwrap().contains("\n[[expect]]") {
            names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    names
}

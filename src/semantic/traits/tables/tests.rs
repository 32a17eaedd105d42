//! Tests of the tables.

use super::*;

#[test]
fn forms_of_a_word_are_one_and_what_says_something_stays() {
    let english = of(Language::English);
    for (a, b) in [
        ("making", "make"),
        ("running", "run"),
        ("cancelling", "cancel"),
        ("installing", "install"),
        ("freezing", "freeze"),
        ("neighbour", "neighbor"),
        ("purchase", "buy"),
        ("purchases", "buys"),
        ("repaired", "fixed"),
        ("kids", "children"),
    ] {
        assert_eq!(english.key(a), english.key(b), "{a} and {b}");
    }
    for (a, b) in [
        ("password", "passwords"),
        ("charged", "charging"),
        ("cheap", "cheaper"),
        ("king", "k"),
        ("parking", "park"),
        ("employer", "employee"),
        ("string", "str"),
        ("hour", "hor"),
        ("increase", "decrease"),
        ("enable", "disable"),
        ("buy", "sell"),
    ] {
        assert_ne!(english.key(a), english.key(b), "{a} and {b}");
    }
}

#[test]
fn no_word_is_in_two_groups() {
    for text in [
        include_str!("../../words/en.txt"),
        include_str!("../../words/de.txt"),
        include_str!("../../words/fr.txt"),
        include_str!("../../words/es.txt"),
    ] {
        let groups = text.split("\n[same]\n").nth(1).unwrap().split("[intact]").next().unwrap();
        let mut seen = HashSet::new();
        for line in groups.lines() {
            for word in line.trim_start_matches("v:").split('=').map(str::trim) {
                assert!(word.is_empty() || seen.insert(word), "`{word}` is in two groups");
            }
        }
        assert!(seen.len() > 5, "{}", seen.len());
    }
}

#[test]
fn every_line_of_a_table_is_understood() {
    for text in [
        include_str!("../../words/en.txt"),
        include_str!("../../words/de.txt"),
        include_str!("../../words/fr.txt"),
        include_str!("../../words/es.txt"),
    ] {
        let known =
            ["class", "phrases", "names", "stop", "link", "join", "same", "intact", "time", "no"];
        let mut section = "";
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                assert!(known.contains(&name), "{name}");
                section = name;
            } else if matches!(section, "class" | "phrases" | "names" | "same") {
                assert!(line.contains('='), "{line}");
            } else {
                assert!(!line.contains('='), "{line}");
            }
        }
    }
}

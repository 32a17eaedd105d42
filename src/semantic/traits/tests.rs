//! Tests of what is read out of texts. Hundreds of labelled pairs are in `tests/it/semantic`.

use proptest::prelude::*;

use super::*;

fn differ(a: &str, b: &str) -> Option<Difference> {
    let (first, second) = (Traits::of(a), Traits::of(b));
    let found = agree(&first, &second).err();
    let back = agree(&second, &first).err();
    assert_eq!(back.is_some(), found.is_some(), "one way only: {a} | {b}");
    found
}

#[track_caller]
fn same(pairs: &[(&str, &str)]) {
    for (a, b) in pairs {
        assert_eq!(differ(a, b), None, "{a} | {b}\n{:#?}\n{:#?}", Traits::of(a), Traits::of(b));
    }
}

#[track_caller]
fn different(difference: Difference, pairs: &[(&str, &str)]) {
    for (a, b) in pairs {
        assert_eq!(differ(a, b), Some(difference), "{a} | {b}");
    }
}

#[test]
fn form_and_courtesy_say_nothing() {
    same(&[
        ("How do I reset my password?", "how do i reset   my password"),
        ("How do I reset my password?", "Hi, could you please tell me how to reset my password?"),
        (
            "How do I reset my password?",
            "What\u{2019}s the best way to reset my password?? Thanks!",
        ),
        ("It\u{200b}'s broken.", "it is broken"),
        ("What is \u{201c}foo bar\u{201d}?", "what is \"foo  bar\""),
        ("Ｗhat is ＳＱＬ?", "what is SQL"),
        ("How do I set up Wi-Fi?", "how do i set up wifi"),
        ("WHERE IS MY ORDER", "Where is my order?"),
    ]);
}

#[test]
fn words_for_one_thing_are_one() {
    same(&[
        ("How do I turn on dark mode?", "How do I enable dark mode?"),
        ("Am I allowed to bring a dog?", "Can I bring a dog?"),
        ("How much is a ticket?", "What does a ticket cost?"),
        ("How do I buy stamps?", "How do I purchase stamps?"),
        ("Explain how a heat pump works.", "How does a heat pump work?"),
        ("How do I organise photos?", "How do I organize pictures?"),
    ]);
}

#[test]
fn order_says_nothing_between_equals_and_around_a_condition() {
    same(&[
        ("What is the capital of France?", "What is France's capital?"),
        (
            "What's the difference between TCP and UDP?",
            "What's the difference between UDP and TCP?",
        ),
        ("If I cancel, do I get a refund?", "Do I get a refund if I cancel?"),
        ("In Spain, what is the minimum wage?", "What is the minimum wage in Spain?"),
        ("How many days of vacation do I get?", "How many vacation days do I get?"),
    ]);
    different(
        Difference::Order,
        &[
            ("Can my boss fire me?", "Can me fire my boss?"),
            ("How do I convert euros to dollars?", "How do I convert dollars to euros?"),
            ("Is tea better than coffee?", "Is coffee better than tea?"),
            ("If I cancel, do I pay?", "If I pay, do I cancel?"),
            ("Is the father of the bride here?", "Is the bride of the father here?"),
            ("Can I pay in cash and tip by card?", "Can I tip by card and pay in cash?"),
        ],
    );
}

#[test]
fn what_was_asked_must_be_the_same() {
    different(
        Difference::Question,
        &[
            ("How do I cancel?", "Why do I cancel?"),
            ("Can I cancel?", "Should I cancel?"),
            ("When do I pay?", "Where do I pay?"),
            ("Did my order ship?", "Will my order ship?"),
            ("How many eggs?", "How much eggs?"),
        ],
    );
    different(
        Difference::Person,
        &[
            ("Can he see it?", "Can she see it?"),
            ("What is my balance?", "What is your balance?"),
            ("Who can I call?", "Who can call me?"),
        ],
    );
    different(
        Difference::Relation,
        &[
            ("How do I fly to Rome?", "How do I fly from Rome?"),
            ("Do I need a coat and a hat?", "Do I need a coat or a hat?"),
        ],
    );
}

#[test]
fn a_difference_is_called_what_it_is() {
    use Difference as D;
    for (difference, a, b) in [
        (D::Number, "Can I bring 2 bags?", "Can I bring three bags?"),
        (D::Number, "Is 1.5 enough?", "Is 15 enough?"),
        (D::Number, "Is flight BA117 late?", "Is flight BA171 late?"),
        (D::Negation, "Which plants are toxic?", "Which plants are not toxic?"),
        (D::Negation, "Can I fly with a cat?", "Can I fly without a cat?"),
        (D::Name, "Is the office in Bern open?", "Is the office in Basel open?"),
        (D::Time, "Is it open on Monday?", "Is it open on Friday?"),
        (D::Code, "What does rm -r do?", "What does rm -f do?"),
        (D::Code, "How do I read config.json?", "How do I read config.yaml?"),
        (D::Quotation, "What does `map` do?", "What does `filter` do?"),
        (D::Word, "How do I open an account?", "How do I close an account?"),
        (D::Word, "How do I delete a file?", "How do I delete a file safely?"),
        (D::Language, "How do I reset my password?", "Wie setze ich mein Passwort zurück?"),
    ] {
        assert_eq!(differ(a, b), Some(difference), "{a} | {b}");
    }
}

#[test]
fn numbers_are_equal_however_they_are_written() {
    same(&[
        ("Can I bring 2 bags?", "Can I bring two bags?"),
        ("Is 1,000 too much?", "Is 1000 too much?"),
        ("Is 5 percent normal?", "Is 5% normal?"),
        ("Do I need twenty-five stamps?", "Do I need 25 stamps?"),
        ("Who was the 2nd president?", "Who was the second president?"),
        ("Is 2 thousand enough?", "Is 2000 enough?"),
        ("Does 5kg fit?", "Does 5 kg fit?"),
        ("Is 20 miles far?", "Is twenty miles far?"),
    ]);
    for (a, b) in [
        ("Do I need 20 five dollar bills?", "Do I need 25 dollar bills?"),
        ("Is 5 degrees cold?", "Is -5 degrees cold?"),
        ("Is 7 pm fine?", "Is 7 am fine?"),
        ("Is 10 - 5 right?", "Is 10 5 right?"),
        ("Is 2.10 out?", "Is 2.1 out?"),
        ("Is 1.000 big?", "Is 1000 big?"),
    ] {
        assert!(differ(a, b).is_some(), "{a} | {b}");
    }
}

#[test]
fn capitals_tell_where_they_can() {
    assert!(differ("How do I clean an Apple?", "How do I clean an apple?").is_some());
    assert!(differ("Is vitamin A good?", "Is vitamin good?").is_some());
    assert!(differ("Can the US help?", "Can us help?").is_some());
    same(&[("Is Paris far from Rome?", "is paris far from rome?")]);
}

#[test]
fn languages_are_told_apart() {
    for (text, language) in [
        ("How do I reset my password?", Language::English),
        ("Wie setze ich mein Passwort zurück?", Language::German),
        ("Comment changer mon mot de passe ?", Language::French),
        ("¿Cómo cambio mi contraseña?", Language::Spanish),
        ("Come posso cambiare la mia password?", Language::Italian),
        ("Como eu posso mudar minha senha?", Language::Portuguese),
        ("Hoe kan ik mijn wachtwoord wijzigen?", Language::Dutch),
        ("Jak mogę zmienić moje hasło?", Language::Polish),
        ("Как изменить пароль?", Language::Russian),
        ("如何重置密码?", Language::Chinese),
        ("パスワードを変更するには?", Language::Japanese),
        ("كيف أغير كلمة المرور؟", Language::Other),
        ("reset password", Language::Unknown),
    ] {
        assert_eq!(Traits::of(text).language(), language, "{text}");
    }
    same(&[("如何重置密码？", "如何重置密码?"), ("Как изменить пароль?", "как изменить пароль")]);
    assert!(differ("如何重置密码?", "如何更改密码?").is_some());
    assert!(differ("Как изменить пароль?", "Как изменить логин?").is_some());
}

#[test]
fn letters_that_only_look_alike_are_no_words_we_know() {
    // The second has a Cyrillic o in "not".
    assert!(differ("Which are not toxic?", "Which are n\u{43e}t toxic?").is_some());
    assert!(differ("Which are toxic?", "Which are n\u{43e}t toxic?").is_some());
    // An invisible character hides no negation.
    assert!(differ("Which are toxic?", "Which are n\u{200d}ot toxic?").is_some());
}

#[test]
fn what_is_too_long_or_says_nothing_agrees_with_nothing() {
    let long = "word ".repeat(MAX_WORDS + 1);
    let just = "word ".repeat(MAX_WORDS);
    assert_eq!(differ(&long, &long), Some(Difference::Unreadable));
    assert_eq!(differ(&just, &just), None);
    let one = "x".repeat(MAX_BYTES + 1);
    assert_eq!(differ(&one, &one), Some(Difference::Unreadable));
    for nothing in ["", "   \n", "the", "?!", "\u{200b}", "()", "Hi!"] {
        assert_eq!(differ(nothing, nothing), Some(Difference::Unreadable), "{nothing:?}");
        assert!(!Traits::of(nothing).is_readable());
    }
}

#[test]
fn a_megabyte_is_refused_at_once_and_four_kilobytes_of_anything_are_read_quickly() {
    let megabyte = "how do i ".repeat(120_000);
    let begun = crate::clock::Instant::now();
    assert!(!Traits::of(&megabyte).is_readable());
    for evil in ["'", "\"", "`", "how do i ", "a-", "one ", "((", "«", "twenty ", "1,", "n't "] {
        let text: String = evil.chars().cycle().take(MAX_BYTES / 2).collect();
        let traits = Traits::of(&text);
        _ = agree(&traits, &traits);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic_and_agrees_with_itself(text in ".{0,300}") {
        let traits = Traits::of(&text);
        prop_assert_eq!(agree(&traits, &traits).is_ok(), traits.is_readable());
    }

    #[test]
    fn words_in_any_order_are_read_alike_from_both_sides(
        a in prop::collection::vec(prop::sample::select(WORDS), 0..12),
        b in prop::collection::vec(prop::sample::select(WORDS), 0..12),
    ) {
        let (a, b) = (Traits::of(&a.join(" ")), Traits::of(&b.join(" ")));
        prop_assert_eq!(agree(&a, &b).is_ok(), agree(&b, &a).is_ok());
        prop_assert_eq!(agree(&a, &a).is_ok(), a.is_readable());
    }

    /// Whatever stands in a text, one more word that is in no table is a difference.
    #[test]
    fn a_new_word_is_always_a_difference(
        words in prop::collection::vec(prop::sample::select(WORDS), 1..12),
        at in any::<prop::sample::Index>(),
        new in "[b-df-hj-np-tv-z]{4,9}",
    ) {
        let mut longer: Vec<&str> = words.clone();
        longer.insert(at.index(words.len() + 1), &new);
        let (short, long) = (Traits::of(&words.join(" ")), Traits::of(&longer.join(" ")));
        prop_assert!(agree(&short, &long).is_err());
    }
}

/// Whether no table knows this word, so that it must count wherever it stands.
fn is_unknown(known: &std::collections::HashSet<&str>, word: &str) -> bool {
    let plain = word.len() >= 4 && word.chars().all(|c| c.is_ascii_lowercase()) && word != "hell";
    plain && !known.contains(word) && !known.contains(&*tables::of(Language::English).stem(word))
}

/// Questions of people with a word taken out, put in the place of another, or changed for one of
/// another question: whatever the rules do, the result must not agree with the question.
#[test]
fn a_word_deleted_replaced_or_moved_is_a_difference_in_every_question_of_the_pairs() {
    let pairs = include_str!("../../../tests/it/semantic/pairs.tsv");
    let questions = pairs.lines().skip(1).step_by(3).filter_map(|line| line.split('\t').nth(4));
    let known = tables::of(Language::English).words();
    let english = questions.filter(|text| Traits::of(text).language() == Language::English);
    let split: Vec<Vec<&str>> = english.map(|text| text.split(' ').collect()).collect();
    let pool: Vec<&str> =
        split.iter().flatten().copied().filter(|word| is_unknown(&known, word)).collect();
    assert!(split.len() > 300 && pool.len() > 300, "{} {}", split.len(), pool.len());
    let (mut tried, mut random, mut agreeing) = (0, 7_usize, Vec::new());
    let mut pick = |n: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    let mut check = |words: &[&str], changed: &[&str]| {
        let (first, second) = (words.join(" "), changed.join(" "));
        if differ(&first, &second).is_none() {
            agreeing.push(format!("{first} | {second}"));
        }
        tried += 1;
    };
    for words in &split {
        let places: Vec<usize> =
            (0..words.len()).filter(|n| is_unknown(&known, words[*n])).collect();
        for place in &places {
            let mut shorter = words.clone();
            shorter.remove(*place);
            check(words, &shorter);
            for _ in 0..3 {
                let new = pool[pick(pool.len())];
                let mut other = words.clone();
                other[*place] = new;
                let stem = |word| tables::of(Language::English).stem(word);
                if stem(new) != stem(words[*place]) {
                    check(words, &other);
                }
            }
            let equals =
                |word: &&str| matches!(*word, "and" | "or" | "vs" | "if" | "when" | "while");
            let other = places[pick(places.len())];
            if !words.iter().any(equals) && words[other] != words[*place] {
                let mut swapped = words.clone();
                swapped.swap(*place, other);
                check(words, &swapped);
            }
        }
    }
    assert!(agreeing.is_empty(), "{agreeing:#?}");
    assert!(tried > 2_000, "{tried}");
}

const WORDS: &[&str] = &[
    "how", "do", "I", "does", "the", "my", "your", "he", "not", "can", "should", "what", "is",
    "when", "if", "cat", "dogs", "reset", "password", "Paris", "US", "5", "two", "twenty", "kg",
    "one", "of", "in", "to", "from", "and", "or", "than", "has", "have", "lost", "charged", "turn",
    "on", "off", "?", ",", ".", "-", "'a b'", "x+1", "please", "hi", "good", "morning", "cost",
    "price", "much", "it", "for", "a", "%", "$3",
];

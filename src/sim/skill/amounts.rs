//! Amounts, dates and currencies as invoices write them.

/// A number as people write it: `1,234.50`, `1.234,50`, `$120.00`, `¥22,000`, `17`.
pub(super) fn amount(word: &str) -> Option<f64> {
    let bare = word.trim_matches(|c: char| !c.is_ascii_digit());
    let around = word.chars().filter(|c| !c.is_ascii_digit() && !",.".contains(*c));
    if bare.is_empty()
        || around.clone().any(|c| !CURRENCY_SIGNS.contains(c) && !":;()-–".contains(c))
    {
        return None;
    }
    if !bare.chars().all(|c| c.is_ascii_digit() || ",.".contains(c)) {
        return None;
    }
    let last = bare.rfind([',', '.']);
    let plain: String = match last {
        None => bare.to_owned(),
        Some(at) => {
            let (whole, part) = bare.split_at(at);
            let digits: String = whole.chars().filter(char::is_ascii_digit).collect();
            let part = part.get(1..).unwrap_or_default();
            let is_comma = bare.get(at..).is_some_and(|rest| rest.starts_with(','));
            let is_only_sign = !whole.contains([',', '.']);
            // Three digits behind a comma are thousands, and so is what a sign stands before twice.
            let is_thousands = part.len() == 3 && (is_comma || !is_only_sign);
            if is_thousands { format!("{digits}{part}") } else { format!("{digits}.{part}") }
        }
    };
    plain.parse().ok()
}

/// Whether a word is an amount of money rather than a count: it has cents or a currency's sign.
pub(super) fn is_money(word: &str) -> bool {
    let bare = word.trim_end_matches([',', '.', ':', ';']);
    let cents = bare.rsplit([',', '.']).next().is_some_and(|part| part.len() == 2);
    amount(word).is_some()
        && ((cents && bare.contains([',', '.']))
            || word.chars().any(|c| CURRENCY_SIGNS.contains(c)))
}

const CURRENCY_SIGNS: &str = "€$£¥";

/// The three letters of the first currency that a text names.
pub(super) fn currency(text: &str) -> Option<&'static str> {
    const CODES: [&str; 10] =
        ["EUR", "USD", "GBP", "CHF", "JPY", "NOK", "SEK", "DKK", "PLN", "CAD"];
    const SIGNS: [(char, &str); 4] = [('€', "EUR"), ('$', "USD"), ('£', "GBP"), ('¥', "JPY")];
    let mut words = text.split(|c: char| !c.is_alphabetic());
    let by_code = words.find_map(|word| CODES.iter().find(|code| **code == word).copied());
    let by_sign = || SIGNS.iter().find(|(sign, _)| text.contains(*sign)).map(|(_, code)| *code);
    by_code.or_else(by_sign)
}

/// The dates of a text in their order: the place of the first word among the words, and the date as
/// `YYYY-MM-DD`.
pub(super) fn dates(words: &[&str], day_first: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = |more: usize| words.get(at + more).copied().unwrap_or_default();
        let date = written(word, day_first).or_else(|| named(word, next(1), next(2)));
        found.extend(date.map(|date| (at, date)));
    }
    found
}

/// A date in one word.
fn written(word: &str, day_first: bool) -> Option<String> {
    let bare = word.trim_matches(|c: char| !c.is_ascii_digit());
    let parts: Vec<u32> =
        bare.split(|c: char| !c.is_ascii_digit()).map(str::parse).collect::<Result<_, _>>().ok()?;
    let has = |sign: char| bare.contains(sign);
    match parts[..] {
        [year, month, day] if year > 31 && (has('-') || has('年') || has('/')) => {
            iso(year, month, day)
        }
        [day, month, year] if has('.') => iso(year, month, day),
        [one, other, year] if has('/') || has('-') => {
            let (day, month) = if day_first { (one, other) } else { (other, one) };
            iso(year, month, day)
        }
        _ => None,
    }
}

/// `5. Oktober 2026`, `1 November 2026`, `November 1, 2026`.
fn named(first: &str, second: &str, third: &str) -> Option<String> {
    let number = |word: &str| -> Option<u32> {
        let bare = word.trim_end_matches(['.', ',', ';']);
        bare.parse().ok()
    };
    let year = number(third)?;
    match (number(first), month(second)) {
        (Some(day), Some(month)) => iso(year, month, day),
        _ => iso(year, month(first)?, number(second)?),
    }
}

fn month(word: &str) -> Option<u32> {
    const STARTS: [&[&str]; 12] = [
        &["jan"],
        &["feb", "fév"],
        &["mar", "mär"],
        &["apr", "avr"],
        &["may", "mai"],
        &["jun", "juin"],
        &["jul", "juil"],
        &["aug", "aoû"],
        &["sep"],
        &["oct", "okt"],
        &["nov"],
        &["dec", "dez", "déc"],
    ];
    let word = word.to_lowercase();
    let is_one = word.chars().all(|c| c.is_alphabetic() || c == '.');
    let at = STARTS.iter().position(|starts| starts.iter().any(|start| word.starts_with(start)))?;
    u32::try_from(at + 1).ok().filter(|_| is_one)
}

fn iso(year: u32, month: u32, day: u32) -> Option<String> {
    let is_date =
        (1900..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_date.then(|| format!("{year:04}-{month:02}-{day:02}"))
}

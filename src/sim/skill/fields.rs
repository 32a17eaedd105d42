//! Fills in a schema with what a text says. What the text does not say is null, where that is
//! allowed.

use serde_json::{Map, Value, json};

use super::amounts::{amount, currency, dates, is_money};
use super::{Brief, Habits, Luck};
use crate::sim::schema;

/// A text that is read for its fields.
struct Reading<'a> {
    text: &'a str,
    words: Vec<&'a str>,
    /// Whether 03/04 is the 3rd of April.
    day_first: bool,
}

/// More lines than that nobody reads.
const MOST_LINES: usize = 200;

/// The JSON that is asked for.
pub(super) fn filled(schema: &Value, brief: &Brief<'_>, habits: &Habits, luck: Luck) -> String {
    let system = brief.system.to_lowercase();
    let reading = Reading {
        text: brief.said,
        words: brief.said.split_whitespace().collect(),
        day_first: system.contains("day comes before") || system.contains("day first"),
    };
    let mut value = reading.object(schema);
    if habits.omits_nulls {
        leave_out_nulls(&mut value);
    }
    match luck.slip {
        None => value.to_string(),
        Some(which) if which % 2 == 0 => format!("```json\n{value:#}\n```"),
        Some(which) => {
            leave_out_one(&mut value, which);
            value.to_string()
        }
    }
}

fn leave_out_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(leave_out_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn leave_out_one(value: &mut Value, which: u64) {
    let Some(members) = value.as_object_mut() else { return };
    let at = usize::try_from(which / 2).unwrap_or_default() % members.len().max(1);
    if let Some(name) = members.keys().nth(at).cloned() {
        members.shift_remove(&name);
    }
}

// === impl Reading ===

impl Reading<'_> {
    fn object(&self, schema: &Value) -> Value {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return schema::sample(schema, "simulated");
        };
        let members = properties.iter().map(|(name, property)| {
            let found = self.member(&name.to_lowercase(), property);
            (name.clone(), found.unwrap_or_else(|| missing(property)))
        });
        Value::Object(members.collect::<Map<_, _>>())
    }

    /// What a member's name stands for in the text.
    fn member(&self, name: &str, property: &Value) -> Option<Value> {
        if let Some(options) = property.get("enum").and_then(Value::as_array) {
            let lower = self.text.to_lowercase();
            let is_named = |option: &&Value| {
                option.as_str().is_some_and(|word| lower.contains(&word.to_lowercase()))
            };
            return options.iter().find(is_named).cloned();
        }
        match kind(property) {
            "object" => Some(self.object(property)),
            "array" => Some(self.lines(property)),
            "number" | "integer" => self.amount_of(name).map(number),
            "boolean" => None,
            _ => self.text_of(name).map(Value::from),
        }
    }

    fn text_of(&self, name: &str) -> Option<String> {
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["date", "_on", "_at", "due"]) {
            return self.date(has(&["due"]));
        }
        if has(&["currency"]) {
            return currency(self.text).map(str::to_owned);
        }
        if has(&["number", "invoice_id", "reference"]) {
            return self.number();
        }
        if has(&["seller", "vendor", "supplier", "from"]) {
            return self.seller();
        }
        if has(&["buyer", "customer", "client", "recipient"]) {
            return self.party(&["to", "an"]).filter(|name| !is_company_first(self.text, name));
        }
        self.labelled(name)
    }

    /// The number behind a word for an invoice.
    fn number(&self) -> Option<String> {
        const BEFORE: [&str; 7] =
            ["invoice", "rechnung", "facture", "no", "nr", "number", "請求書"];
        let is_before = |word: &str| BEFORE.contains(&bare(word).to_lowercase().as_str());
        let places = self.words.iter().enumerate().filter(|(_, word)| is_before(word));
        places
            .filter_map(|(at, _)| self.words.get(at + 1).map(|word| bare(word)))
            .find(|word| word.chars().any(|c| c.is_ascii_digit()) && !word.contains('/'))
            .map(str::to_owned)
    }

    fn date(&self, is_due: bool) -> Option<String> {
        const DUE: [&str; 5] = ["due", "fällig", "payable", "until", "by"];
        let is_of_due = |at: usize| {
            let before = at.saturating_sub(2)..at;
            let before = self.words.get(before).unwrap_or_default();
            before.iter().any(|word| DUE.contains(&bare(word).to_lowercase().as_str()))
        };
        let mut all = dates(&self.words, self.day_first).into_iter();
        all.find(|(at, _)| is_of_due(*at) == is_due).map(|(_, date)| date)
    }

    fn amount_of(&self, name: &str) -> Option<f64> {
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        let before: &[&str] = if has(&["total", "sum", "gross"]) {
            &["total", "gesamtbetrag", "gesamt", "summe", "合計", "montant"]
        } else if has(&["net"]) {
            &["net", "netto", "subtotal"]
        } else if has(&["tax", "vat"]) {
            &["tax", "vat", "mwst", "ust"]
        } else {
            &[]
        };
        let is_before = |word: &&str| before.contains(&bare(word).to_lowercase().as_str());
        let places = self.words.iter().enumerate().filter(|(_, word)| is_before(word));
        places.map(|(at, _)| at + 1).find_map(|start| self.first_amount(start))
    }

    /// The first amount of the next few words that is no percentage.
    fn first_amount(&self, start: usize) -> Option<f64> {
        const NEAR: usize = 4;
        let near = self.words.iter().enumerate().skip(start).take(NEAR);
        let is_part = |at: usize, word: &str| {
            word.ends_with('%') || self.words.get(at + 1).is_some_and(|next| next.starts_with('%'))
        };
        near.filter(|(at, word)| !is_part(*at, word)).find_map(|(_, word)| amount(word))
    }

    fn seller(&self) -> Option<String> {
        self.party(&["from", "von"])
            .or_else(|| self.before_party())
            .or_else(|| company_of(self.text.lines().next().unwrap_or_default()))
    }

    /// The name behind one of these words.
    fn party(&self, behind: &[&str]) -> Option<String> {
        let is_it = |word: &&str| behind.contains(&bare(word).to_lowercase().as_str());
        let places = self.words.iter().enumerate().filter(|(_, word)| is_it(word));
        places
            .map(|(at, _)| name_of(self.words.iter().skip(at + 1).copied()))
            .find(|name| !name.is_empty())
    }

    /// The name before a word that leads to the buyer's.
    fn before_party(&self) -> Option<String> {
        let at = self.words.iter().position(|word| ["to", "an"].contains(word))?;
        let before = self.words.get(..at)?;
        let count =
            before.iter().rev().take_while(|word| is_of_name(word) && !ends_part(word)).count();
        let name = before.get(at - count..)?.join(" ");
        (!name.is_empty() && name.to_lowercase() != "bill").then_some(name)
    }

    /// What stands behind `name:`.
    fn labelled(&self, name: &str) -> Option<String> {
        let wanted = name.replace('_', " ");
        self.text.lines().find_map(|line| {
            let (label, value) = line.split_once(':')?;
            let value = value.trim();
            (label.trim().to_lowercase() == wanted && !value.is_empty()).then(|| value.to_owned())
        })
    }

    /// The lines of an invoice, as its items have it.
    fn lines(&self, schema: &Value) -> Value {
        let Some(properties) = schema.pointer("/items/properties").and_then(Value::as_object)
        else {
            return json!([]);
        };
        let parts = self.text.lines().flat_map(|line| line.split(". "));
        let lines = parts.filter_map(Line::read).take(MOST_LINES).map(|line| {
            let members = properties.iter().map(|(name, property)| {
                let found = line.member(&name.to_lowercase());
                (name.clone(), found.unwrap_or_else(|| missing(property)))
            });
            Value::Object(members.collect())
        });
        lines.collect()
    }
}

/// A line of an invoice.
struct Line {
    quantity: f64,
    description: String,
    amounts: Vec<f64>,
    is_each: bool,
}

// === impl Line ===

impl Line {
    /// `4 x rope 20 m 12.00 48.00`, `10 tent pegs at 1.50 EUR: 15.00`, `12 screws at 0.50 each`.
    fn read(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (first, rest) = words.split_first()?;
        let quantity: f64 = first.parse::<u32>().ok()?.into();
        let amounts = rest.iter().filter(|word| is_money(word)).filter_map(|word| amount(word));
        let amounts: Vec<f64> = amounts.collect();
        let until = rest.iter().position(|word| is_money(word) || *word == "at")?;
        let said = rest.get(..until)?.iter().skip_while(|word| ["x", "×"].contains(*word));
        let description = said.copied().collect::<Vec<_>>().join(" ");
        let description = description.trim_end_matches([',', ';', ':']).to_owned();
        let is_line = !amounts.is_empty() && description.starts_with(char::is_alphabetic);
        let is_each = rest.iter().any(|word| bare(word) == "each" || *word == "at");
        is_line.then_some(Self { quantity, description, amounts, is_each })
    }

    fn member(&self, name: &str) -> Option<Value> {
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["description", "name", "item", "text"]) {
            return Some(json!(self.description));
        }
        if has(&["quantity", "count"]) {
            return Some(number(self.quantity));
        }
        let (price, sum) = match self.amounts[..] {
            [one] if self.is_each => (Some(one), None),
            [one] => (None, Some(one)),
            [price, sum, ..] => (Some(price), Some(sum)),
            [] => (None, None),
        };
        if has(&["price"]) { price.map(number) } else { sum.map(number) }
    }
}

/// A number as JSON, without a point where it is whole.
fn number(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole, and far from the bounds")]
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}

/// What stands where nothing was found.
fn missing(property: &Value) -> Value {
    let is_nullable = match property.get("type") {
        Some(Value::Array(kinds)) => kinds.contains(&json!("null")),
        Some(_) | None => false,
    };
    if is_nullable { Value::Null } else { schema::sample(property, "unknown") }
}

fn kind(property: &Value) -> &str {
    match property.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            kinds.find(|kind| *kind != "null").unwrap_or("null")
        }
        Some(_) | None => "string",
    }
}

/// A word without punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| ",.;:()".contains(c))
}

/// The name that words begin with.
fn name_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut name: Vec<&str> = Vec::new();
    for word in words {
        if !is_of_name(word) {
            break;
        }
        name.push(word);
        if ends_part(word) {
            break;
        }
    }
    name.join(" ").trim_end_matches([',', '.', ';', ':']).to_owned()
}

fn is_of_name(word: &str) -> bool {
    let first = word.chars().next();
    first.is_some_and(char::is_uppercase) && !word.chars().any(|c| c.is_ascii_digit())
        || word == "&"
}

/// Whether a name ends with this word: by punctuation that is no abbreviation's.
fn ends_part(word: &str) -> bool {
    const SHORT: [&str; 5] = ["Inc.", "Ltd.", "Co.", "Mr.", "Mrs."];
    word.ends_with([',', ';', ':']) || (word.ends_with('.') && !SHORT.contains(&word))
}

/// The company that a line begins with.
fn company_of(line: &str) -> Option<String> {
    const FORMS: [&str; 8] = ["GmbH", "AG", "Ltd", "Inc", "LLC", "SA", "KG", "Co"];
    let name = name_of(line.split_whitespace());
    let is_company = name.split_whitespace().any(|word| FORMS.contains(&bare(word)));
    is_company.then_some(name)
}

/// Whether a name is the one that the text begins with, which is the seller's.
fn is_company_first(text: &str, name: &str) -> bool {
    text.starts_with(name)
}

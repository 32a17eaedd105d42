//! The template engine's filters that make much of little, held to a bound.
//!
//! The engine counts its steps and we count what comes out, and neither sees what a filter makes in
//! one step: `batch(n, "x")` or `indent(n)` with a number that a caller chose would take all memory
//! there is. What the engine bounds by itself is left to it: a text or a list times a number has
//! 100 MB at most, a range 100,000 numbers.

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// The most that one filter may make.
const MAX_BYTES: usize = 16 << 20;
/// The most lists or places in a list that one filter may make.
const MAX_ITEMS: usize = 100_000;
/// What a number or a truth takes at least.
const LEAST_BYTES: usize = 4;

/// Puts filters with a bound in the place of the engine's own.
pub(crate) fn bound_filters(environment: &mut Environment<'static>) {
    environment.add_filter("batch", batch);
    environment.add_filter("format", format);
    environment.add_filter("indent", indent);
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("slice", slice);
}

fn within(amount: usize, most: usize) -> Result<(), Error> {
    match amount <= most {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidOperation, "it would make too much at once")),
    }
}

fn batch(
    state: &State<'_, '_>,
    value: Value,
    count: usize,
    fill: Option<Value>,
) -> Result<Value, Error> {
    within(count, MAX_ITEMS)?;
    filters::batch(state, value, count, fill)
}

fn slice(
    state: &State<'_, '_>,
    value: Value,
    count: usize,
    fill: Option<Value>,
) -> Result<Value, Error> {
    within(count, MAX_ITEMS)?;
    filters::slice(state, value, count, fill)
}

/// Widths are written in the text, or come as a value for `*`.
fn format(
    state: &mut State<'_, '_>,
    text: &Value,
    values: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let written = text.as_str().unwrap_or_default();
    let is_digit = |c: char| c.is_ascii_digit();
    let longest = written.split(|c| !is_digit(c)).map(str::len).max().unwrap_or_default();
    if longest > 4 || written.contains('*') {
        let problem = "a width in it must be a number of at most four digits";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    filters::format(state, text, values)
}

fn indent(
    value: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<Value, Error> {
    let wanted = match width {
        Some(width) => Some(width),
        None => named.peek::<Option<usize>>("width")?,
    };
    let lines = memchr::memchr_iter(b'\n', value.as_str().as_bytes()).count() + 1;
    within(wanted.unwrap_or_default().saturating_mul(lines), MAX_BYTES)?;
    filters::indent(value, width, first, blank, named)
}

fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    named: Kwargs,
) -> Result<Value, Error> {
    let between = match &joiner {
        Some(joiner) => joiner.as_str().len(),
        None => {
            named.peek::<Option<StringInput<'_>>>("d")?.map_or(0, |joiner| joiner.as_str().len())
        }
    };
    let mut bytes = 0_usize;
    for item in value.try_iter().into_iter().flatten() {
        bytes = bytes.saturating_add(item.as_str().map_or(LEAST_BYTES, str::len) + between);
        within(bytes, MAX_BYTES)?;
    }
    filters::join(state, value, joiner, attribute, named)
}

fn replace(
    state: &mut State<'_, '_>,
    value: StringInput<'_>,
    from: StringInput<'_>,
    to: StringInput<'_>,
) -> Result<Value, Error> {
    let places = value.as_str().matches(from.as_str()).count();
    within(places.saturating_mul(to.as_str().len()), MAX_BYTES)?;
    filters::replace(state, value, from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let mut environment = Environment::new();
        bound_filters(&mut environment);
        let long = "x\n".repeat(1 << 20);
        let vars = minijinja::context! { long, list => vec![1, 2, 3], huge => 1_u64 << 60 };
        environment.render_str(template, vars).map_err(|error| error.to_string())
    }

    #[test]
    fn filters_do_what_they_did_and_not_without_end() {
        for (template, wanted) in [
            ("{{ list|batch(2, 0)|last }}", "[3, 0]"),
            ("{{ list|slice(2)|list }}", "[[1, 2], [3]]"),
            ("{{ '%5.1f|%s'|format(2, 'a') }}", "  2.0|a"),
            ("{{ 'a\nb'|indent }}", "a\n    b"),
            ("{{ 'a\nb'|indent(width=1, first=true) }}", " a\n b"),
            ("{{ list|join('-') }}", "1-2-3"),
            ("{{ list|join(d='+') }}", "1+2+3"),
            ("{{ 'aba'|replace('a', 'cc') }}", "ccbcc"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(wanted), "{template}");
        }
        for template in [
            "{{ list|batch(huge, 'x') }}",
            "{{ list|slice(huge) }}",
            "{{ '%99999999999d'|format(1) }}",
            "{{ '%*d'|format(huge, 1) }}",
            "{{ long|indent(huge) }}",
            "{{ long|indent(width=huge) }}",
            "{{ long|indent(100) }}",
            "{{ range(100000)|join(long) }}",
            "{{ ([long] * 1000000)|join }}",
            "{{ long|replace('x', long) }}",
            "{{ long|replace('', long) }}",
            "{{ 'x' * huge }}",
            "{{ range(huge) }}",
        ] {
            assert!(rendered(template).is_err(), "{template}");
        }
    }
}

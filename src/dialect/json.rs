//! Steps over JSON text without building anything: the whole grammar is checked, nothing is kept.
//!
//! Text is UTF-8 already. Lone surrogate escapes are let through, as most parsers do; whoever
//! decodes the string decides.

/// How deep arrays and objects may nest: what `serde_json` decodes too, so that a body that is
/// passed through and one that is translated are refused alike.
pub(crate) const MAX_DEPTH: usize = 127;

/// Where the grammar was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Position of the byte that does not fit.
    pub(crate) at: usize,
    /// What would have fitted.
    pub(crate) expected: &'static str,
}

/// A string that was stepped over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stepped {
    /// The position after the closing quote.
    pub(crate) end: usize,
    /// Whether it holds escapes.
    pub(crate) escaped: bool,
}

/// The position of the next byte that is not white space.
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Steps over the string whose opening quote is at `at`.
pub(crate) fn skip_string(text: &[u8], at: usize) -> Result<Stepped, Broken> {
    let mut at = at + 1;
    let mut escaped = false;
    loop {
        at = plain_end(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(Stepped { end: at + 1, escaped }),
            Some(b'\\') => {
                at = skip_escape(text, at)?;
                escaped = true;
            }
            Some(_) => {
                let expected = "an escape instead of a raw control character";
                return Err(Broken { at, expected });
            }
            None => return Err(Broken { at, expected: "`\"`" }),
        }
    }
}

/// The position of the first byte that means something inside a string. Most strings are keys and
/// tokens, which two words cover; prompts are long, and go in steps wide enough for the compiler to
/// use vector instructions.
fn plain_end(text: &[u8], mut at: usize) -> usize {
    const WORD: usize = size_of::<u64>();
    const NARROW: usize = 32;
    const WIDE: usize = 128;
    let narrow_at = at + 2 * WORD;
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<WORD>()) {
        if let Some(offset) = special_in(u64::from_le_bytes(*word)) {
            return at + offset;
        }
        at += WORD;
        if at == narrow_at && is_plain::<NARROW>(text, at) {
            at += NARROW;
            while is_plain::<WIDE>(text, at) {
                at += WIDE;
            }
            while is_plain::<NARROW>(text, at) {
                at += NARROW;
            }
        }
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// Whether none of the next `N` bytes means anything inside a string, and there are so many.
fn is_plain<const N: usize>(text: &[u8], at: usize) -> bool {
    let next = text.get(at..).and_then(|rest| rest.first_chunk::<N>());
    next.is_some_and(|next| !next.iter().fold(false, |found, byte| found | is_special(*byte)))
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The first special byte of eight, counted from the lowest. Subtracting borrows into higher bytes,
/// so what is found above the first is not to be trusted, and is not used.
fn special_in(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let found = equal(b'"') | equal(b'\\') | below(word, 0x20);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// Steps over the escape whose backslash is at `at`.
fn skip_escape(text: &[u8], at: usize) -> Result<usize, Broken> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let digits = at + 2..at + 6;
            match digits.into_iter().find(|at| !text.get(*at).is_some_and(u8::is_ascii_hexdigit)) {
                None => Ok(at + 6),
                Some(at) => Err(Broken { at, expected: "four hexadecimal digits after `\\u`" }),
            }
        }
        _ => Err(Broken { at: at + 1, expected: "a JSON escape such as `\\n` after `\\`" }),
    }
}

/// Steps over the value that begins at `at` (no white space before it), inside `depth` arrays and
/// objects.
pub(crate) fn skip_value(text: &[u8], mut at: usize, depth: usize) -> Result<usize, Broken> {
    let mut open = Open { kinds: 0, depth: 0, outside: depth };
    loop {
        // Here a value begins.
        at = match text.get(at) {
            Some(b'{') => {
                open.push(true, at)?;
                let next = skip_space(text, at + 1);
                if text.get(next) == Some(&b'}') {
                    open.pop();
                    next + 1
                } else {
                    at = skip_key(text, next, "a key in quotes or `}`")?;
                    continue;
                }
            }
            Some(b'[') => {
                open.push(false, at)?;
                let next = skip_space(text, at + 1);
                if text.get(next) == Some(&b']') {
                    open.pop();
                    next + 1
                } else {
                    at = next;
                    continue;
                }
            }
            _ => skip_scalar(text, at)?,
        };
        // Here a value has ended.
        loop {
            let Some(in_object) = open.innermost() else {
                return Ok(at);
            };
            at = skip_space(text, at);
            match (text.get(at), in_object) {
                (Some(b','), true) => {
                    at = skip_key(text, skip_space(text, at + 1), "a key in quotes")?;
                    break;
                }
                (Some(b','), false) => {
                    at = skip_space(text, at + 1);
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    open.pop();
                    at += 1;
                }
                (_, true) => return Err(Broken { at, expected: "`,` or `}`" }),
                (_, false) => return Err(Broken { at, expected: "`,` or `]`" }),
            }
        }
    }
}

/// Steps over a key and its colon, to where the value begins.
fn skip_key(text: &[u8], at: usize, expected: &'static str) -> Result<usize, Broken> {
    if text.get(at) != Some(&b'"') {
        return Err(Broken { at, expected });
    }
    skip_colon(text, skip_string(text, at)?.end)
}

/// Steps over a colon and the white space around it.
pub(crate) fn skip_colon(text: &[u8], at: usize) -> Result<usize, Broken> {
    let at = skip_space(text, at);
    match text.get(at) {
        Some(b':') => Ok(skip_space(text, at + 1)),
        _ => Err(Broken { at, expected: "`:`" }),
    }
}

fn skip_scalar(text: &[u8], at: usize) -> Result<usize, Broken> {
    match text.get(at) {
        Some(b'"') => Ok(skip_string(text, at)?.end),
        Some(b't') => skip_word(text, at, "true", "`true`"),
        Some(b'f') => skip_word(text, at, "false", "`false`"),
        Some(b'n') => skip_word(text, at, "null", "`null`"),
        Some(b'-' | b'0'..=b'9') => skip_number(text, at),
        _ => Err(Broken { at, expected: "a value" }),
    }
}

fn skip_word(text: &[u8], at: usize, word: &str, expected: &'static str) -> Result<usize, Broken> {
    let rest = text.get(at..).unwrap_or_default();
    if rest.starts_with(word.as_bytes()) {
        return Ok(at + word.len());
    }
    let fits = rest.iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count();
    Err(Broken { at: at + fits, expected })
}

fn skip_number(text: &[u8], mut at: usize) -> Result<usize, Broken> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => skip_digits(text, at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = skip_digits(text, at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = skip_digits(text, at)?;
    }
    Ok(at)
}

fn skip_digits(text: &[u8], at: usize) -> Result<usize, Broken> {
    let rest = text.get(at..).unwrap_or_default();
    match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
        0 => Err(Broken { at, expected: "a digit" }),
        count => Ok(at + count),
    }
}

/// The arrays and objects around a value, one bit each.
#[derive(Debug)]
struct Open {
    /// The innermost is the lowest bit; set for an object.
    kinds: u128,
    depth: usize,
    outside: usize,
}

impl Open {
    fn push(&mut self, is_object: bool, at: usize) -> Result<(), Broken> {
        if self.depth + self.outside >= MAX_DEPTH {
            return Err(Broken { at, expected: "no deeper nesting than 127 levels" });
        }
        self.kinds = self.kinds << 1 | u128::from(is_object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.kinds >>= 1;
        self.depth = self.depth.saturating_sub(1);
    }

    /// Whether the innermost is an object; `None` outside of all.
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.kinds & 1 == 1)
    }
}

//! Looks at chat completion chunks, and at legacy text completions, as they pass.
//!
//! A scanner steps over the JSON of a frame without building anything and stops only at what
//! counts. The frames of one stream are alike, and the same bytes lead to the same place. So it
//! remembers what stood around the last text, see [`Mold`], and how the last frame began (id,
//! model, time), up to the value of `choices`: where the next one begins with the same bytes it
//! starts there.

use std::ops::Range;

use serde_json::Value;

use super::failure;
use super::usage::WireUsage;
use super::wire::{finish_reason, no_finish};
use crate::dialect::json::{self, Broken};
use crate::dialect::mold::Mold;
use crate::dialect::{Expected, FrameKind, Scanner, StreamSummary, sse};
use crate::failure::{Failure, FailureKind};

#[cfg(test)]
mod tests;

mod choices;
mod members;
mod reply;
mod text;

use choices::Choices;
use members::is_empty;
pub(super) use members::{items, member, members, walk_array, walk_object};
pub(super) use reply::scan_reply;
pub(super) use text::text_of;
use text::{push_calls, push_text};

/// Looks at the frames of one stream.
#[derive(Debug, Default)]
pub(super) struct ChatScanner {
    summary: StreamSummary,
    /// The counters as they came; the summary has them disjoint.
    usage: Option<WireUsage>,
    is_done: bool,
    choices: Choices,
    /// Whether the summary has the stream's head.
    is_headed: bool,
    /// How the last frame's data began, up to the value of `choices`, with nothing in it that
    /// counts.
    opening: Vec<u8>,
    mold: Mold,
}

/// What one frame holds.
#[derive(Debug, Default)]
struct Found {
    has_choices: bool,
    has_content: bool,
    has_usage: bool,
    has_error: bool,
    counts: Counts,
}

/// What of a frame counts.
#[derive(Debug, Default)]
enum Counts {
    #[default]
    Nothing,
    /// One piece of text, in quotes, and nothing else.
    Text(Range<usize>),
    More,
}

// === impl Found ===

impl Found {
    /// Notes that the string at `at` counts.
    fn count_text(&mut self, at: Range<usize>) {
        self.counts = match self.counts {
            Counts::Nothing => Counts::Text(at),
            Counts::Text(_) | Counts::More => Counts::More,
        };
    }

    /// Notes that something else counts.
    fn count_more(&mut self) {
        self.counts = Counts::More;
    }
}

// === impl ChatScanner ===

impl Scanner for ChatScanner {
    fn scan(&mut self, frame: &[u8]) -> Result<FrameKind, Failure> {
        // Nearly every frame is one line of data; all others are read by the book.
        if let Some(data) = frame.strip_prefix(b"data: ") {
            let end = memchr::memchr2(b'\n', b'\r', data).unwrap_or(data.len());
            if let (Some(line), Some(rest)) = (data.get(..end), data.get(end..))
                && rest.iter().all(|byte| matches!(byte, b'\n' | b'\r'))
            {
                return self.scan_data(line, false);
            }
        }
        if let Some(error) = error_field(frame) {
            return Err(failure_of(error));
        }
        let event = sse::parse(frame);
        self.scan_data(event.data.as_bytes(), event.name == "error")
    }

    fn expect(&mut self, expected: Expected) {
        self.choices.expect(expected);
    }

    fn is_complete(&self) -> bool {
        self.is_done || self.choices.are_finished()
    }

    fn saw_terminal(&self) -> bool {
        self.is_done
    }

    fn summary(&self) -> &StreamSummary {
        &self.summary
    }
}

impl ChatScanner {
    fn scan_data(&mut self, data: &[u8], is_error: bool) -> Result<FrameKind, Failure> {
        let data = data.trim_ascii();
        if is_error {
            return Err(failure_of(data));
        }
        if data.is_empty() {
            return Ok(FrameKind::Preamble);
        }
        if data == b"[DONE]" {
            if self.choices.lack_finish() {
                return Err(no_finish());
            }
            self.is_done = true;
            self.summary.finish = self.choices.finish_at_end();
            return Ok(FrameKind::Terminal);
        }
        if data.first() != Some(&b'{') {
            return Err(unreadable("it is no JSON object"));
        }
        if let Some(text) = self.mold.text_in(data) {
            let has_content = push_text(&mut self.summary.text, text);
            return Ok(if has_content { FrameKind::Semantic } else { FrameKind::Preamble });
        }
        let found = self.walk(data).map_err(|broken| unreadable(broken.expected))?;
        if found.has_error || (!found.has_choices && !found.has_usage && is_flat_error(data)) {
            return Err(failure_of(data));
        }
        self.is_headed |= found.has_choices;
        if found.has_usage && !found.has_choices {
            self.choices.see_usage();
        }
        if let Counts::Text(text) = &found.counts {
            self.mold.cast(data, text.clone());
        }
        Ok(match found {
            Found { has_content: true, .. } => FrameKind::Semantic,
            Found { has_choices: false, has_usage: true, .. } => FrameKind::UsageOnly,
            _ => FrameKind::Preamble,
        })
    }

    /// Steps over the members of the event.
    fn walk(&mut self, data: &[u8]) -> Result<Found, Broken> {
        let mut found = Found::default();
        let mut at = 1;
        let mut known = !self.opening.is_empty() && data.starts_with(&self.opening);
        loop {
            let (key, value): (&[u8], usize) = if std::mem::take(&mut known) {
                (b"choices", json::skip_space(data, self.opening.len()))
            } else {
                let Some(member) = next_member(data, at)? else {
                    return end_of(data, at).map(|()| found);
                };
                member
            };
            at = match key {
                b"choices" => {
                    if !found.has_usage && !found.has_error && !found.has_choices {
                        self.remember(data, value);
                    }
                    self.walk_choices(data, value, &mut found)?
                }
                b"usage" | b"x_groq" => {
                    let end = json::skip_value(data, value, 1)?;
                    let raw = data.get(value..end).unwrap_or_default();
                    let usage = if key == b"usage" { Some(raw) } else { member(raw, b"usage") };
                    if let Some(usage) = usage {
                        self.take_usage(usage, &mut found);
                    }
                    end
                }
                b"id" | b"model" | b"created" if !self.is_headed => {
                    let end = json::skip_value(data, value, 1)?;
                    self.take_head(key, data.get(value..end).unwrap_or_default());
                    end
                }
                b"error" => {
                    let end = json::skip_value(data, value, 1)?;
                    if data.get(value..end) != Some(b"null") {
                        found.has_error = true;
                        found.count_more();
                    }
                    end
                }
                _ => json::skip_value(data, value, 1)?,
            };
        }
    }

    fn remember(&mut self, data: &[u8], choices: usize) {
        let opening = data.get(..choices).unwrap_or_default();
        if self.opening != opening {
            self.opening.clear();
            self.opening.extend_from_slice(opening);
        }
    }

    /// Takes over what the events have in common.
    fn take_head(&mut self, key: &[u8], raw: &[u8]) {
        let head = &mut self.summary.head;
        if key == b"created" {
            // Some write it with a fraction.
            let created: f64 = serde_json::from_slice(raw).unwrap_or_default();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            let created = created as u64;
            head.created = created;
        } else if let Some(text) = text_of(raw).filter(|text| !text.is_empty()) {
            let into = if key == b"id" { &mut head.id } else { &mut head.model };
            *into = text.into_owned();
        }
    }

    /// Adds what a usage object counts, if it is one.
    fn take_usage(&mut self, raw: &[u8], found: &mut Found) {
        if raw.first() != Some(&b'{') {
            return;
        }
        found.has_usage = true;
        found.count_more();
        if let Some(counted) = WireUsage::scan(raw) {
            let usage = self.usage.get_or_insert_default();
            usage.merge(counted);
            self.summary.usage = Some(usage.disjoint());
        }
    }

    fn walk_choices(
        &mut self,
        data: &[u8],
        value: usize,
        found: &mut Found,
    ) -> Result<usize, Broken> {
        if data.get(value) != Some(&b'[') {
            return json::skip_value(data, value, 1);
        }
        let mut position = 0;
        walk_array(data, value, |at| {
            found.has_choices = true;
            let end = self.walk_choice(data, at, position, found)?;
            position += 1;
            Ok(end)
        })
    }

    fn walk_choice(
        &mut self,
        data: &[u8],
        start: usize,
        position: u32,
        found: &mut Found,
    ) -> Result<usize, Broken> {
        if data.get(start) != Some(&b'{') {
            return json::skip_value(data, start, 2);
        }
        let mut at = start + 1;
        let mut index = position;
        let mut finish = None;
        let (mut message, mut text) = (None, None);
        let mut has_delta = false;
        let mut has_calls = false;
        while let Some((key, value)) = next_member(data, at)? {
            at = match key {
                b"delta" if data.get(value) == Some(&b'{') => {
                    has_delta = true;
                    let (end, calls) = self.walk_delta(data, value, found)?;
                    has_calls |= calls;
                    end
                }
                _ => json::skip_value(data, value, 3)?,
            };
            let raw = data.get(value..at).unwrap_or_default();
            match key {
                b"index" => index = index_of(raw).unwrap_or(position),
                b"finish_reason" => {
                    self.choices.see_field();
                    finish = text_of(raw).and_then(|word| finish_reason(&word));
                }
                b"usage" => self.take_usage(raw, found),
                b"message" if raw.first() == Some(&b'{') => message = Some(value),
                b"text" => text = Some(raw),
                _ => {}
            }
        }
        // Some providers repeat the delta in `message` or `text`; only without one it counts.
        match (message, text) {
            _ if has_delta => {}
            (Some(message), _) => {
                found.count_more();
                has_calls = self.walk_delta(data, message, found)?.1;
            }
            (None, Some(text)) => {
                found.count_more();
                found.has_content |= push_text(&mut self.summary.text, text);
                // What completes a text may well be nothing, before a suffix for instance.
                self.summary.has_other |= text.first() == Some(&b'"');
            }
            (None, None) => {}
        }
        self.choices.see(index, has_calls);
        let mut is_news = has_calls && self.summary.finish.is_some();
        if let Some(reason) = finish {
            self.choices.end(index, reason);
            found.count_more();
            found.has_content = true;
            is_news = true;
        }
        if is_news {
            self.summary.finish = self.choices.finish();
        }
        Ok(json::skip_space(data, at) + 1)
    }

    /// Steps over a delta; where it ends, and whether it calls tools.
    fn walk_delta(
        &mut self,
        data: &[u8],
        start: usize,
        found: &mut Found,
    ) -> Result<(usize, bool), Broken> {
        let mut at = start + 1;
        let mut thinking = None;
        let mut has_calls = false;
        while let Some((key, value)) = next_member(data, at)? {
            at = json::skip_value(data, value, 3)?;
            let raw = data.get(value..at).unwrap_or_default();
            if !matches!(raw.first(), Some(b'"' | b'[' | b'{')) {
                continue;
            }
            let text = &mut self.summary.text;
            match key {
                b"content" if raw.starts_with(b"\"") => {
                    found.has_content |= push_text(text, raw);
                    found.count_text(value..at);
                    continue;
                }
                b"content" | b"refusal" => found.has_content |= push_text(text, raw),
                // One provider sends both, with the same text.
                b"reasoning_content" | b"reasoning" => {
                    thinking = thinking.or(Some(raw).filter(|raw| !is_empty(raw)));
                }
                b"tool_calls" | b"function_call" => has_calls |= push_calls(text, raw),
                b"reasoning_details" | b"audio" | b"images" => {
                    let has_other = !raw.starts_with(b"\"") && !is_empty(raw);
                    self.summary.has_other |= has_other;
                    found.has_content |= has_other;
                }
                _ => continue,
            }
            found.count_more();
        }
        if let Some(raw) = thinking {
            found.has_content |= push_text(&mut self.summary.text, raw);
        }
        self.summary.has_tool_calls |= has_calls;
        found.has_content |= has_calls;
        Ok((json::skip_space(data, at) + 1, has_calls))
    }
}

/// The key and the position of the value of the object's next member; `None` at its end. `at` is
/// behind the opening brace or the last value.
fn next_member(data: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Broken> {
    let is_first = data.get(at.wrapping_sub(1)) == Some(&b'{');
    let mut at = json::skip_space(data, at);
    match data.get(at) {
        Some(b'}') => return Ok(None),
        Some(b',') if !is_first => at = json::skip_space(data, at + 1),
        Some(b'"') if is_first => {}
        _ => return Err(Broken { at, expected: "`,` or `}`" }),
    }
    if data.get(at) != Some(&b'"') {
        return Err(Broken { at, expected: "a key in quotes" });
    }
    let end = json::skip_string(data, at)?.end;
    let value = json::skip_colon(data, end)?;
    Ok(Some((data.get(at + 1..end - 1).unwrap_or_default(), value)))
}

/// Demands that nothing follows the object whose closing brace is next.
fn end_of(data: &[u8], at: usize) -> Result<(), Broken> {
    let end = json::skip_space(data, at) + 1;
    match end == data.len() {
        true => Ok(()),
        false => Err(Broken { at: end, expected: "nothing after the object" }),
    }
}

/// The value of a field called `error`, which is no field of the format but is sent nevertheless.
fn error_field(frame: &[u8]) -> Option<&[u8]> {
    let mut lines = frame.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.find_map(|line| line.strip_prefix(b"error:"))
}

fn failure_of(data: &[u8]) -> Failure {
    match serde_json::from_slice::<Value>(data) {
        Ok(value) => failure::failure_from_error_value(&value, FailureKind::MidStream),
        Err(_) => Failure::new(FailureKind::MidStream, String::from_utf8_lossy(data)),
    }
}

fn unreadable(why: &str) -> Failure {
    let message = format!("the provider sent an event that cannot be read: expected {why}");
    Failure::new(FailureKind::MidStream, message)
}

fn is_flat_error(data: &[u8]) -> bool {
    serde_json::from_slice(data).is_ok_and(|object| failure::is_error(&object))
}

fn index_of(raw: &[u8]) -> Option<u32> {
    let index = std::str::from_utf8(raw).ok()?.parse::<u64>().ok()?;
    Some(u32::try_from(index).unwrap_or(u32::MAX))
}

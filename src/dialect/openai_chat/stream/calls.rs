//! Which tool call a piece of a stream belongs to.
//!
//! OpenAI numbers calls with `index` and names each once. Others give every call the index 0 and
//! an id of its own, or no index, or no id, repeat id and name on every piece, or send a new id
//! with every piece. So a piece with a known id belongs to that call; one with a new id and a name
//! opens a call; one with neither goes on with the newest call of its index, or with the newest of
//! all.

use serde_json::Value;

use super::super::reply::{MadeIds, arguments};
use super::super::{state, wire};
use crate::chat::Delta;

/// The tool calls of one alternative.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    opened: u32,
}

#[derive(Debug, Default)]
struct Call {
    /// As the wire gave it; may be empty.
    id: String,
    name: String,
    index: Option<u64>,
    is_legacy: bool,
    /// Its number among the opened ones; `None` until its name came.
    ordinal: Option<u32>,
    /// Arguments that came before the name.
    held: String,
    shape: Shape,
}

/// How far a text has come in being one JSON value.
#[derive(Debug, Default)]
struct Shape {
    depth: u32,
    in_string: bool,
    escaped: bool,
    is_whole: bool,
}

/// One piece.
struct Piece<'a> {
    id: &'a str,
    index: Option<u64>,
    name: &'a str,
    arguments: String,
    is_legacy: bool,
}

// === impl Calls ===

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a call never got a name.
    pub(super) fn has_nameless(&self) -> bool {
        self.all.iter().any(|call| call.ordinal.is_none())
    }

    /// Takes an element of `tool_calls`.
    pub(super) fn push(
        &mut self,
        choice: u32,
        value: &Value,
        ids: &mut MadeIds,
        out: &mut Vec<Delta>,
    ) {
        let empty = Value::Null;
        let function = value.get("function").unwrap_or(&empty);
        let piece = Piece {
            id: wire::text(value, "id"),
            index: value.get("index").and_then(wire::count),
            name: wire::text(function, "name"),
            arguments: arguments(function),
            is_legacy: false,
        };
        self.take(choice, piece, Some(value), ids, out);
    }

    /// Takes a `function_call`, of which there is one.
    pub(super) fn push_legacy(
        &mut self,
        choice: u32,
        name: &str,
        arguments: String,
        ids: &mut MadeIds,
        out: &mut Vec<Delta>,
    ) {
        let piece = Piece { id: "", index: None, name, arguments, is_legacy: true };
        self.take(choice, piece, None, ids, out);
    }

    fn take(
        &mut self,
        choice: u32,
        piece: Piece<'_>,
        value: Option<&Value>,
        ids: &mut MadeIds,
        out: &mut Vec<Delta>,
    ) {
        let at = match self.find(&piece) {
            Some(at) => at,
            None if piece.id.is_empty() && piece.name.is_empty() && piece.arguments.is_empty() => {
                return;
            }
            None => {
                self.all.push(Call {
                    id: piece.id.to_owned(),
                    index: piece.index,
                    is_legacy: piece.is_legacy,
                    ..Call::default()
                });
                self.all.len() - 1
            }
        };
        let Some(call) = self.all.get_mut(at) else { return };
        call.shape.push(&piece.arguments);
        let mut json = piece.arguments;
        if call.ordinal.is_none() {
            if call.id.is_empty() {
                piece.id.clone_into(&mut call.id);
            }
            call.held.push_str(&json);
            if piece.name.is_empty() {
                return;
            }
            json = std::mem::take(&mut call.held);
            let id = if call.id.is_empty() { ids.make(choice) } else { call.id.clone() };
            let opaque = value.and_then(state::call_state);
            let name = piece.name.to_owned();
            call.name.clone_from(&name);
            out.push(Delta::ToolCall { choice, call: self.opened, id, name, opaque });
            call.ordinal = Some(self.opened);
            self.opened += 1;
        }
        if let (false, Some(ordinal)) = (json.is_empty(), call.ordinal) {
            out.push(Delta::ToolArguments { choice, call: ordinal, json });
        }
    }

    fn find(&self, piece: &Piece<'_>) -> Option<usize> {
        let newest = |test: &dyn Fn(&Call) -> bool| self.all.iter().rposition(test);
        if piece.is_legacy {
            return newest(&|call| call.is_legacy);
        }
        let known = newest(&|call| call.id == piece.id).filter(|_| !piece.id.is_empty());
        if known.is_some() {
            return known;
        }
        let at = match piece.index {
            Some(index) => newest(&|call| call.index == Some(index)),
            None => self.all.len().checked_sub(1),
        };
        let call = self.all.get(at?)?;
        let opens = match call.ordinal {
            // Its name has not come yet, so this may be it.
            None => !piece.id.is_empty() && !call.id.is_empty(),
            Some(_) if piece.name.is_empty() => false,
            Some(_) if !piece.id.is_empty() && !call.id.is_empty() => true,
            // A name without an id: another call, or the name repeated.
            Some(_) => {
                piece.name != call.name || (call.shape.is_whole && !piece.arguments.is_empty())
            }
        };
        if opens { None } else { at }
    }
}

// === impl Shape ===

impl Shape {
    fn push(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_whole = self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

//! Tests of leaving turns out.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// One token a character; a message costs four more.
fn count(text: &str) -> u64 {
    text.chars().count() as u64
}

fn call(id: &str) -> Message {
    let part = Part::ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
        arguments: "{}".to_owned(),
        opaque: None,
    };
    Message { role: Role::Assistant, parts: vec![part], name: None }
}

fn result(role: Role, id: &str) -> Message {
    let part = Part::ToolResult {
        call_id: id.to_owned(),
        name: None,
        parts: vec![Part::text("42")],
        is_error: false,
        cache: None,
    };
    Message { role, parts: vec![part], name: None }
}

fn user(text: &str) -> Message {
    Message::text(Role::User, text)
}

fn assistant(text: &str) -> Message {
    Message::text(Role::Assistant, text)
}

fn request(messages: Vec<Message>) -> ChatRequest {
    ChatRequest { messages, ..ChatRequest::default() }
}

#[test]
fn what_fits_stays_as_it_is() {
    let mut chat = request(vec![assistant("hello"), user("hi"), assistant("yes?"), user("ok")]);
    let before = chat.clone();
    let reduced = reduce(&mut chat, 29, count);
    assert_eq!(reduced, Reduced { turns: 0, messages: 0, tokens: 29, fits: true });
    assert_eq!(chat, before);
}

#[test]
fn the_oldest_turns_go_first_and_instructions_stay() {
    let mut chat = request(vec![
        Message::text(Role::System, "be nice"),
        user("one"),
        assistant("1"),
        Message::text(Role::Developer, "be brief"),
        user("two"),
        assistant("2"),
        user("three"),
    ]);
    let kept = [0, 3, 4, 5, 6].map(|at: usize| chat.messages[at].clone());
    let reduced = reduce(&mut chat, 52, count);
    assert_eq!(reduced, Reduced { turns: 1, messages: 2, tokens: 44, fits: true });
    assert_eq!(chat.messages, kept);
}

#[test]
fn tool_calls_go_with_their_results() {
    let turn = |id| vec![user("ask"), call(id), result(Role::Tool, id), assistant("done")];
    let mut chat = request([turn("a"), turn("b")].concat());
    assert_eq!(reduce(&mut chat, 39, count).turns, 1);
    assert_eq!(chat.messages, turn("b"));
}

#[test]
fn results_in_a_users_message_begin_no_turn() {
    let messages = vec![user("ask"), call("a"), result(Role::User, "a"), assistant("done")];
    let mut chat = request(messages.clone());
    let reduced = reduce(&mut chat, 1, count);
    assert!(!reduced.fits && reduced.turns == 0, "{reduced:?}");
    assert_eq!(chat.messages, messages);
    assert!(!can_reduce(&chat));
}

#[test]
fn turns_bound_by_a_late_result_stay_together() {
    let messages = vec![user("one"), call("a"), user("wait"), result(Role::Tool, "a"), user("so?")];
    let mut chat = request(messages);
    assert_eq!(reduce(&mut chat, 20, count).turns, 1);
    assert_eq!(chat.messages, [user("so?")]);
}

#[test]
fn an_empty_conversation_is_left_alone() {
    let mut chat = request(Vec::new());
    let reduced = reduce(&mut chat, 0, count);
    assert_eq!(reduced, Reduced { turns: 0, messages: 0, tokens: 0, fits: true });
}

/// Any messages in any order: what a caller might send, sensible or not.
fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let id = prop::sample::select(vec!["a", "b", "c"]);
    let message = prop_oneof![
        1 => "[a-z]{0,9}".prop_map(|text| Message::text(Role::System, text)),
        4 => "[a-z]{0,30}".prop_map(|text| user(&text)),
        3 => "[a-z]{0,30}".prop_map(|text| assistant(&text)),
        2 => id.clone().prop_map(call),
        2 => id.clone().prop_map(|id| result(Role::Tool, id)),
        1 => id.prop_map(|id| result(Role::User, id)),
    ];
    prop::collection::vec(message, 0..30)
}

/// The results whose call comes before them.
fn answered(messages: &[Message]) -> usize {
    let mut calls = HashSet::new();
    let mut answered = 0;
    for part in messages.iter().flat_map(|message| &message.parts) {
        if let Part::ToolCall { id, .. } = part {
            calls.insert(id);
        } else if let Part::ToolResult { call_id, .. } = part {
            answered += usize::from(calls.contains(call_id));
        }
    }
    answered
}

proptest! {
    #[test]
    fn no_reduction_makes_a_conversation_wrong(messages in conversation(), budget in 0_u64..300) {
        let mut chat = request(messages.clone());
        let reduced = reduce(&mut chat, budget, count);
        let kept = &chat.messages;

        prop_assert_eq!(reduced.messages, messages.len() - kept.len());
        let tokens: u64 = kept.iter().map(|message| message_tokens(message, &count)).sum();
        prop_assert_eq!(reduced.tokens, tokens);
        prop_assert_eq!(reduced.fits, tokens <= budget);

        // What is left is the instructions and an unbroken end of the rest.
        let rest = |of: &[Message]| -> Vec<Message> {
            of.iter().filter(|message| !is_instruction(message)).cloned().collect()
        };
        let (all, left) = (rest(&messages), rest(kept));
        prop_assert!(all.ends_with(&left));
        let instructions = |of: &[Message]| of.iter().filter(|message| is_instruction(message)).count();
        prop_assert_eq!(instructions(&messages), instructions(kept));

        // The last user's message and all after it are there.
        let last_user = all.iter().rposition(begins_turn).unwrap_or(0);
        prop_assert!(left.len() >= all.len() - last_user);

        if reduced.turns > 0 {
            prop_assert!(left.first().is_some_and(begins_turn));
            // Each result that is left kept its call: what went had as many of its own.
            let gone = &all[..all.len() - left.len()];
            prop_assert_eq!(answered(&all) - answered(gone), answered_in(&all, gone.len()));
            prop_assert_eq!(answered_in(&all, gone.len()), answered(&left));
        }
        if !reduced.fits {
            prop_assert!(!can_reduce(&chat), "more could have gone");
        }
    }
}

/// The results from `from` on whose call comes before them, anywhere.
fn answered_in(messages: &[Message], from: usize) -> usize {
    answered(messages) - answered(&messages[..from])
}

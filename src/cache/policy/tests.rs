//! Tests of what may be asked and what may be kept, as tables.

use super::*;
use crate::chat::{Choice, Media, Message, Opaque, OpaqueKind, Tool};
use serde_json::{Value, json};

fn settings() -> RouteCacheSettings {
    RouteCacheSettings { exact: true, ..RouteCacheSettings::default() }
}

fn asks(text: &str) -> ChatRequest {
    ChatRequest { messages: vec![Message::text(Role::User, text)], ..ChatRequest::default() }
}

fn plain() -> ChatRequest {
    asks("What is the capital of France?")
}

fn with(key: &str, value: Value) -> ChatRequest {
    let mut chat = plain();
    chat.extra.insert(key.to_owned(), value);
    chat
}

fn function() -> Tool {
    Tool {
        name: "look".to_owned(),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
        hosted: None,
    }
}

fn media(source: MediaSource) -> Part {
    Part::Media(Media { source, media_type: None, name: None, detail: None, cache: None })
}

fn instructed(text: &str) -> ChatRequest {
    let mut chat = plain();
    chat.messages.insert(0, Message::text(Role::System, text));
    chat
}

#[test]
fn what_headers_say_comes_first() {
    let wish = CacheWish::default();
    assert_eq!(wish.check(), Ok(()));
    let exact = CacheWish { mode: Some(CacheMode::Exact), ..wish };
    assert_eq!(exact.check(), Ok(()));
    assert_eq!(CacheWish { mode: Some(CacheMode::Off), ..wish }.check(), Err(Bypass::Off));
    assert_eq!(CacheWish { no_store: true, ..exact }.check(), Err(Bypass::NoStore));
    assert_eq!(CacheWish { no_cache: true, ..wish }.check(), Ok(()));
    assert!(wish.takes_stale());
    assert!(!CacheWish { no_cache: true, ..wish }.takes_stale());
    assert!(!CacheWish { no_store: true, ..wish }.takes_stale());
    assert!(!CacheWish { max_age: Some(Duration::from_secs(1)), ..wish }.takes_stale());
}

#[test]
fn what_may_be_asked_of_the_cache() {
    let sampled = |temperature| {
        let mut chat = plain();
        chat.sampling.temperature = Some(temperature);
        chat
    };
    let tooled =
        |tool: Tool, tool_choice| ChatRequest { tools: vec![tool], tool_choice, ..plain() };
    let shown = |part| {
        let message = Message { role: Role::User, parts: vec![part], name: None };
        ChatRequest { messages: vec![message], ..plain() }
    };
    let hosted = Tool { hosted: Some(("openai-chat".to_owned(), json!({}))), ..function() };
    let url = || MediaSource::Url("https://example.com/a.png".to_owned());
    let result = |part| Part::ToolResult {
        call_id: "c".to_owned(),
        name: None,
        parts: vec![part],
        is_error: false,
        cache: None,
    };
    let cases = [
        (plain(), Ok(())),
        (sampled(0.0), Ok(())),
        (sampled(0.3), Ok(())),
        (sampled(0.31), Err(Bypass::Temperature)),
        (ChatRequest { n: Some(1), ..plain() }, Ok(())),
        (ChatRequest { n: Some(2), ..plain() }, Err(Bypass::SeveralChoices)),
        (with("best_of", json!(3)), Err(Bypass::SeveralChoices)),
        (with("store", json!(true)), Err(Bypass::Stateful)),
        (with("store", json!(false)), Ok(())),
        (with("previous_response_id", json!("r")), Err(Bypass::Stateful)),
        (with("service_tier", json!("auto")), Ok(())),
        (with("web_search_options", json!({})), Err(Bypass::HostedTools)),
        (with("plugins", json!([])), Ok(())),
        (with("plugins", json!([{"id": "web"}])), Err(Bypass::HostedTools)),
        (with("audio", json!({"voice": "x"})), Err(Bypass::Sound)),
        (tooled(function(), None), Err(Bypass::Tools)),
        (tooled(function(), Some(ToolChoice::Auto)), Err(Bypass::Tools)),
        (tooled(function(), Some(ToolChoice::None)), Ok(())),
        (tooled(hosted, Some(ToolChoice::None)), Err(Bypass::HostedTools)),
        (shown(media(url())), Err(Bypass::RemoteMedia)),
        (shown(result(media(url()))), Err(Bypass::RemoteMedia)),
        (shown(media(MediaSource::Base64("aGk=".to_owned()))), Ok(())),
        (shown(media(MediaSource::FileId("f".to_owned()))), Ok(())),
        (
            shown(Part::Other { dialect: "anthropic".to_owned(), value: json!({}) }),
            Err(Bypass::RemoteMedia),
        ),
        (asks("What is the weather in Paris?"), Err(Bypass::TimeSensitive)),
        (instructed("The current date is Monday."), Err(Bypass::TimeSensitive)),
        (instructed("It was written on 2026-11-21."), Err(Bypass::TimeSensitive)),
        (instructed("Speak of the weather only."), Ok(())),
    ];
    for (chat, wanted) in cases {
        assert_eq!(may_ask(&chat, &settings()), wanted, "{chat:?}");
    }
}

#[test]
fn a_question_of_the_day_earlier_in_the_conversation_counts() {
    let mut chat = asks("What is the weather in Paris?");
    chat.messages.push(Message::text(Role::Assistant, "Rain."));
    chat.messages.push(Message::text(Role::User, "And in Rome?"));
    assert_eq!(may_ask(&chat, &settings()), Err(Bypass::TimeSensitive));
}

#[test]
fn a_route_may_allow_more() {
    let more = RouteCacheSettings {
        max_temperature: 1.0,
        tools: true,
        time_sensitive: true,
        ..settings()
    };
    let mut warm = asks("What is the weather in Paris?");
    warm.sampling.temperature = Some(1.0);
    warm.tools = vec![function()];
    assert_eq!(may_ask(&warm, &more), Ok(()));
    let said = answer("Today is Monday.");
    let answered = Answered { completion: &said, degradation: 0, is_spliced: false };
    assert_eq!(may_keep(answered, &more), Ok(()));
    let hosted = Tool { hosted: Some(("openai-chat".to_owned(), json!({}))), ..function() };
    let never = ChatRequest { tools: vec![hosted], ..plain() };
    assert_eq!(may_ask(&never, &more), Err(Bypass::HostedTools));
}

fn choice(parts: Vec<Part>, finish: Option<FinishReason>) -> Completion {
    let choice = Choice { parts, finish, ..Choice::default() };
    Completion { choices: vec![choice], ..Completion::default() }
}

fn answer(text: &str) -> Completion {
    choice(vec![Part::text(text)], Some(FinishReason::Stop))
}

#[test]
fn what_may_be_kept() {
    let finished = |finish| choice(vec![Part::text("Paris.")], finish);
    let said = |part| choice(vec![part], Some(FinishReason::Stop));
    let opaque = Opaque { kind: OpaqueKind::AnthropicSignature, value: "s".to_owned() };
    let thought = Part::Reasoning { text: "hm".to_owned(), opaque: Some(opaque) };
    let call = Part::ToolCall {
        id: "c".to_owned(),
        name: "look".to_owned(),
        arguments: String::new(),
        opaque: None,
    };
    let two = Completion {
        choices: vec![Choice::default(), Choice { index: 1, ..Choice::default() }],
        ..Completion::default()
    };
    let cases = [
        (answer("Paris."), Ok(())),
        (finished(Some(FinishReason::StopSequence(Some("x".to_owned())))), Ok(())),
        (choice(vec![thought.clone(), Part::text("Paris.")], Some(FinishReason::Stop)), Ok(())),
        (choice(vec![thought], Some(FinishReason::Stop)), Err(Unkept::Empty)),
        (finished(None), Err(Unkept::Unfinished)),
        (finished(Some(FinishReason::Length)), Err(Unkept::Unfinished)),
        (finished(Some(FinishReason::Pause)), Err(Unkept::Unfinished)),
        (finished(Some(FinishReason::Other("odd".to_owned()))), Err(Unkept::Unfinished)),
        (finished(Some(FinishReason::ToolCalls)), Err(Unkept::ToolCall)),
        (finished(Some(FinishReason::ContentFilter)), Err(Unkept::Refusal)),
        (finished(Some(FinishReason::Refusal)), Err(Unkept::Refusal)),
        (said(call), Err(Unkept::ToolCall)),
        (said(Part::Refusal { text: "no".to_owned() }), Err(Unkept::Refusal)),
        (answer("I'm sorry, but I can't help with that."), Err(Unkept::Refusal)),
        (said(media(MediaSource::FileId("f".to_owned()))), Err(Unkept::ForeignParts)),
        (answer(""), Err(Unkept::Empty)),
        (answer(" \n"), Err(Unkept::Empty)),
        (answer("Today is Monday."), Err(Unkept::TimeSensitive)),
        (Completion::default(), Err(Unkept::SeveralChoices)),
        (two, Err(Unkept::SeveralChoices)),
    ];
    for (completion, wanted) in cases {
        let answered = Answered { completion: &completion, degradation: 0, is_spliced: false };
        assert_eq!(may_keep(answered, &settings()), wanted, "{completion:?}");
    }
}

#[test]
fn lesser_and_patched_answers_are_not_kept() {
    let completion = answer("Paris.");
    for degradation in 1..=4 {
        let answered = Answered { completion: &completion, degradation, is_spliced: false };
        assert_eq!(may_keep(answered, &settings()), Err(Unkept::Degraded));
    }
    let answered = Answered { completion: &completion, degradation: 0, is_spliced: true };
    assert_eq!(may_keep(answered, &settings()), Err(Unkept::Spliced));
}

//! What simulated models say.

use super::*;

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 3},
        },
        "required": ["city", "unit", "days"],
    })
}

fn tools(dialect: Dialect, names: &[&str]) -> Value {
    let each = |name: &&str| match dialect {
        Dialect::OpenAiChat => {
            json!({"type": "function", "function": {"name": name, "parameters": weather()}})
        }
        Dialect::Anthropic => json!({"name": name, "input_schema": weather()}),
        Dialect::Gemini => json!({"name": name, "parameters": weather()}),
    };
    let all: Vec<Value> = names.iter().map(each).collect();
    if dialect == Dialect::Gemini { json!([{"functionDeclarations": all}]) } else { json!(all) }
}

fn calls(completion: &Completion) -> Vec<(String, Value)> {
    let calls = completion.choices[0].parts.iter().filter_map(|part| {
        let Part::ToolCall { name, arguments, .. } = part else { return None };
        Some((name.clone(), serde_json::from_str(arguments).expect("arguments are JSON")))
    });
    calls.collect()
}

fn said(completion: &Completion) -> String {
    completion.choices[0].parts.iter().filter_map(Part::as_text).collect()
}

#[test]
fn a_question_is_answered_with_itself() {
    for dialect in Dialect::ALL {
        let mut engine = Engine::new(Scenario::instant());
        let (path, body) = ask(dialect, "How high is the tide?", json!({}));
        let whole = reply(dialect, &post(&mut engine, &path, &body));
        let text = said(&whole);
        assert!(text.contains("simulated provider"), "{text}");
        assert!(text.contains("How high is the tide?"), "{text}");
        let usage = whole.usage.expect("usage");
        assert_eq!(usage.output, content::words(&text).len() as u64);

        let mut engine = Engine::new(Scenario::instant());
        let (path, body) = ask(dialect, "How high is the tide?", json!({"stream": true}));
        let deltas = deltas(dialect, &post(&mut engine, &path, &body)).expect("a whole stream");
        assert_eq!(text_of(&deltas), text, "stream and whole answer say the same");
        assert_eq!(deltas.last(), Some(&Delta::End));
    }
}

#[test]
fn every_token_is_a_chunk_and_a_frame_of_its_own() {
    let mut engine = Engine::new(Scenario::instant());
    let (path, body) = ask(Dialect::OpenAiChat, "[[sim:tokens=7]]", json!({"stream": true}));
    let script = post(&mut engine, &path, &body);
    let mut with_text = 0;
    for step in &script.steps {
        let Action::Chunk(bytes) = &step.action else { continue };
        assert!(sse::frame_len(bytes).is_none_or(|length| length == bytes.len()), "one frame each");
        with_text += usize::from(
            String::from_utf8_lossy(bytes).contains("\"content\":\" ")
                || String::from_utf8_lossy(bytes).contains("\"content\":\"H")
                || String::from_utf8_lossy(bytes).contains("\"content\":\"G")
                || String::from_utf8_lossy(bytes).contains("\"content\":\"A"),
        );
    }
    assert_eq!(with_text, 7);
    assert!(script.bytes().ends_with(b"data: [DONE]\n\n"));
}

#[test]
fn the_same_seed_and_order_give_the_same_bytes() {
    let run = |seed| {
        let mut engine = Engine::new(Scenario { seed, ..Scenario::default() });
        let mut scripts = Vec::new();
        for dialect in Dialect::ALL {
            let (path, body) = ask(dialect, "Hello", json!({"stream": true}));
            scripts.push(post(&mut engine, &path, &body));
        }
        scripts
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_tool_is_called_when_it_is_mentioned_or_required_or_wished_for() {
    for dialect in Dialect::ALL {
        let declared = tools(dialect, &["get_weather", "get_tide"]);
        let mut engine = Engine::new(Scenario::instant());
        let mut called = |text: &str, stream: bool| {
            let (path, body) = ask(dialect, text, json!({"tools": declared, "stream": stream}));
            let script = post(&mut engine, &path, &body);
            if stream {
                let deltas = deltas(dialect, &script).expect("a whole stream");
                let names = deltas.iter().filter_map(|delta| {
                    let Delta::ToolCall { name, .. } = delta else { return None };
                    Some(name.clone())
                });
                return names.collect::<Vec<_>>();
            }
            let whole = reply(dialect, &script);
            let calls = calls(&whole);
            for (_, arguments) in &calls {
                assert_eq!(arguments["unit"], "celsius");
                assert_eq!(arguments["days"], 3);
                assert!(arguments["city"].is_string());
            }
            calls.into_iter().map(|(name, _)| name).collect()
        };
        for stream in [false, true] {
            assert_eq!(called("Hello", stream), [""; 0], "{dialect}");
            assert_eq!(called("Please get weather now", stream), ["get_weather"], "{dialect}");
            assert_eq!(
                called("[[sim:call=get_weather,call=get_tide]]", stream),
                ["get_weather", "get_tide"],
                "{dialect}"
            );
        }
    }
}

#[test]
fn tool_choice_is_obeyed() {
    let mut engine = Engine::new(Scenario::instant());
    let mut called = |choice: Value, parallel: bool| {
        let more = json!({
            "tools": tools(Dialect::OpenAiChat, &["get_weather", "get_tide"]),
            "tool_choice": choice,
            "parallel_tool_calls": parallel,
        });
        let (path, body) = ask(Dialect::OpenAiChat, "get_weather and get_tide", more);
        let whole = reply(Dialect::OpenAiChat, &post(&mut engine, &path, &body));
        calls(&whole).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(called(json!("none"), true), [""; 0]);
    assert_eq!(called(json!("required"), true), ["get_weather", "get_tide"]);
    assert_eq!(called(json!("auto"), false), ["get_weather"]);
    let tide = json!({"type": "function", "function": {"name": "get_tide"}});
    assert_eq!(called(tide, true), ["get_tide"]);
}

#[test]
fn the_result_of_a_tool_is_put_into_words() {
    let mut engine = Engine::new(Scenario::instant());
    let body = json!({
        "model": "tide-small",
        "tools": tools(Dialect::OpenAiChat, &["get_weather"]),
        "tool_choice": "required",
        "messages": [
            {"role": "user", "content": "get_weather [[sim:call=get_weather]]"},
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function",
                "function": {"name": "get_weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
        ],
    });
    let whole = reply(Dialect::OpenAiChat, &post(&mut engine, "/v1/chat/completions", &body));
    assert!(said(&whole).contains("21 degrees"), "{whole:?}");
    assert_eq!(calls(&whole), []);
}

#[test]
fn structured_answers_follow_their_schema() {
    let mut engine = Engine::new(Scenario::instant());
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "weather", "strict": true, "schema": weather()}}});
    let (path, body) = ask(Dialect::OpenAiChat, "Weather?", format);
    let whole = reply(Dialect::OpenAiChat, &post(&mut engine, &path, &body));
    let value: Value = serde_json::from_str(&said(&whole)).expect("JSON");
    assert_eq!((&value["unit"], &value["days"]), (&json!("celsius"), &json!(3)));

    let format = json!({"response_format": {"type": "json_object"}});
    let (path, body) = ask(Dialect::OpenAiChat, "Any JSON", format);
    let whole = reply(Dialect::OpenAiChat, &post(&mut engine, &path, &body));
    let value: Value = serde_json::from_str(&said(&whole)).expect("JSON");
    assert_eq!(value["asked"], "Any JSON");
}

#[test]
fn stop_texts_and_limits_end_the_answer() {
    let mut engine = Engine::new(Scenario::instant());
    let mut answer = |more: Value| {
        let (path, body) = ask(Dialect::OpenAiChat, "[[sim:say=one two three four]]", more);
        let whole = reply(Dialect::OpenAiChat, &post(&mut engine, &path, &body));
        let choice = whole.choices[0].clone();
        (said(&whole), choice.finish, whole.usage.expect("usage").output)
    };
    use crate::chat::FinishReason::{Length, Stop};
    assert_eq!(answer(json!({})), ("one two three four".to_owned(), Some(Stop), 4));
    assert_eq!(answer(json!({"stop": ["ree"]})), ("one two th".to_owned(), Some(Stop), 3));
    assert_eq!(answer(json!({"max_tokens": 2})), ("one two".to_owned(), Some(Length), 2));
}

#[test]
fn several_alternatives_with_log_probabilities_are_told_in_turns() {
    let mut engine = Engine::new(Scenario::instant());
    let more = json!({"n": 2, "logprobs": true, "top_logprobs": 3, "stream": true});
    let (path, body) = ask(Dialect::OpenAiChat, "[[sim:say=a b c]]", more);
    let deltas = deltas(Dialect::OpenAiChat, &post(&mut engine, &path, &body)).expect("a stream");
    let order = deltas.iter().filter_map(|delta| {
        let Delta::Text { choice, .. } = delta else { return None };
        Some(*choice)
    });
    assert_eq!(order.collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1]);
    let logprobs: usize = deltas
        .iter()
        .map(|delta| {
            let Delta::Logprobs { tokens, .. } = delta else { return 0 };
            assert_eq!(tokens[0].top.len(), 3);
            tokens.len()
        })
        .sum();
    assert_eq!(logprobs, 6);
}

#[test]
fn a_long_prefix_is_cached_the_second_time() {
    let mut engine = Engine::new(Scenario::instant());
    let long = "The tide comes in and goes out again. ".repeat(200);
    let mut usage = |tail: &str| {
        let (path, body) = ask(Dialect::OpenAiChat, &format!("{long}{tail}"), json!({}));
        reply(Dialect::OpenAiChat, &post(&mut engine, &path, &body)).usage.expect("usage")
    };
    let first = usage("Why?");
    assert_eq!(first.cached_input, 0);
    let second = usage("When?");
    assert_eq!(second.cached_input % 128, 0);
    assert!(second.cached_input >= 1_792, "{second:?}");
    assert!(second.total_input().abs_diff(first.total_input()) <= 1);
}

#[test]
fn thinking_is_signed_and_the_signature_is_checked() {
    let mut engine = Engine::new(Scenario::instant());
    let question = json!({"role": "user", "content": "[[sim:call=get_weather]]"});
    let request = |messages: Value| {
        json!({"model": "tide-reasoner", "max_tokens": 2000, "messages": messages,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "tools": tools(Dialect::Anthropic, &["get_weather"])})
    };
    let first = post(&mut engine, "/v1/messages", &request(json!([question])));
    let content = body(&first)["content"].clone();
    assert_eq!(content[0]["type"], "thinking");
    let result = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "21"}]});
    let mut next = |content: &Value| {
        let messages = json!([question, {"role": "assistant", "content": content}, result]);
        let script = post(&mut engine, "/v1/messages", &request(messages));
        (head(&script).0.as_u16(), body(&script)["error"]["message"].to_string())
    };
    assert_eq!(next(&content).0, 200);
    let mut forged = content.clone();
    forged[0]["thinking"] = json!("something else");
    assert_eq!(next(&forged).0, 400);
    assert!(next(&forged).1.contains("Invalid `signature`"), "{}", next(&forged).1);
    let (status, message) = next(&json!([content[1]]));
    assert_eq!(status, 400);
    assert!(message.contains("Expected `thinking`"), "{message}");
}

#[test]
fn thought_signatures_are_checked_on_gemini() {
    let mut engine = Engine::new(Scenario::instant());
    let path = "/v1beta/models/tide-reasoner:generateContent";
    let question = json!({"role": "user", "parts": [{"text": "[[sim:call=get_weather]]"}]});
    let request = |contents: Value| json!({"contents": contents, "tools": tools(Dialect::Gemini, &["get_weather"])});
    let first = post(&mut engine, path, &request(json!([question])));
    let content = body(&first)["candidates"][0]["content"].clone();
    let result = json!({"role": "user", "parts": [
        {"functionResponse": {"name": "get_weather", "response": {"result": "21"}}}]});
    let mut next = |content: &Value| {
        let script = post(&mut engine, path, &request(json!([question, content, result])));
        (head(&script).0.as_u16(), body(&script)["error"]["message"].to_string())
    };
    assert_eq!(next(&content).0, 200, "{content}");
    let mut bare = content.clone();
    for part in bare["parts"].as_array_mut().expect("parts") {
        part.as_object_mut().expect("a part").remove("thoughtSignature");
    }
    let (status, message) = next(&bare);
    assert_eq!(status, 400);
    assert!(message.contains("missing a thought_signature"), "{message}");
}

#[test]
fn keys_and_models_are_checked_in_the_dialects_own_words() {
    let behaviour = Behaviour::default();
    let models = vec![("tide-9".to_owned(), behaviour)];
    let mut engine = Engine::new(Scenario { models, ..Scenario::default() });
    let (path, chat) = ask(Dialect::OpenAiChat, "Hello", json!({}));
    let script = post(&mut engine, &path, &chat);
    assert_eq!(head(&script).0, StatusCode::NOT_FOUND);
    assert_eq!(body(&script)["error"]["code"], "model_not_found");
    let (path, chat) = ask(Dialect::Anthropic, "Hello", json!({}));
    assert_eq!(body(&post(&mut engine, &path, &chat))["error"]["type"], "not_found_error");
    let (path, chat) = ask(Dialect::Gemini, "Hello", json!({}));
    assert_eq!(body(&post(&mut engine, &path, &chat))["error"]["status"], "NOT_FOUND");

    let keys = vec!["sk-sim".to_owned()];
    let mut engine = Engine::new(Scenario { keys, ..Scenario::instant() });
    let (path, chat) = ask(Dialect::OpenAiChat, "Hello", json!({}));
    let script = post(&mut engine, &path, &chat);
    assert_eq!(head(&script).0, StatusCode::UNAUTHORIZED);
    assert_eq!(body(&script)["error"]["code"], "invalid_api_key");
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer sk-sim"));
    let bytes = chat.to_string();
    let now = Moment::default();
    let script = send(&mut engine, &Method::POST, &path, &headers, bytes.as_bytes(), now);
    assert_eq!(head(&script).0, StatusCode::OK);
}

#[test]
fn malformed_requests_are_refused_with_the_dialects_error() {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    for dialect in Dialect::ALL {
        let mut engine = Engine::new(Scenario::instant());
        let (path, _) = ask(dialect, "", json!({}));
        let now = Moment::default();
        let script = send(&mut engine, &Method::POST, &path, &headers, b"{\"model\": ", now);
        let (status, headers, _) = head(&script);
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let failure = dialect.codec().decode_failure(status, headers, &script.bytes());
        assert_eq!(failure.kind, crate::failure::FailureKind::CallerFault);
        assert!(!failure.message.is_empty());
    }
}

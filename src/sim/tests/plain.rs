//! Endpoints beside completions.

use super::*;

fn get(engine: &mut Engine, path: &str, headers: &HeaderMap) -> Script {
    send(engine, &Method::GET, path, headers, b"", Moment::default())
}

#[test]
fn legacy_completions_answer_every_prompt() {
    let mut engine = Engine::new(Scenario::instant());
    let request = json!({"model": "tide-small", "prompt": ["[[sim:say=one two]]", "b"], "n": 2});
    let answer = body(&post(&mut engine, "/v1/completions", &request));
    let choices = answer["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 4);
    assert_eq!(choices[3]["index"], 3);
    assert_eq!(choices[0]["text"], "one two");
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["completion_tokens"], 8, "the wish counts for all prompts");
}

#[test]
fn legacy_completions_stream_and_stop_at_sixteen_tokens() {
    let mut engine = Engine::new(Scenario::instant());
    let request = json!({"model": "tide-small", "prompt": "[[sim:tokens=40]]", "stream": true,
        "stream_options": {"include_usage": true}});
    let bytes = post(&mut engine, "/v1/completions", &request).bytes();
    let text = String::from_utf8(bytes).expect("text");
    let frames: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(frames.len(), 16 + 3, "{text}");
    assert!(frames[16].contains("\"finish_reason\":\"length\""), "{}", frames[16]);
    assert!(frames[17].contains("\"completion_tokens\":16"), "{}", frames[17]);
    assert_eq!(frames[18], "data: [DONE]");
}

#[test]
fn embeddings_are_unit_vectors_that_depend_on_the_text_alone() {
    let vector = |text: &str, dimensions: usize| embedding::embed(text, dimensions);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    for text in ["", "tide", "Ebbe und Flut 🌊", "a b c"] {
        let a = vector(text, 256);
        assert!((dot(&a, &a) - 1.0).abs() < 1e-4, "{text}");
        assert_eq!(a, vector(text, 256));
    }
    let (a, b) = (vector("when is high tide", 256), vector("when is the high tide", 256));
    let c = vector("bake bread slowly", 256);
    assert!(dot(&a, &b) > 0.7, "{}", dot(&a, &b));
    assert!(dot(&a, &c) < 0.4, "{}", dot(&a, &c));
    assert!(dot(&a, &b) < 0.999);
}

#[test]
fn embeddings_honour_format_and_dimensions() {
    let mut engine = Engine::new(Scenario::instant());
    let mut embed = |more: Value| {
        let mut request = json!({"model": "tide-embed", "input": ["a", "b"]});
        request.as_object_mut().expect("object").extend(more.as_object().cloned().expect("object"));
        post(&mut engine, "/v1/embeddings", &request)
    };
    let plain = body(&embed(json!({})));
    assert_eq!(plain["data"][1]["embedding"].as_array().map(Vec::len), Some(1_536));
    assert_eq!(plain["data"][1]["index"], 1);
    assert_eq!(plain["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    let short = body(&embed(json!({"encoding_format": "base64", "dimensions": 3})));
    let text = short["data"][0]["embedding"].as_str().expect("base64");
    assert_eq!(text, embedding::base64(&embedding::to_bytes(&embedding::embed("a", 3))));
    assert_eq!(text.len(), 16);
    assert_eq!(head(&embed(json!({"dimensions": 0}))).0, StatusCode::BAD_REQUEST);
    assert_eq!(head(&embed(json!({"input": []}))).0, StatusCode::BAD_REQUEST);
    let tokens = body(&embed(json!({"input": [[1, 2, 3], [4]]})));
    assert_eq!(tokens["usage"]["prompt_tokens"], 4);
}

#[test]
fn base64_is_the_standard_one() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(embedding::base64(bytes.as_bytes()), text);
    }
    assert_eq!(embedding::base64(&[0xFB, 0xFF]), "+/8=");
}

#[test]
fn gemini_embeds_one_text_or_many() {
    let mut engine = Engine::new(Scenario::instant());
    let one = json!({"content": {"parts": [{"text": "tide"}]}, "outputDimensionality": 8});
    let answer = body(&post(&mut engine, "/v1beta/models/tide-embed:embedContent", &one));
    assert_eq!(answer["embedding"]["values"].as_array().map(Vec::len), Some(8));
    let many = json!({"requests": [one, one, one]});
    let path = "/v1beta/models/tide-embed:batchEmbedContents";
    let answer = body(&post(&mut engine, path, &many));
    assert_eq!(answer["embeddings"].as_array().map(Vec::len), Some(3));
}

#[test]
fn models_are_listed_in_each_dialect() {
    let mut engine = Engine::new(Scenario::instant());
    let none = HeaderMap::new();
    let list = body(&get(&mut engine, "/v1/models", &none));
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], "tide-small");
    let one = body(&get(&mut engine, "/openai/v1/models/tide-large", &none));
    assert_eq!(one["id"], "tide-large");
    let gemini = body(&get(&mut engine, "/v1beta/models", &none));
    assert_eq!(gemini["models"][0]["name"], "models/tide-small");
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    let anthropic = body(&get(&mut engine, "/v1/models", &headers));
    assert_eq!(anthropic["data"][0]["type"], "model");
    assert_eq!(head(&get(&mut engine, "/v1/nothing", &none)).0, StatusCode::NOT_FOUND);
}

#[test]
fn tokens_are_counted_without_an_answer() {
    let mut engine = Engine::new(Scenario::instant());
    let (path, mut chat) = ask(Dialect::Anthropic, "How many tokens is this?", json!({}));
    let usage = reply(Dialect::Anthropic, &post(&mut engine, &path, &chat)).usage.expect("usage");
    chat.as_object_mut().expect("object").remove("max_tokens");
    let counted = body(&post(&mut engine, "/v1/messages/count_tokens", &chat));
    assert_eq!(counted["input_tokens"], usage.input);
    let (_, chat) = ask(Dialect::Gemini, "How many tokens is this?", json!({}));
    let counted = body(&post(&mut engine, "/v1beta/models/tide-small:countTokens", &chat));
    assert_eq!(counted["totalTokens"], usage.input);
}

#[test]
fn gemini_streams_an_array_without_server_sent_events() {
    let mut engine = Engine::new(Scenario::instant());
    let (_, chat) = ask(Dialect::Gemini, "[[sim:tokens=5]]", json!({}));
    let script = post(&mut engine, "/v1beta/models/tide-small:streamGenerateContent", &chat);
    let elements = body(&script);
    assert!(elements.as_array().is_some_and(|all| all.len() >= 5), "{elements}");
    let broken = "/v1beta/models/tide-small:streamGenerateContent";
    let (_, chat) = ask(Dialect::Gemini, "[[sim:no_terminal]]", json!({}));
    let bytes = post(&mut engine, broken, &chat).bytes();
    assert!(serde_json::from_slice::<Value>(&bytes).is_err(), "the array is not closed");
}

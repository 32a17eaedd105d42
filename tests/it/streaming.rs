//! However an answer ends, the caller is told how: by the terminal marker or by an error event,
//! never by silence, and never by both.

use std::time::Duration;

use serde_json::json;
use tidegate::dialect::Dialect;

use crate::rig::{Ask, End, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, chat_chunk, scripted};

const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];
const UPSTREAMS: [&str; 3] = ["chat/alpha", "claude/alpha", "gem/alpha"];

const WORDS: &str = "one two three four five six";

/// A fault, how many words come before it, and how it ends.
const ENDINGS: [(&str, usize, End); 12] = [
    ("", 6, End::Terminal),
    ("cut_after=1", 1, End::Error),
    ("cut_after=4", 4, End::Error),
    ("cut_in_frame=3", 3, End::Error),
    ("reset_after=1", 1, End::Error),
    ("reset_after=3", 3, End::Error),
    ("no_terminal", 6, End::Error),
    ("malformed_frame=3", 3, End::Error),
    ("error_event=1", 1, End::Error),
    ("error_event=5", 5, End::Error),
    ("stall_after=2", 2, End::Error),
    ("wrong_content_type", 6, End::Terminal),
];

#[tokio::test(start_paused = true)]
async fn every_ending_is_told_on_every_wire() {
    let rig = Rig::instant("");
    let mut asked = Vec::new();
    for dialect in CALLERS {
        for upstream in UPSTREAMS {
            for (fault, words, end) in ENDINGS {
                let text = format!("[[sim:{fault},say={WORDS}]]");
                let got = rig.ask(&Ask::new(dialect, upstream, &text)).await;
                let what = format!("{dialect} from {upstream}, {fault}: {got:#?}");
                let expected = WORDS.split(' ').take(words).collect::<Vec<_>>().join(" ");
                assert_eq!(got.status, 200, "{what}");
                assert_eq!(got.text(), expected, "{what}");
                assert_eq!(got.end(), end, "{what}");
                assert_eq!(got.header("x-tidegate-attempts"), "1", "{what}");
                asked.push((end, what));
            }
        }
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
    let journal = rig.journal().await;
    assert_eq!(journal.len(), asked.len());
    // What is estimated is written a moment later, so the order is not that of the requests.
    let of = |outcome: &str| journal.iter().filter(|entry| entry.outcome == outcome).count();
    let errors = asked.iter().filter(|(end, _)| *end == End::Error).count();
    assert_eq!((of("cut"), of("complete")), (errors, asked.len() - errors));
    for entry in &journal {
        assert_eq!(entry.usage_estimated, entry.outcome == "cut", "{entry:?}");
        assert!(entry.usage.input > 0 && entry.usage.output > 0, "{entry:?}");
        assert_eq!(entry.failure.is_some(), entry.outcome == "cut", "{entry:?}");
        assert_eq!(entry.error_code.is_some(), entry.outcome == "cut", "{entry:?}");
        assert_eq!((entry.status, entry.attempts), (200, 1), "{entry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_marker_that_was_left_out_is_added() {
    let rig = Rig::instant("");
    for dialect in CALLERS {
        let ask = Ask::new(dialect, "chat/alpha", "[[sim:no_done_marker,say=one two]]");
        let got = rig.ask(&ask).await;
        assert_eq!((got.text().as_str(), got.end()), ("one two", End::Terminal), "{got:#?}");
    }
    // Without Anthropic's, nobody knows whether it was the end.
    let ask = Ask::chat("claude/alpha", "[[sim:no_done_marker,say=one two]]");
    let got = rig.ask(&ask).await;
    assert_ne!(got.end(), End::Wrong, "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn characters_that_are_split_over_reads_arrive_whole() {
    let rig = Rig::instant("");
    for dialect in CALLERS {
        for upstream in UPSTREAMS {
            let text = "[[sim:split_utf8,say=Grüße 你好 🌊 überall]]";
            let got = rig.ask(&Ask::new(dialect, upstream, text)).await;
            let what = format!("{dialect} from {upstream}: {got:#?}");
            assert!(got.text().starts_with("Grüße 你好 🌊 überall"), "{what}");
            assert_eq!(got.end(), End::Terminal, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reads_may_be_cut_anywhere() {
    let whole =
        format!(": hi\n\n{}{}{CHAT_FINISH}{DONE}", chat_chunk("Grüße"), chat_chunk(" 🌊 you"));
    let rig = Rig::instant("");
    for dialect in CALLERS {
        for size in (1..40).chain([whole.len() - 1, whole.len()]) {
            let pieces: Vec<_> = whole.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let router = rig.over(scripted(move |_| {
                pieces.iter().fold(Reply::stream(), |reply, piece| reply.chunk(piece.clone()))
            }));
            let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
            let what = format!("{dialect}, pieces of {size}: {got:#?}");
            assert_eq!((got.text().as_str(), got.end()), ("Grüße 🌊 you", End::Terminal), "{what}");
        }
    }
}

/// Streams as bad servers end them: with the last blank line missing, without a marker, with words
/// after the end, in one read or in several.
#[tokio::test(start_paused = true)]
async fn odd_endings_have_one_end_each() {
    let one = chat_chunk("one");
    let unclosed = |text: &str| text.trim_end().to_owned();
    let broken = "data: {\"broken\n\n";
    let error = "data: {\"error\":{\"message\":\"late\",\"type\":\"server_error\"}}\n\n";
    let cases: [(&str, Vec<String>, End); 8] = [
        ("no blank line", vec![one.clone(), CHAT_FINISH.into(), unclosed(DONE)], End::Terminal),
        ("no marker", vec![one.clone(), CHAT_FINISH.into()], End::Terminal),
        ("no marker, no blank line", vec![one.clone(), unclosed(CHAT_FINISH)], End::Terminal),
        (
            "junk after the end",
            vec![one.clone(), CHAT_FINISH.into(), DONE.into(), broken.into()],
            End::Terminal,
        ),
        ("junk with the end", vec![format!("{one}{CHAT_FINISH}{DONE}{broken}")], End::Terminal),
        (
            "an error after the end",
            vec![one.clone(), CHAT_FINISH.into(), DONE.into(), error.into()],
            End::Terminal,
        ),
        ("an error with the end", vec![format!("{one}{CHAT_FINISH}{DONE}{error}")], End::Terminal),
        ("two ends", vec![format!("{one}{CHAT_FINISH}{DONE}{DONE}")], End::Terminal),
    ];
    let rig = Rig::instant("");
    for dialect in CALLERS {
        for (name, pieces, end) in &cases {
            for joined in [false, true] {
                let pieces = if joined { vec![pieces.concat()] } else { pieces.clone() };
                let router = rig.over(scripted(move |_| {
                    pieces.iter().fold(Reply::stream(), |reply, piece| reply.chunk(piece.clone()))
                }));
                let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
                let what = format!("{dialect}, {name}, joined {joined}: {got:#?}");
                assert_eq!((got.text().as_str(), got.end()), ("one", *end), "{what}");
            }
        }
    }
    // The whole answer is one event without its blank line, so that the first token comes with
    // the end of the body.
    let only = chat_chunk("one").replace("null", "\"stop\"");
    for dialect in CALLERS {
        let only = unclosed(&only);
        let router = rig.over(scripted(move |_| Reply::stream().chunk(only.clone())));
        let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
        assert_eq!((got.text().as_str(), got.end()), ("one", End::Terminal), "{dialect} {got:#?}");
    }
}

/// What a proxy writes when it lost its own provider: the marker, but no reason.
#[tokio::test(start_paused = true)]
async fn a_marker_without_a_reason_is_a_cut_stream() {
    let rig = Rig::instant("");
    for dialect in CALLERS {
        let router = rig.over(scripted(|_| Reply::stream().says("one").chunk(DONE)));
        let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
        let what = format!("{dialect}: {got:#?}");
        assert_eq!((got.text().as_str(), got.end()), ("one", End::Error), "{what}");
        assert!(!got.body.contains("[DONE]") && !got.body.contains("message_stop"), "{what}");
        assert!(got.body.contains(r#""delivered_chars":3"#), "{what}");
        assert!(got.body.contains(r#""provider":"chat""#), "{what}");
        // An error looks like the chunks before it.
        if dialect == Dialect::OpenAiChat {
            assert_eq!(got.body.matches(r#""id":"c","object""#).count(), 2, "{what}");
        }
        // In one read nothing was sent yet, and another target could have been asked.
        let both = format!("{}{DONE}", chat_chunk("one"));
        let router = rig.over(scripted(move |_| Reply::stream().chunk(both.clone())));
        let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
        assert_eq!(got.status, 502, "{dialect}: {got:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_messages_says_what_it_cost_on_either_way() {
    let rig = Rig::instant("");
    for model in ["claude/alpha", "chat/alpha"] {
        let got = rig.ask(&Ask::new(Dialect::Anthropic, model, "hello")).await;
        let what = format!("{model}: {got:#?}");
        assert_eq!(got.end(), End::Terminal, "{what}");
        let told = got.body.lines().find(|line| line.contains(r#""type":"message_delta""#));
        let words = format!(r#""tidegate":{{"served_by":"{model}","cost_usd":"#);
        assert!(told.is_some_and(|line| line.contains(&words)), "{what}");
        assert_eq!(got.body.matches(r#""tidegate":"#).count(), 1, "{what}");
    }
}

/// The same of Anthropic's wire, which says its end twice: with the reason, and with a stop.
#[tokio::test(start_paused = true)]
async fn odd_endings_of_messages_have_one_end_each() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\
        \"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":\
        {\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
        \"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let one = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\"one\"}}\n\n";
    let finish = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\
        \"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\
        \"message\":\"late\"}}\n\n";
    let broken = "event: content_block_delta\ndata: {\"broken\n\n";
    let cases: [(&str, Vec<&str>, End); 8] = [
        ("as it should be", vec![start, one, finish, stop], End::Terminal),
        ("no blank line", vec![start, one, finish, stop.trim_end()], End::Terminal),
        ("no stop", vec![start, one, finish], End::Terminal),
        ("no reason", vec![start, one], End::Error),
        ("junk after the end", vec![start, one, finish, stop, broken], End::Terminal),
        ("an error after the end", vec![start, one, finish, stop, error], End::Terminal),
        ("an error before the end", vec![start, one, error], End::Error),
        ("two ends", vec![start, one, finish, stop, stop], End::Terminal),
    ];
    let rig = Rig::instant("");
    for dialect in CALLERS {
        for (name, pieces, end) in &cases {
            for joined in [false, true] {
                let mut pieces: Vec<_> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
                if joined {
                    // In the read with the first token an error is still another target's to mend.
                    pieces = vec![pieces[..2].concat(), pieces[2..].concat()];
                }
                let router = rig.over(scripted(move |_| {
                    pieces.iter().fold(Reply::stream(), |reply, piece| reply.chunk(piece.clone()))
                }));
                let got = read(&router, &Ask::new(dialect, "claude/alpha", "hello")).await;
                let what = format!("{dialect}, {name}, joined {joined}: {got:#?}");
                assert_eq!((got.text().as_str(), got.end()), ("one", *end), "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_keeps_its_connection_open_after_the_end_is_not_waited_for() {
    let rig = Rig::instant("");
    for dialect in CALLERS {
        let chatters = |reply| {
            (0..1_000).fold(reply, |reply: Reply, _| {
                reply.waits(Duration::from_millis(100)).chunk(": still here\n\n")
            })
        };
        for ending in [Reply::stalls as fn(Reply) -> Reply, Reply::resets, chatters] {
            let router = rig.over(scripted(move |_| {
                ending(Reply::stream().says("one").chunk(CHAT_FINISH).chunk(DONE))
            }));
            let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
            assert_eq!((got.text().as_str(), got.end()), ("one", End::Terminal), "{got:#?}");
            assert!(got.end_after <= Duration::from_millis(205), "{:?}", got.end_after);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_to_a_streamed_request_is_streamed() {
    let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[
        {"index":0,"message":{"role":"assistant","content":"all at once"},"finish_reason":"stop"}]}"#;
    let rig = Rig::instant("");
    for dialect in CALLERS {
        let router = rig.over(scripted(move |_| Reply::status(200).chunk(body)));
        let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
        assert_eq!((got.text().as_str(), got.end()), ("all at once", End::Terminal), "{got:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_labelled_as_json_is_a_stream() {
    let rig = Rig::instant("");
    let stream = Reply::mislabelled_stream().says("real").chunk(CHAT_FINISH).chunk(DONE);
    let router = rig.over(scripted(move |_| stream.clone()));
    for dialect in [Dialect::OpenAiChat, Dialect::Anthropic] {
        let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
        assert_eq!((got.text().as_str(), got.end()), ("real", End::Terminal), "{got:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_within_a_stream_is_an_error_event() {
    let rig = Rig::instant("");
    let answers = [
        Reply::stream().says("half").panics(),
        // Where a broken answer is let go of.
        Reply::stream().says("half").resets().panics_in_the_end(),
    ];
    for answer in answers {
        let router = rig.over(scripted(move |_| answer.clone()));
        for dialect in [Dialect::OpenAiChat, Dialect::Anthropic] {
            let got = read(&router, &Ask::new(dialect, "chat/alpha", "hello")).await;
            assert_eq!((got.text().as_str(), got.end()), ("half", End::Error), "{got:#?}");
        }
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert!(rig.journal().await.iter().all(|entry| entry.outcome == "cut"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_an_early_commit_is_an_error_event() {
    let rig = Rig::instant(
        "[routes.early]\ntargets = [{ model = \"chat/alpha\" }]\n\
         keep_alive = { every = \"5s\", before_first_token = true }",
    );
    let router = rig.over(scripted(|_| Reply::stream().waits(Duration::from_secs(8)).panics()));
    for dialect in CALLERS {
        let got = read(&router, &Ask::new(dialect, "early", "hello")).await;
        assert_eq!((got.status.as_u16(), got.end()), (200, End::Error), "{got:#?}");
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    let journal = rig.journal().await;
    assert_eq!(journal.len(), 2);
    for entry in journal {
        assert_eq!((entry.outcome.as_str(), entry.status), ("failed", 500), "{entry:?}");
        assert_eq!(entry.error_code.as_deref(), Some("internal_error"), "{entry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn counting_tokens_costs_nothing() {
    let rig = Rig::instant("");
    let count = tidegate_request("/v1/messages/count_tokens", "claude/alpha");
    let response = tower::ServiceExt::oneshot(rig.router.clone(), count).await.unwrap();
    assert_eq!(response.status(), 200);
    let [entry] = rig.journal().await.try_into().unwrap();
    assert_eq!((entry.endpoint.as_str(), entry.outcome.as_str()), ("count_tokens", "complete"));
    assert_eq!((entry.usage.total(), entry.cost.0), (0, 0), "{entry:?}");
}

fn tidegate_request(path: &str, model: &str) -> http::Request<axum::body::Body> {
    let body = Ask::chat(model, "hello").whole().body().to_string();
    http::Request::post(path).body(axum::body::Body::from(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn streaming_means_nothing_where_nothing_streams() {
    let rig = Rig::instant("");
    for (path, model) in
        [("/v1/embeddings", "chat/vectors"), ("/v1/messages/count_tokens", "claude/alpha")]
    {
        let body = json!({ "model": model, "stream": true, "input": "hello",
            "messages": [{ "role": "user", "content": "hello" }] });
        let request = http::Request::post(path).body(axum::body::Body::from(body.to_string()));
        let answer =
            tower::ServiceExt::oneshot(rig.router.clone(), request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}: {answer:?}");
        assert_eq!(answer.headers()["content-type"], "application/json", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_without_an_end_is_not_collected_for_ever() {
    let rig = Rig::instant(
        "[routes.pair]\ntargets = [{ model = \"chat/alpha\" }, { model = \"chat/beta\", tier = 1 }]",
    );
    let endless = |reply: Reply| {
        let padding = vec![b'x'; 1 << 20];
        (0..40).fold(reply.chunk("data: {"), |reply, _| reply.chunk(padding.clone())).stalls()
    };
    let before = rig.over(scripted(move |request| {
        if request.body.as_ref().windows(5).any(|word| word == b"alpha") {
            endless(Reply::stream())
        } else {
            Reply::stream().says("one").chunk(CHAT_FINISH).chunk(DONE)
        }
    }));
    let got = read(&before, &Ask::chat("pair", "hello")).await;
    assert_eq!((got.text().as_str(), got.end()), ("one", End::Terminal), "{:?}", got.headers);
    let after = rig.over(scripted(move |_| endless(Reply::stream().says("one"))));
    for dialect in CALLERS {
        let got = read(&after, &Ask::new(dialect, "pair", "hello")).await;
        assert_eq!((got.text().as_str(), got.end()), ("one", End::Error), "{:?}", got.headers);
        assert!(got.body.len() < 10_000 && got.end_after < Duration::from_secs(1));
    }
}

/// An editor asks what goes between two lines; often nothing does.
#[tokio::test(start_paused = true)]
async fn an_empty_text_completion_is_an_answer() {
    let rig = Rig::instant("");
    let choice = r#"{"index":0,"text":"","finish_reason":"stop"}"#;
    let body = format!(
        r#"{{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{choice}]}}"#
    );
    for stream in [true, false] {
        let body = body.clone();
        let router = rig.over(scripted(move |_| match stream {
            true => Reply::stream().chunk(format!("data: {body}\n\n")).chunk(DONE),
            false => Reply::status(200).chunk(body.clone()),
        }));
        let ask = json!({ "model": "chat/alpha", "stream": stream, "prompt": "fn", "suffix": "}" });
        let request = http::Request::post("/v1/completions")
            .body(axum::body::Body::from(ask.to_string()))
            .unwrap();
        let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
        assert_eq!(answer.status(), 200, "stream {stream}");
    }
}

//! Trace contexts, sampling, the queue.

use super::*;

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const SPAN: u64 = 0xb7ad_6b71_6920_3331;

fn parsed(text: &'static str) -> Option<TraceContext> {
    TraceContext::parse(&HeaderValue::from_static(text))
}

#[derive(Debug)]
struct Nothing;

impl SpanSource for Nothing {
    fn spans(&self) -> Vec<Span> {
        Vec::new()
    }
}

#[test]
fn a_traceparent_is_read_and_written() {
    for (text, sampled) in [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
    ] {
        let context = TraceContext { trace_id: TRACE, span_id: SPAN, sampled };
        assert_eq!(parsed(text), Some(context));
        assert_eq!(context.header(), text);
    }
    let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-whatever";
    assert_eq!(parsed(later).map(|context| context.sampled), Some(true));
}

#[test]
fn what_is_no_traceparent_counts_as_none() {
    for text in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert_eq!(parsed(text), None, "{text}");
    }
    let foreign = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    assert_eq!(TraceContext::parse(&foreign), None);
}

#[test]
fn a_parent_decides_where_the_sampler_asks_it() {
    let parent = |sampled| Some(TraceContext { trace_id: TRACE, span_id: SPAN, sampled });
    for (ratio, parent_based, parent, kept) in [
        (1.0, true, None, true),
        (0.0, true, None, false),
        (0.0, true, parent(true), true),
        (1.0, true, parent(false), false),
        (1.0, false, parent(false), true),
        (0.0, false, parent(true), false),
    ] {
        let (tracer, _waiting) = Tracer::new(Sampler::new(ratio, parent_based));
        let context = tracer.start(parent);
        assert_eq!(context.sampled, kept, "{ratio} {parent_based} {parent:?}");
        assert_ne!(context.span_id, SPAN);
        assert_eq!(context.trace_id == TRACE, parent.is_some());
    }
}

#[test]
fn a_ratio_keeps_its_share_of_new_traces() {
    let (tracer, _waiting) = Tracer::new(Sampler::new(0.25, true));
    let kept = (0..20_000).filter(|_| tracer.start(None).sampled).count();
    // Six standard deviations on either side.
    assert!((4_632..=5_368).contains(&kept), "{kept}");
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (tracer, waiting) = Tracer::new(Sampler::default());
    for _ in 0..MAX_WAITING + 3 {
        tracer.record(Box::new(Nothing));
    }
    assert_eq!(waiting.len(), MAX_WAITING);
    assert_eq!(tracer.dropped(), [("queue_full", 3), ("not_delivered", 0)]);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let times = (0, 1);
    let context = TraceContext { trace_id: TRACE, span_id: SPAN, sampled: true };
    let mut span = Span::new("ä".repeat(400), SpanKind::Client, context, None, times);
    span.text("key", format!("x{}", "ä".repeat(400)));
    let span = span.into_proto();
    assert_eq!(span.name.len(), 512);
    let Some(Value::StringValue(value)) =
        span.attributes.into_iter().find_map(|pair| pair.value?.value)
    else {
        panic!("no text")
    };
    assert_eq!(value.len(), 511);
}

//! Events do not depend on how the bytes were cut.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// Frames of a stream that arrives in chunks cut at `cuts`, with the rest at the end.
fn arrive(stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let mut buffer = FrameBuffer::new();
    let mut out = Vec::new();
    for pair in cuts.windows(2) {
        let whole = buffer.push(Bytes::copy_from_slice(&stream[pair[0]..pair[1]])).unwrap();
        out.extend(frames(&whole).map(<[u8]>::to_vec));
    }
    if !buffer.tail().is_empty() {
        out.push(buffer.take_tail().to_vec());
    }
    out
}

/// The format's algorithm, line by line, as slow and plain as it is written down.
fn oracle(stream: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            if !data.is_empty() {
                events.push((std::mem::take(&mut name), data.join("\n")));
            }
            name.clear();
            data.clear();
            continue;
        }
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value.to_owned()),
            "event" => value.clone_into(&mut name),
            _ => {}
        }
    }
    events
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "data: ?[a-zé:{}]{1,6}",
        1 => Just("data: {\"a\":1}".to_owned()),
        1 => "event: ?[a-z]{1,4}",
        1 => ": ?[a-z ]{0,6}",
        1 => "(id|retry|x): ?[0-9]{0,3}",
        1 => "[a-z]{1,3}",
        3 => Just(String::new()),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r")];
    (any::<bool>(), prop::collection::vec((line(), end), 0..24)).prop_map(|(bom, lines)| {
        let mut out = if bom { BOM.to_vec() } else { Vec::new() };
        for (line, end) in lines {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(end.as_bytes());
        }
        out
    })
}

proptest! {
    #[test]
    fn chunk_boundaries_change_nothing(
        stream in stream(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let arrived = arrive(&stream, &cuts);
        prop_assert_eq!(arrived.concat(), stream.clone(), "bytes are kept");
        let events: Vec<_> = arrived
            .iter()
            .map(|frame| parse(frame))
            .filter(|event| !event.data.is_empty())
            .map(|event| (event.name.to_owned(), event.data.into_owned()))
            .collect();
        prop_assert_eq!(events, oracle(&stream));
    }

    #[test]
    fn every_frame_but_the_last_is_whole(stream in stream(), cut in any::<usize>()) {
        let arrived = arrive(&stream, &[cut]);
        for frame in arrived.iter().rev().skip(1).rev() {
            let blank = frame.iter().all(|byte| matches!(byte, b'\n' | b'\r'));
            // A CR at the end is the end once something else than an LF follows.
            let followed = [frame.as_slice(), b"x"].concat();
            prop_assert!(blank || frame_len(&followed) == Some(frame.len()), "{frame:?}");
        }
    }
}

#[test]
fn a_chunk_of_whole_frames_is_not_copied() {
    let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
    let mut buffer = FrameBuffer::new();
    let whole = buffer.push(chunk.clone()).unwrap();
    assert_eq!(whole.as_ptr(), chunk.as_ptr());
    assert_eq!(frames(&whole).count(), 2);
    assert!(buffer.tail().is_empty());
}

#[test]
fn whole_frames_before_an_unfinished_one_are_not_copied() {
    let chunk = Bytes::from_static(b"data: a\r\n\r\ndata: b\r\n\r\ndata: c");
    let mut buffer = FrameBuffer::new();
    let whole = buffer.push(chunk.clone()).unwrap();
    assert_eq!(whole.as_ptr(), chunk.as_ptr());
    assert_eq!(whole, &b"data: a\r\n\r\ndata: b\r\n\r\n"[..]);
    assert_eq!(buffer.tail(), b"data: c");
    let whole = buffer.push(Bytes::from_static(b"d\r\n\r")).unwrap();
    assert_eq!(whole, b""[..], "the LF may still come");
    let whole = buffer.push(Bytes::from_static(b"\n")).unwrap();
    assert_eq!(whole, b"data: cd\r\n\r\n"[..]);
}

#[test]
fn a_frame_without_end_is_a_failure() {
    let mut buffer = FrameBuffer::new();
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    let pushes = (0..17).map(|_| buffer.push(chunk.clone())).collect::<Vec<_>>();
    assert!(pushes[..16].iter().all(Result::is_ok));
    assert_eq!(pushes[16].as_ref().unwrap_err().kind, FailureKind::MidStream);
}

#[test]
fn the_first_data_is_found_behind_other_fields() {
    for (frame, data) in [
        (&b"data: {}\n\n"[..], Some(&b"{}"[..])),
        (b"data:{}\r\n\r\n", Some(b"{}")),
        (b"\n\n: ping\nevent: x\ndata:  a\ndata: b\n\n", Some(b" a")),
        (b"\xEF\xBB\xBFdata: a\n\n", Some(b"a")),
        (b": data: no\n\n", None),
        (b"", None),
    ] {
        assert_eq!(first_data(frame), data);
    }
}

#[test]
fn written_events_are_read_back() {
    let mut out = Vec::new();
    write(&mut out, "", b"{}");
    write(&mut out, "ping", b"x");
    let events: Vec<_> = frames(&out).map(parse).collect();
    assert_eq!(events[0], SseEvent { name: "", data: "{}".into() });
    assert_eq!(events[1], SseEvent { name: "ping", data: "x".into() });
}

#[test]
fn a_mark_behind_blank_lines_is_skipped_however_the_bytes_are_cut() {
    let stream = b"\n\r\n\xEF\xBB\xBFevent: x\ndata: 1\n\n";
    for cut in 0..stream.len() {
        let frames = arrive(stream, &[cut]);
        let events: Vec<_> = frames.iter().map(|frame| parse(frame)).collect();
        let said: Vec<_> = events.iter().filter(|event| !event.data.is_empty()).collect();
        assert_eq!(said.len(), 1, "{events:?}");
        assert_eq!((said[0].name, &*said[0].data), ("x", "1"), "cut at {cut}");
        assert_eq!(frames.iter().find_map(|frame| first_data(frame)), Some(&b"1"[..]));
    }
}

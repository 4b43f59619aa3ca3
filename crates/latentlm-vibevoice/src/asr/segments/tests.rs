//! Good and bad answers.

use super::*;

fn segment(start: f64, end: f64, speaker: Option<&str>, text: &str) -> TranscriptSegment {
    TranscriptSegment {
        start,
        end,
        speaker: speaker.map(str::to_owned),
        text: text.to_owned(),
    }
}

/// Segments and what is missing, the same however the answer comes.
fn read(answer: &str, is_ended: bool) -> (Vec<TranscriptSegment>, Option<TranscriptCut>) {
    let mut whole = TranscriptReader::default();
    let mut handed = whole.push(answer).to_vec();
    handed.extend_from_slice(whole.finish());
    assert_eq!(handed, whole.segments(), "{answer}");
    let mut letters = TranscriptReader::default();
    for letter in answer.chars() {
        letters.push(letter.encode_utf8(&mut [0; 4]));
    }
    letters.finish();
    assert_eq!(letters.segments(), whole.segments(), "{answer}");
    assert_eq!(letters.cut(is_ended), whole.cut(is_ended), "{answer}");
    (handed, whole.cut(is_ended))
}

/// Segments of an answer that is whole.
fn fine(answer: &str) -> Vec<TranscriptSegment> {
    let (segments, cut) = read(answer, true);
    assert_eq!(cut, None, "{answer}");
    segments
}

/// Segments of an answer that the model has ended but something is wrong with.
fn cut(answer: &str, seconds: f64, reason: CutReason) -> Vec<TranscriptSegment> {
    let (segments, cut) = read(answer, true);
    assert_eq!(cut, Some(TranscriptCut { seconds, reason }), "{answer}");
    segments
}

/// A list of one object with this content, put in as it is.
fn saying(content: &str) -> String {
    format!("assistant\n[{{\"Start\":0,\"End\":1.5,\"Speaker\":0,\"Content\":\"{content}\"}}]\n")
}

#[test]
fn a_whole_answer_is_read() {
    let answer = "assistant\n[{\"Start\":0,\"End\":1.5,\"Speaker\":0,\"Content\":\"hi\"},\n \
                  {\"Start\": 1.5, \"End\": 75.25, \"Speaker\": \"Anna\", \"Content\": \"a \\\"b\\\" \\u00e9\\n\\ud83d\\ude00\"}]\n";
    let expected = [
        segment(0.0, 1.5, Some("0"), "hi"),
        segment(1.5, 75.25, Some("Anna"), "a \"b\" \u{e9}\n\u{1f600}"),
    ];
    assert_eq!(fine(answer), expected);
}

#[test]
fn other_keys_and_forms_of_numbers_are_read() {
    let answer = r#"[{"Content":"one","Speaker ID":1,"End time":"01:02.5","Start time":"0:59"},
        {"Start":"1:00:00s","End":4000,"Language":"en","Text":"two"}]"#;
    let expected = [
        segment(59.0, 62.5, Some("1"), "one"),
        segment(3600.0, 4000.0, None, "two"),
    ];
    assert_eq!(fine(answer), expected);
    let answer = r#"{"segments": [{"Start":2,"End":1,"Speaker":"Speaker 3","Content":""}]}"#;
    assert_eq!(fine(answer), [segment(2.0, 2.0, Some("3"), "")]);
}

#[test]
fn a_speaker_may_be_missing() {
    for member in [
        "",
        "\"Speaker\":\"N/A\",",
        "\"Speaker\":N/A,",
        "\"Speaker\":null,",
        "\"Speaker\":\" \",",
        "\"Speaker\":\"n/a\",",
    ] {
        let answer = format!("[{{\"Start\":1,\"End\":2,{member}\"Content\":\"[Music]\"}}]");
        assert_eq!(fine(&answer), [segment(1.0, 2.0, None, "[Music]")]);
    }
    let last = r#"[{"Start":1,"End":2,"Content":"a","Speaker":N/A}]"#;
    assert_eq!(fine(last), [segment(1.0, 2.0, None, "a")]);
}

#[test]
fn brackets_and_quotes_in_a_text_end_nothing() {
    for (content, text) in [
        ("a [b] {c} ]", "a [b] {c} ]"),
        ("a } b", "a } b"),
        ("}]", "}]"),
        ("he said \\\"no\\\"", "he said \"no\""),
        ("he said \"no\" and left", "he said \"no\" and left"),
        ("he said \"no\", and left", "he said \"no\", and left"),
        ("he said \"no\"", "he said \"no\""),
        ("{\"a\": \"b\"} on the board", "{\"a\": \"b\"} on the board"),
        ("say \"a}\" or \"b]\"", "say \"a}\" or \"b]\""),
        ("C:\\Users \\q", "C:\\Users \\q"),
        ("a\nb\tc", "a\nb\tc"),
        ("\\ud83d alone", "\\ud83d alone"),
        ("", ""),
    ] {
        let expected = [segment(0.0, 1.5, Some("0"), text)];
        assert_eq!(fine(&saying(content)), expected, "{content}");
    }
}

#[test]
fn a_quote_and_a_brace_within_a_text_end_it_only_if_nothing_better_comes() {
    let answer = saying("it ends with \"}. Or does it?");
    let expected = [segment(
        0.0,
        1.5,
        Some("0"),
        "it ends with \"}. Or does it?",
    )];
    assert_eq!(fine(&answer), expected);
    let answer = r#"{"Start":0,"End":1,"Speaker":0,"Content":"a"} That is all."#;
    assert_eq!(fine(answer), [segment(0.0, 1.0, Some("0"), "a")]);
}

#[test]
fn whole_segments_of_a_cut_answer_are_kept() {
    let first = r#"[{"Start":0,"End":1.5,"Speaker":0,"Content":"hi"}"#;
    let second = r#",{"Start":1.5,"End":2.5,"Speaker":1,"Content":"you"}"#;
    let expected = [segment(0.0, 1.5, Some("0"), "hi")];
    for end in 0..second.len() {
        let (segments, cut) = read(&format!("{first}{}", &second[..end]), false);
        assert_eq!(segments, expected, "{end}");
        let reason = CutReason::Unfinished;
        let seconds = 1.5;
        assert_eq!(cut, Some(TranscriptCut { seconds, reason }), "{end}");
    }
    assert_eq!(cut(first, 1.5, CutReason::Unfinished), expected);
    let told = TranscriptCut {
        seconds: 1.5,
        reason: CutReason::Unfinished,
    };
    assert!(told.to_string().contains("cut at 1.50 s"), "{told}");
}

#[test]
fn a_repeated_segment_is_told_once() {
    let one = r#"{"Start":0,"End":1.5,"Speaker":0,"Content":"hi"},"#;
    let expected = [segment(0.0, 1.5, Some("0"), "hi")];
    let answer = format!("[{}", one.repeat(5));
    assert_eq!(cut(&answer, 1.5, CutReason::Repeats), expected);
    let mut reader = TranscriptReader::default();
    let mut read = 0;
    while !reader.is_stuck() {
        reader.push(one);
        read += 1;
    }
    assert_eq!(read, 3);
}

#[test]
fn a_text_without_end_is_noticed() {
    let mut reader = TranscriptReader::default();
    reader.push("[{\"Start\":0,\"End\":1,\"Content\":\"a\"},{\"Start\":1,\"End\":2,\"Content\":\"");
    for _ in 0..100 {
        reader.push(" and so on");
    }
    assert!(!reader.is_stuck());
    reader.push(&" and so on".repeat(3));
    assert!(reader.is_stuck());
    reader.finish();
    assert_eq!(reader.segments(), [segment(0.0, 1.0, None, "a")]);
    let reason = CutReason::Repeats;
    let seconds = 1.0;
    assert_eq!(reader.cut(false), Some(TranscriptCut { seconds, reason }));
    // Times that go on are no repetition.
    let mut reader = TranscriptReader::default();
    for second in 0..200 {
        let next = second + 1;
        reader.push(&format!(
            "{{\"Start\":{second},\"End\":{next},\"Content\":\"yes\"}},"
        ));
        assert!(!reader.is_stuck(), "{second}");
    }
}

#[test]
fn an_answer_without_a_list_has_words() {
    for answer in [
        "assistant\nHello there.",
        "Hello there.",
        "  Hello there.\n",
    ] {
        assert!(cut(answer, 0.0, CutReason::NoSegments).is_empty());
        let mut reader = TranscriptReader::default();
        reader.push(answer);
        assert_eq!(reader.words(), "Hello there.");
    }
    for answer in [
        "",
        "assistant",
        "[1, 2]",
        "{}",
        "[{\"a\": 1}]",
        "}{][",
        "\u{0}",
    ] {
        assert!(cut(answer, 0.0, CutReason::NoSegments).is_empty());
    }
    assert!(fine("assistant\n[]\n").is_empty());
    let mut reader = TranscriptReader::default();
    reader.push("assistants help");
    assert_eq!(reader.words(), "assistants help");
}

#[test]
fn parts_that_are_no_segments_are_counted() {
    let good = r#"{"Start":1,"End":2,"Speaker":0,"Content":"a"}"#;
    let expected = [segment(1.0, 2.0, Some("0"), "a")];
    for bad in [
        r#"{"Start":0,"End":1,"Speaker":0}"#,
        r#"{"Start":x,"End":1,"Content":"b"}"#,
        r#"{"Start":-1,"End":1,"Content":"b"}"#,
        r#"{"Start":NaN,"End":1,"Content":"b"}"#,
        r#"{"Start":1e999,"End":1,"Content":"b"}"#,
        r#"{"Start":0,"End":1,"Content":["b"]}"#,
        r#"{"Start":0,"End":1,"Content":"b]"#,
        r#"{"Start":0,"End":1,"Content":"b"#,
        r#"{"Start" 0,"End":1,"Content":"b"}"#,
        r#"{"Start":0 "End":1,"Content":"b"}"#,
    ] {
        let answer = format!("[{bad},{good}]");
        let reason = CutReason::Broken { parts: 1 };
        assert_eq!(cut(&answer, 2.0, reason), expected, "{bad}");
    }
}

/// A missing quote would otherwise swallow all that follows.
#[test]
fn a_segment_within_a_text_ends_it() {
    let answer = r#"[{"Start":0,"End":1,"Content":"a"} x {"Start":1,"End":2,"Content":"b"}]"#;
    let expected = [segment(0.0, 1.0, None, "a"), segment(1.0, 2.0, None, "b")];
    assert_eq!(fine(answer), expected);
}

#[test]
fn segments_are_handed_out_as_they_become_whole() {
    let mut reader = TranscriptReader::default();
    assert!(
        reader
            .push("[{\"Start\":0,\"End\":1,\"Content\":\"a")
            .is_empty()
    );
    assert!(reader.push("\"").is_empty());
    assert_eq!(reader.push("},"), [segment(0.0, 1.0, None, "a")]);
    assert!(
        reader
            .push(" {\"Start\":1,\"Content\":\"b\",\"End\":2")
            .is_empty()
    );
    assert_eq!(reader.push("}"), [segment(1.0, 2.0, None, "b")]);
    assert!(reader.finish().is_empty());
    assert_eq!(reader.segments().len(), 2);
}

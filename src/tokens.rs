//! Counting tokens where a provider does not say.
//!
//! The tokenizer is OpenAI's `o200k_base` for every model: other families' tokenizers are not
//! published or differ by some ten percent on English text, and an estimate is marked as one
//! wherever it shows. Counting costs a millisecond for a few thousand tokens, and the vocabulary
//! some 60 MB once it is used, so it is loaded at the first estimate and never on a data thread.

use serde_json::Value;

use crate::dialect::TextSample;

/// The most text that is really counted; what is longer is scaled up from its beginning. 64 KB are
/// some 15,000 tokens, over which the ratio of bytes to tokens has settled.
const MAX_COUNTED_BYTES: usize = 64 * 1024;

/// Bytes a token where nothing was counted. Four is what providers publish for English.
pub const BYTES_PER_TOKEN: u64 = 4;

/// Tokens a picture stands for: a megapixel costs 765 with OpenAI and some 1,300 with Anthropic.
const MEDIA_TOKENS: u64 = 1_000;

/// Tokens of a text.
pub fn count(text: &str) -> u64 {
    let cut = text.floor_char_boundary(MAX_COUNTED_BYTES);
    let head = text.get(..cut).unwrap_or_default();
    let counted = tiktoken_rs::o200k_base_singleton().encode_ordinary(head).len() as u64;
    scale(counted, head.len(), text.len() as u64)
}

/// Tokens of a text of which only the beginning was kept.
pub fn count_sample(sample: &TextSample) -> u64 {
    scale(count(sample.head()), sample.head().len(), sample.bytes())
}

/// Tokens of a request, by the texts in its JSON. What is long and has no spaces is no text but a
/// picture or a document in base64, and counts as a fixed number of tokens.
pub fn count_request(body: &[u8]) -> u64 {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return guess(body.len() as u64);
    };
    let mut texts = Texts::default();
    texts.collect(&request);
    let counted = scale(count(&texts.head), texts.head.len(), texts.bytes);
    counted.saturating_add(texts.media.saturating_mul(MEDIA_TOKENS))
}

/// The texts of a request: their beginning, and how much there is.
#[derive(Debug, Default)]
struct Texts {
    /// At most [`MAX_COUNTED_BYTES`]: what will not be counted is not copied.
    head: String,
    bytes: u64,
    /// Pieces that are no text.
    media: u64,
}

impl Texts {
    fn collect(&mut self, value: &Value) {
        match value {
            Value::String(piece) => {
                if piece.len() > 4_096 && !piece.contains(char::is_whitespace) {
                    self.media += 1;
                } else {
                    self.push(piece);
                    self.push("\n");
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.collect(value)),
            Value::Object(members) => members.values().for_each(|value| self.collect(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn push(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        let room = MAX_COUNTED_BYTES.saturating_sub(self.head.len());
        self.head.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
    }
}

/// Tokens of a text by its length alone, for where counting would cost too much.
pub fn guess(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

fn scale(counted: u64, counted_bytes: usize, all_bytes: u64) -> u64 {
    match counted_bytes as u64 {
        0 => guess(all_bytes),
        bytes if bytes >= all_bytes => counted,
        bytes => u64::try_from(u128::from(counted) * u128::from(all_bytes) / u128::from(bytes))
            .unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_counted() {
        assert_eq!(count("hello world"), 2);
        assert_eq!(count(""), 0);
    }

    #[test]
    fn a_long_text_is_scaled_from_its_beginning() {
        let text = "the tide comes in and the tide goes out. ".repeat(10_000);
        let all = count(&text);
        assert!((95_000..105_000).contains(&all), "{all} tokens for 100,000");
    }

    #[test]
    fn a_picture_counts_as_a_picture_and_not_as_text() {
        let picture = "A".repeat(5_000_000);
        let body = format!(r#"{{"messages":[{{"content":"what is this"}},"{picture}"]}}"#);
        let tokens = count_request(body.as_bytes());
        assert!((1_000..1_010).contains(&tokens), "{tokens}");
    }

    #[test]
    fn what_is_not_counted_is_not_copied() {
        let text = "the tide comes in and the tide goes out. ".repeat(1_000);
        let messages: Vec<_> = (0..10).map(|_| serde_json::json!({ "content": text })).collect();
        let request = serde_json::json!({ "messages": messages });
        let mut texts = Texts::default();
        texts.collect(&request);
        assert!(texts.head.len() <= MAX_COUNTED_BYTES, "{} bytes were copied", texts.head.len());
        let tokens = count_request(request.to_string().as_bytes());
        assert!((95_000..105_000).contains(&tokens), "{tokens} tokens for 100,000");
    }

    #[test]
    fn a_sample_stands_for_the_whole() {
        let mut sample = TextSample::default();
        for _ in 0..1_000 {
            sample.push("the tide comes in and the tide goes out. ");
        }
        let tokens = count_sample(&sample);
        assert!((9_500..10_500).contains(&tokens), "{tokens} tokens for 10,000");
    }
}

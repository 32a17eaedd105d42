//! Counting tokens where a provider does not say.
//!
//! The tokenizer is OpenAI's `o200k_base` for every model: other families' tokenizers are not
//! published or differ by some ten percent on English text, and an estimate is marked as one
//! wherever it shows. Counting costs a millisecond for a few thousand tokens, and the vocabulary some
//! 60 MB once it is used, so it is loaded at the first estimate and never on a data thread.

use crate::dialect::TextSample;

/// The most text that is really counted; what is longer is scaled up from its beginning. 64 KB are
/// some 15,000 tokens, over which the ratio of bytes to tokens has settled.
const MAX_COUNTED_BYTES: usize = 64 * 1024;

/// Bytes a token where nothing was counted. Four is what providers publish for English.
pub const BYTES_PER_TOKEN: u64 = 4;

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
    fn a_sample_stands_for_the_whole() {
        let mut sample = TextSample::default();
        for _ in 0..1_000 {
            sample.push("the tide comes in and the tide goes out. ");
        }
        let tokens = count_sample(&sample);
        assert!((9_500..10_500).contains(&tokens), "{tokens} tokens for 10,000");
    }
}

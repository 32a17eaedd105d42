//! Vectors that depend on nothing but the text: words are hashed onto axes, so that texts with
//! words in common point in similar directions, and every vector has length one.

use sha2::{Digest, Sha256};

/// How many axes each word touches: enough that two words rarely share all of theirs.
const AXES_PER_WORD: usize = 8;

/// The unit vector of a text.
pub(super) fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        add(&mut vector, word.as_bytes(), 1.0);
    }
    // A small share of the whole text tells apart what has the same words in another order, and
    // keeps a text without words off the origin.
    add(&mut vector, format!("\0{text}").as_bytes(), 0.1);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    } else if let Some(first) = vector.first_mut() {
        // Opposite signs met on every axis.
        *first = 1.0;
    }
    vector
}

fn add(vector: &mut [f32], text: &[u8], weight: f32) {
    let hash = Sha256::digest(text);
    for (at, chunk) in hash.chunks_exact(4).take(AXES_PER_WORD).enumerate() {
        let number = chunk.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let axis = number % vector.len().max(1);
        // Signs come from the number's highest bit, which the remainder hardly depends on.
        let sign = if number >> 31 & 1 == 0 { 1.0 } else { -1.0 };
        if let Some(value) = vector.get_mut(axis) {
            *value += sign * weight * if at == 0 { 2.0 } else { 1.0 };
        }
    }
}

/// Little-endian 32-bit floats, as OpenAI's `encoding_format: base64` wants them.
pub(super) fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Standard base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = (bits >> (18 - 6 * place)) as usize & 63;
            let letter = if place <= group.len() { ALPHABET.get(digit) } else { Some(&b'=') };
            text.extend(letter.map(|letter| char::from(*letter)));
        }
    }
    text
}

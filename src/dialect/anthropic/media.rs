//! Pictures and documents: `image` and `document` blocks.
//!
//! A document of plain text travels as text on this wire and as base64 in the canonical form, so
//! that other wires can carry it as a file. A document whose citations are switched on, or that is
//! made of blocks, is known to this dialect alone and kept verbatim.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::wire::NAME;
use crate::chat::{Media, MediaSource, Part};
use crate::rejection::Rejection;

/// Reads an `image` or `document` block whose `type` is still in place.
pub(super) fn decode(mut block: Fields, is_document: bool) -> Result<Part, Rejection> {
    if is_document && is_only_ours(&block) {
        return Ok(Part::Other { dialect: NAME.into(), value: Value::Object(block.rest()) });
    }
    let cache = block.take("cache_control");
    let name = if is_document { block.opt_string("title")? } else { None };
    let path = block.at("source");
    let mut source = Fields::of(block.required("source", "an object")?, path)?;
    let kind = source.string("type")?;
    let pdf = || is_document.then(|| "application/pdf".to_owned());
    let (source, media_type) = match kind.as_str() {
        "base64" => {
            let media_type = source.opt_string("media_type")?.or_else(pdf);
            (MediaSource::Base64(source.string("data")?), media_type)
        }
        "url" => (MediaSource::Url(source.string("url")?), pdf()),
        "file" => (MediaSource::FileId(source.string("file_id")?), pdf()),
        "text" if is_document => {
            let media_type = source.opt_string("media_type")?;
            let data = to_base64(source.string("data")?.as_bytes());
            (MediaSource::Base64(data), Some(media_type.unwrap_or_else(|| "text/plain".into())))
        }
        other => {
            let path = source.at("type");
            let problem = format!("`{path}` is `{other}`; it may be `base64`, `url` or `file`");
            return Err(Rejection::invalid(path.as_str(), problem));
        }
    };
    Ok(Part::Media(Media { source, media_type, name, detail: None, cache }))
}

/// Writes a block; the error says why this wire cannot carry it.
pub(super) fn encode(media: &Media, same_dialect: bool) -> Result<Value, &'static str> {
    let media_type = media.media_type.clone().or_else(|| guess(&media.source));
    let media_type = media_type.as_deref().unwrap_or("image/*");
    let is_image = media_type.starts_with("image/");
    let is_text = media_type.starts_with("text/");
    if !is_image && !is_text && media_type != "application/pdf" {
        return Err("this wire carries pictures, PDF documents and plain text only");
    }
    let source = match &media.source {
        MediaSource::Base64(data) if is_text => {
            let text = from_base64(data).and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or("the document is no base64 of UTF-8 text")?;
            json!({"type": "text", "media_type": "text/plain", "data": text})
        }
        MediaSource::Base64(_) if media_type == "image/*" => {
            return Err("the media type of the picture is not known");
        }
        MediaSource::Base64(data) => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        MediaSource::Url(url) if is_http(url) => json!({"type": "url", "url": url}),
        MediaSource::Url(_) => return Err("this wire fetches http and https addresses only"),
        MediaSource::FileId(id) if same_dialect => json!({"type": "file", "file_id": id}),
        MediaSource::FileId(_) => return Err("the file was uploaded to another provider"),
    };
    let mut block = Map::new();
    block.insert("type".into(), if is_image { "image" } else { "document" }.into());
    block.insert("source".into(), source);
    if let Some(name) = media.name.as_ref().filter(|_| !is_image) {
        block.insert("title".into(), name.as_str().into());
    }
    if let Some(cache) = &media.cache {
        block.insert("cache_control".into(), cache.clone());
    }
    Ok(Value::Object(block))
}

fn is_only_ours(block: &Fields) -> bool {
    let cites = block.peek("citations").and_then(|value| value.get("enabled"));
    let source = block.peek("source").and_then(|source| source.get("type"));
    cites == Some(&Value::Bool(true))
        || source.and_then(Value::as_str) == Some("content")
        || block.peek("context").is_some_and(|context| !context.is_null())
}

fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// The media type by the first bytes, as base64 shows them, or by an address's ending.
fn guess(source: &MediaSource) -> Option<String> {
    let by = |pairs: &[(&str, &str)], fits: &dyn Fn(&str) -> bool| {
        pairs.iter().find(|(sign, _)| fits(sign)).map(|(_, media_type)| (*media_type).to_owned())
    };
    match source {
        MediaSource::Base64(data) => by(
            &[
                ("iVBOR", "image/png"),
                ("/9j/", "image/jpeg"),
                ("R0lGOD", "image/gif"),
                ("UklGR", "image/webp"),
                ("JVBERi", "application/pdf"),
            ],
            &|sign| data.starts_with(sign),
        ),
        MediaSource::Url(url) => by(&[(".pdf", "application/pdf")], &|sign| url.ends_with(sign)),
        MediaSource::FileId(_) => None,
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let digit =
        |bits: u32| ALPHABET.get((bits & 63) as usize).map_or('=', |byte| char::from(*byte));
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.push(digit(bits >> 18));
        text.push(digit(bits >> 12));
        text.push(if group.len() > 1 { digit(bits >> 6) } else { '=' });
        text.push(if group.len() > 2 { digit(bits) } else { '=' });
    }
    text
}

/// Standard base64, decoded; `None` where it is none.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        bits = bits << 6 | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

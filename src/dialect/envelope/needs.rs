//! What a request needs of a model, as far as it can be told without decoding.

use memchr::memmem;

use super::Envelope;

#[cfg(test)]
mod tests;

/// What a request needs of a model. Cheap to find, so it may err: a message whose text is the one
/// word `image` counts as one with an image, and words that are written with `\u` escapes are
/// missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Tools are offered.
    pub tools: bool,
    /// The answer shall be JSON of a given schema.
    pub json_schema: bool,
    /// The messages hold images.
    pub images: bool,
    /// How many alternatives are asked for, at least 1.
    pub choices: u64,
    /// The cap on generated tokens, where there is one.
    pub max_tokens: Option<u64>,
    /// The length of the body. Text has some four bytes a token; images are in it, too.
    pub body_bytes: u64,
}

// === impl Envelope ===

impl Envelope {
    /// What the request needs of a model. Looks through the messages for images: a scan, which is
    /// made once.
    pub fn needs(&self) -> Needs {
        // Chat completions say it with the first, Anthropic's Messages with the others.
        let formats = ["response_format", "output_config", "output_format"];
        let mut formats = formats.iter().filter_map(|key| self.raw(key));
        Needs {
            tools: self.has_tools,
            json_schema: formats.any(|raw| memmem::find(raw, b"\"json_schema\"").is_some()),
            images: *self.has_images.get_or_init(|| self.raw("messages").is_some_and(has_images)),
            choices: self.n.unwrap_or(1).max(1),
            max_tokens: self.max_tokens,
            body_bytes: self.body.len() as u64,
        }
    }
}

/// Whether a string of the JSON is `image`, the type of Anthropic's parts, or `image_url`, that of
/// the others'. Inside a longer text the quotes are escaped and the words do not match.
fn has_images(messages: &[u8]) -> bool {
    memmem::find_iter(messages, b"\"image").any(|at| {
        let rest = messages.get(at + b"\"image".len()..).unwrap_or_default();
        rest.starts_with(b"\"") || rest.starts_with(b"_url\"")
    })
}

//! What stands around the text of an event that is written.

/// An event that brings one piece of text, without that text: those of one stream are alike but for
/// it.
#[derive(Debug)]
pub(super) struct Around {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

// === impl Around ===

impl Around {
    /// Takes an event in which the member `key`, as it is written, has an empty text. Quotes within
    /// texts are escaped, so nothing else in the event reads the same.
    pub(super) fn of(event: &[u8], key: &str) -> Option<Self> {
        let member = format!("{key}:\"\"");
        let at = memchr::memmem::find(event, member.as_bytes())?;
        let text = at + member.len() - 2;
        Some(Self { before: event.get(..text)?.into(), after: event.get(text + 2..)?.into() })
    }

    /// Appends the event with this text.
    pub(super) fn write(&self, text: &str, out: &mut Vec<u8>) {
        out.reserve(self.before.len() + self.after.len() + text.len() + 8);
        out.extend_from_slice(&self.before);
        // Writing plain data into memory cannot fail.
        let written = serde_json::to_writer(&mut *out, text);
        debug_assert!(written.is_ok(), "a text is plain data");
        out.extend_from_slice(&self.after);
    }
}

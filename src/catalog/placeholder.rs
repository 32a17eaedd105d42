//! `${NAME}` in base URLs: what differs from one account of a provider to the next.

/// Why a text with placeholders could not be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// `${` without its `}`.
    #[error("`${{` has no closing `}}`")]
    Unclosed,
    /// A placeholder that has no value.
    #[error("the environment variable {0} is not set")]
    Missing(String),
}

/// Replaces each `${NAME}` of `text` by what `value` says, or fails with the name it gives back.
///
/// # Errors
///
/// [`PlaceholderError`] where a placeholder is not closed or has no value.
pub fn fill(
    text: &str,
    mut value: impl FnMut(&str) -> Result<String, String>,
) -> Result<String, PlaceholderError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or(PlaceholderError::Unclosed)?;
        filled.push_str(before);
        filled.push_str(&value(name).map_err(PlaceholderError::Missing)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

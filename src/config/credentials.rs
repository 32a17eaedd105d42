//! Keys by reference: from an environment variable or a file to a header.

use std::path::Path;

use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};

use super::check::Checking;
use super::draft::read_text;
use super::secret::Secret;
use super::sections::{CredentialSettings, ProviderSettings};
use crate::catalog::{AuthScheme, Provider, file};
use crate::problems::KeyPath;

/// A key, where it came from, and where the configuration says so.
pub(super) struct Credential {
    pub(super) from: String,
    pub(super) key: Option<Secret>,
    pub(super) at: KeyPath,
}

/// More credentials than anyone has; keeps shares of weights in small numbers.
const MAX_CREDENTIALS: usize = 64;
/// What stands for a key where none is needed to look at a configuration.
const NO_KEY: &str = "none-given";

/// The credentials of a provider that the file names.
pub(super) fn credentials(
    provider: &Provider,
    settings: &ProviderSettings,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Vec<Credential> {
    let credentials = match &settings.credentials {
        Some(listed) => listed_credentials(listed, &at.key("credentials"), checking),
        None => own_credential(provider, at, checking),
    };
    let unsent = provider.auth == AuthScheme::None;
    if let Some(credential) = credentials.iter().find(|found| unsent && found.key.is_some()) {
        let message = "the key would not be sent, because this provider takes none; add \
                       auth = \"bearer\" to send it";
        checking.report(credential.at.clone(), message);
    }
    credentials
}

/// The credential of a provider whose section names none.
fn own_credential(
    provider: &Provider,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Vec<Credential> {
    let sends_none = AuthScheme::None == provider.auth;
    let environment = &checking.source.environment;
    let found = provider.key_env.iter().find_map(|name| Some((name, environment.get(name)?)));
    if let Some((name, key)) = found.filter(|_| !sends_none) {
        let key = Some(Secret::new(&key));
        return vec![Credential { from: format!("env {name}"), key, at: at.clone() }];
    }
    if !provider.key_env.is_empty() && !sends_none && !checking.source.without_keys {
        let names = provider.key_env.join(" or ");
        let message = format!(
            "no key: set the environment variable {names}, or name another one or a file here"
        );
        checking.report(at.key("credentials"), message);
    }
    vec![Credential { from: "none".to_owned(), key: None, at: at.clone() }]
}

fn listed_credentials(
    listed: &[CredentialSettings],
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Vec<Credential> {
    if listed.is_empty() {
        checking.report(at.clone(), "is empty; leave it out, or write [{ none = true }]");
    }
    if listed.len() > MAX_CREDENTIALS {
        checking.report(at.clone(), format!("at most {MAX_CREDENTIALS} credentials are taken"));
    }
    let mut credentials: Vec<Credential> = Vec::with_capacity(listed.len());
    for (index, settings) in listed.iter().take(MAX_CREDENTIALS).enumerate() {
        let at = at.index(index);
        match credential(settings, at.clone(), checking) {
            Ok(credential) if credentials.iter().any(|other| other.from == credential.from) => {
                checking.report(at, format!("{} is listed twice", credential.from));
            }
            Ok(credential) => credentials.push(credential),
            Err(message) => checking.report(at, message),
        }
    }
    credentials
}

fn credential(
    settings: &CredentialSettings,
    at: KeyPath,
    checking: &Checking<'_>,
) -> Result<Credential, String> {
    match (&settings.env, &settings.file, settings.none) {
        (Some(name), None, None) => {
            if !file::is_env_name(name) {
                // Not repeated: it may be the key itself.
                return Err("`env` must be the name of an environment variable, not a key; write \
                            it like { env = \"OPENAI_API_KEY\" }"
                    .to_owned());
            }
            let source = checking.source;
            let key = source
                .environment
                .get(name)
                .or_else(|| source.without_keys.then(|| NO_KEY.to_owned()))
                .ok_or_else(|| format!("the environment variable {name} is not set"))?;
            Ok(Credential { from: format!("env {name}"), key: Some(Secret::new(&key)), at })
        }
        (None, Some(path), None) => {
            let key = match key_of_file(path) {
                Err(_) if checking.source.without_keys => Secret::new(NO_KEY),
                read => read?,
            };
            Ok(Credential { from: format!("file {}", path.display()), key: Some(key), at })
        }
        (None, None, Some(true)) => Ok(Credential { from: "none".to_owned(), key: None, at }),
        (None, None, Some(false)) => {
            Err("`none` can only be true; leave it out and name `env` or `file`".to_owned())
        }
        _ => Err("must be exactly one of { env = \"NAME\" }, { file = \"path\" } and \
                  { none = true }"
            .to_owned()),
    }
}

fn key_of_file(path: &Path) -> Result<Secret, String> {
    let text = read_text(path)
        .map_err(|error| format!("the key file {} cannot be read: {error}", path.display()))?;
    let key = Secret::new(&text);
    if key.reveal().is_empty() {
        return Err(format!("the key file {} is empty", path.display()));
    }
    Ok(key)
}

/// The credential as a header, marked sensitive; none where none is sent.
pub(super) fn auth_header(
    scheme: &AuthScheme,
    key: &Secret,
) -> Result<Option<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
    let (name, text) = match scheme {
        AuthScheme::None => return Ok(None),
        AuthScheme::Bearer => (AUTHORIZATION, format!("Bearer {}", key.reveal())),
        AuthScheme::Header(name) => (name.clone(), key.reveal().to_owned()),
    };
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

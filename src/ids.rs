//! Names of things, one type each, so that a route cannot be passed where a model is meant.
//!
//! All of them are cheap to clone (a shared string) and print as the plain name.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name as it stands; no normalisation takes place.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(Arc::from(name.as_ref()))
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    )*};
}

names! {
    /// The company or server that answers, as named by `providers/<id>.toml` or the configuration.
    ProviderId;
    /// A model as its provider names it upstream.
    ModelName;
    /// A name that clients ask for and that stands for an ordered set of targets.
    RouteName;
    /// One base URL with one credential: `provider`, or `provider#n` for the n-th credential.
    EndpointId;
    /// Whose key a request came with; `anonymous` where no key is needed.
    CallerId;
    /// A team of callers.
    TeamId;
    /// A registered prompt: the name of its folder.
    PromptId;
    /// One request through the gateway; returned as `x-request-id`.
    RequestId;
    /// One place to send a request: `provider/model`, with `#n` for the n-th credential when a
    /// provider has several.
    TargetId;
}

impl CallerId {
    /// The caller of a gateway that asks for no key.
    pub fn anonymous() -> Self {
        Self::new("anonymous")
    }

    /// The gateway itself, which asks for vectors and verdicts of its own.
    pub fn gateway() -> Self {
        Self::new("gateway")
    }
}

//! Where the registry is, and what is done with it.

use std::path::PathBuf;

use serde::Deserialize;

/// The table `[schema_registry]` of the settings.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What stands before `/subjects`.
    pub url: String,
    /// Basic authentication.
    pub username: Option<String>,
    pub password: Option<String>,
    /// Certificates in PEM that are trusted, instead of those that the system trusts.
    pub ca_location: Option<PathBuf>,
    /// How Millrace's own records are framed.
    #[serde(default)]
    pub framing: Framed,
    /// Whether schemas that the registry does not have are registered.
    #[serde(default = "yes")]
    pub auto_register: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framed {
    #[default]
    Confluent,
    /// As without a registry, which is for reading only then.
    SingleObject,
}

fn yes() -> bool {
    true
}

impl Settings {
    /// A registry that is asked, with all else as it is by default.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            username: None,
            password: None,
            ca_location: None,
            framing: Framed::default(),
            auto_register: true,
        }
    }

    /// Returns what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let url = &self.url;
        let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
            return Err(format!("url {url:?} does not begin with http:// or https://"));
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err("url has a user name in it: give it as username, and the password as password".into());
        }
        if host.is_empty() || url.contains(['?', '#', ' ']) {
            return Err(format!("url {url:?} is none: expected http://HOST:PORT/PATH"));
        }
        match (&self.username, &self.password) {
            (Some(_), None) => Err("username is set without password".into()),
            (None, Some(_)) => Err("password is set without username".into()),
            (Some(username), _) if username.contains(':') => {
                Err("username has a colon, which HTTP does not allow".into())
            }
            _ => Ok(()),
        }
    }
}

//! Calls of the registry's REST API. Every answer is taken for what it is: also one of something else that listens there.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::{Error, Settings};
use crate::metrics;

/// The caller may be a server that is to stop.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Bytes: of a schema, and of an error message that is shown.
const BODY_MAX: u64 = 16 << 20;
const MESSAGE_MAX: usize = 600;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

pub(super) struct Client {
    agent: ureq::Agent,
    /// Without a slash at its end.
    pub url: String,
    authorization: Option<String>,
}

/// An answer in the words of the API: what was asked for, or its own code for why not.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub json: Value,
    /// None: what was asked for was done.
    pub error_code: Option<i64>,
}

impl Answer {
    pub fn message(&self) -> String {
        shortened(self.json.get("message").and_then(Value::as_str).unwrap_or("it does not say why"))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not what it is authorized by.
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots(settings)?).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_MAX))
            .http_status_as_error(false)
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let credentials = settings.username.as_ref().zip(settings.password.as_ref());
        Ok(Self {
            agent: config.into(),
            url: settings.url.trim_end_matches('/').to_owned(),
            authorization: credentials
                .map(|(username, password)| format!("Basic {}", BASE64.encode(format!("{username}:{password}")))),
        })
    }

    pub fn get(&self, path: &str) -> Result<Answer, Error> {
        let request = self.agent.get(format!("{}/{path}", self.url)).header("accept", CONTENT_TYPE);
        self.counted(match &self.authorization {
            Some(authorization) => request.header("authorization", authorization).call(),
            None => request.call(),
        })
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        let request = self.agent.post(format!("{}/{path}", self.url)).header("accept", CONTENT_TYPE);
        let request = request.content_type(CONTENT_TYPE);
        let request = match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        };
        self.counted(request.send(body.to_string()))
    }

    fn counted(&self, outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Error> {
        let answer = self.answer(outcome);
        metrics::schema_registry_request(match &answer {
            Ok(Answer { error_code: None, .. }) => "ok",
            Ok(_) => "refused",
            Err(Error::Unreachable { .. }) => "unreachable",
            Err(_) => "failed",
        });
        answer
    }

    fn answer(&self, outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Error> {
        let unreachable = |error: ureq::Error| Error::Unreachable { url: self.url.clone(), reason: error.to_string() };
        let mut response = outcome.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(BODY_MAX).read_to_vec().map_err(unreachable)?;
        let json = serde_json::from_slice(&text).ok().filter(Value::is_object);
        let message = || match json.as_ref().and_then(|json: &Value| json.get("message")).and_then(Value::as_str) {
            Some(message) => shortened(message),
            None => shortened(&String::from_utf8_lossy(&text)),
        };
        let code = json.as_ref().and_then(|json| json.get("error_code")).and_then(Value::as_i64);
        match (status, code) {
            (401 | 403, _) => Err(Error::NotAllowed { url: self.url.clone(), status }),
            (408 | 429 | 500.., _) => Err(Error::Failed { url: self.url.clone(), status, reason: message() }),
            (200..300, None) => {
                let json = json.ok_or_else(|| self.no_registry("its answer is not JSON"))?;
                Ok(Answer { status, json, error_code: None })
            }
            (400..500, Some(code)) => Ok(Answer { status, json: json.unwrap_or_default(), error_code: Some(code) }),
            _ => Err(self.no_registry(format!("it answers HTTP {status} {}", message()).trim_end())),
        }
    }

    pub fn no_registry(&self, reason: &str) -> Error {
        Error::NotARegistry { url: self.url.clone(), reason: reason.to_owned() }
    }

    /// An answer that has no place in the API.
    pub fn unexpected(&self, answer: &Answer) -> Error {
        self.no_registry(&format!("it answers HTTP {}: {}", answer.status, answer.message()))
    }
}

fn roots(settings: &Settings) -> Result<RootCerts, Error> {
    let Some(path) = &settings.ca_location else { return Ok(RootCerts::PlatformVerifier) };
    let wrong = |reason: String| Error::Certificates { path: path.display().to_string(), reason };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong("it has no certificate in PEM".into()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MESSAGE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A part of a path.
pub(super) fn escaped(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

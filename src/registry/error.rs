//! What can go wrong with a schema registry: each message has the remedy.

/// Why a registry was of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the schema registry at {url} can't be reached: {reason}. Does it run there?")]
    Unreachable { url: String, reason: String },
    #[error("the schema registry at {url} answers HTTP {status}: {reason}")]
    Failed { url: String, status: u16, reason: String },
    #[error(
        "the schema registry at {url} does not let this client in (HTTP {status}): check its user name and \
         password, and what the user may do there"
    )]
    NotAllowed { url: String, status: u16 },
    #[error(
        "what answers at {url} is no schema registry with Confluent's API: {reason}. Check the URL: it is what stands before \
         /subjects, such as http://host:8081, or http://host:8080/apis/ccompat/v7 for Apicurio"
    )]
    NotARegistry { url: String, reason: String },
    #[error("the schema registry at {url} knows no schema with the id {id}")]
    UnknownId { url: String, id: u32 },
    #[error(
        "the schema registry at {url} has no subject {subject}: register its schema there (Millrace's are in \
         schemas/), or let it be done with auto_register = true"
    )]
    NoSubject { url: String, subject: String },
    #[error(
        "the subject {subject} of the schema registry at {url} does not have the schema that this version writes: \
         register it there (Millrace's are in schemas/), or let it be done with auto_register = true"
    )]
    NotRegistered { url: String, subject: String },
    #[error(
        "the schema registry refuses the schema of {subject} as incompatible with those before it: {reason}. If the \
         topic's records were never written by anything else, delete the subject; else set its compatibility level \
         to BACKWARD or NONE"
    )]
    Incompatible { subject: String, reason: String },
    #[error("the schema registry refuses the schema of {subject} (HTTP {status}): {reason}")]
    Refused { subject: String, status: u16, reason: String },
    #[error("ca_location {path} of the schema registry can't be used: {reason}")]
    Certificates { path: String, reason: String },
}

impl Error {
    /// Whether the registry may well answer a little later, without intervention.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failed { .. })
    }

    /// Whether the schema is not there, for good. All else is no reason to refuse a record: the registry, or the settings, have
    /// to be corrected, and it would have been lost meanwhile.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::UnknownId { .. })
    }
}

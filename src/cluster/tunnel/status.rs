//! How a call failed, as the other node reports it: gRPC's status, and where the call is to go instead.

use bytes::Bytes;
use tonic::{Code, Status};

use crate::proto::cluster::Failure;

/// The status' metadata with the address of the owner, for a call that came to a former one.
const OWNER: &str = "millrace-owner";

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Bytes::copy_from_slice(status.details()),
            owner: owner(&status).unwrap_or_default().to_owned(),
        }
    }
}

impl From<Failure> for Status {
    fn from(Failure { code, message, details, owner }: Failure) -> Self {
        let code = match Code::from_i32(code) {
            // The code is unknown, and must not look like success.
            Code::Ok => Code::Unknown,
            code => code,
        };
        let mut status = Status::with_details(code, message, details);
        if !owner.is_empty() {
            name_owner(&mut status, &owner);
        }
        status
    }
}

/// The node that a refused call is to go to.
pub fn owner(status: &Status) -> Option<&str> {
    status.metadata().get(OWNER)?.to_str().ok()
}

pub fn name_owner(status: &mut Status, address: &str) {
    if let Ok(address) = address.parse() {
        status.metadata_mut().insert(OWNER, address);
    }
}

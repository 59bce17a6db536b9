//! Round trips, a second opinion by the `apache-avro` crate, hostile input, and the published schemas.

mod hostile;
mod published;
mod rendering;
mod round_trip;
mod sample;
mod schemas;
mod values;

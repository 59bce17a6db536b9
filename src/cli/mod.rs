//! The command line.

mod config;
mod data_dir;
mod framed;
mod records;
mod server;
mod topics;

use clap::{Parser, Subcommand};

/// Durable execution with Temporal's programming model and API, Kafka as the log and RocksDB as the state.
#[derive(Parser)]
#[command(name = "millrace", version, arg_required_else_help = true, after_help = TEST_SERVER)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const TEST_SERVER: &str = "With a port in place of a command, `millrace PORT [--enable-time-skipping]`, it is a server for tests that skips \
                           time, as the SDKs' test environments start one by its path.";

#[derive(Subcommand)]
enum Command {
    /// Run a server: a node on Kafka, or with `start-dev` all in one process
    Server(server::Arguments),
    /// Write records to `requests`, or to a topic of your own: one record a line, from standard input
    Produce(records::Produce),
    /// Read a topic as JSON, one record a line
    Consume(records::Consume),
    /// Create, verify or explain the topics
    Topics(topics::Topics),
}

/// How the SDKs start a test server by its path: with a port, and a flag by which time is skipped from the start; none: not so.
/// Returns the port, and whether time is locked.
fn test_server(given: &[String]) -> Option<anyhow::Result<(u16, bool)>> {
    let (port, flags) = given.split_first()?;
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let Ok(port) = port.parse() else {
        return Some(Err(anyhow::anyhow!("{port} is no port: expected one from 0 to 65535")));
    };
    let mut locked = true;
    for flag in flags {
        if !flag.eq_ignore_ascii_case(ENABLE_TIME_SKIPPING) {
            let expected = format!("expected nothing after the port but {ENABLE_TIME_SKIPPING}");
            return Some(Err(anyhow::anyhow!("{flag} is not known to a test server: {expected}")));
        }
        locked = false;
    }
    Some(Ok((port, locked)))
}

const ENABLE_TIME_SKIPPING: &str = "--enable-time-skipping";

/// Runs the command line and returns the process's exit status.
pub fn main() -> i32 {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match test_server(&given) {
        Some(Ok((port, locked))) => server::run_for_tests(port, locked),
        Some(Err(error)) => Err(error),
        None => match Arguments::parse().command {
            Command::Server(arguments) => server::run(arguments),
            Command::Produce(arguments) => records::produce(arguments),
            Command::Consume(arguments) => records::consume(arguments),
            Command::Topics(arguments) => topics::run(arguments),
        },
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_starts_a_server_for_tests() {
        let given = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            test_server(&arguments).map(|outcome| outcome.map_err(|error| error.to_string()))
        };
        assert_eq!(given(&["7233"]), Some(Ok((7233, true))));
        assert_eq!(given(&["0", "--Enable-Time-Skipping"]), Some(Ok((0, false))));
        assert_eq!(given(&["server", "7233"]), None);
        assert_eq!(given(&["--help"]), None);
        assert_eq!(given(&[]), None);
        let refused = "70000 is no port: expected one from 0 to 65535";
        assert_eq!(given(&["70000"]), Some(Err(refused.to_owned())));
        let refused =
            "--fast is not known to a test server: expected nothing after the port but --enable-time-skipping";
        assert_eq!(given(&["7233", "--fast"]), Some(Err(refused.to_owned())));
    }
}

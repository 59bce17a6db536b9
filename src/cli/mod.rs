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
#[command(name = "millrace", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

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

/// Runs the command line and returns the process's exit status.
pub fn main() -> i32 {
    let outcome = match Arguments::parse().command {
        Command::Server(arguments) => server::run(arguments),
        Command::Produce(arguments) => records::produce(arguments),
        Command::Consume(arguments) => records::consume(arguments),
        Command::Topics(arguments) => topics::run(arguments),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            1
        }
    }
}

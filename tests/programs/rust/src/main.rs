//! Programs to run against any Temporal-compatible server: each starts its own worker and client, plays one scenario
//! from beginning to end and checks every result.

mod order_status;
mod stage;

use clap::{Parser, Subcommand};
use stage::Stage;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    program: Program,
    /// Where the server listens.
    #[arg(long, global = true, default_value = "127.0.0.1:7233")]
    address: String,
    /// The namespace to work in.
    #[arg(long, global = true, default_value = "default")]
    namespace: String,
    /// What workflow ids begin with; the task queue follows from it. The program's name by default.
    #[arg(long, global = true)]
    id_prefix: Option<String>,
}

#[derive(Subcommand)]
#[command(rename_all = "snake_case")]
enum Program {
    /// An order waits for its payment and is then shipped: start, query, signal, activity.
    OrderStatus,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let name = match arguments.program {
        Program::OrderStatus => "order_status",
    };
    let id_prefix = arguments.id_prefix.unwrap_or_else(|| name.to_owned());
    let mut stage = Stage::set_up(&arguments.address, arguments.namespace, id_prefix).await?;
    match arguments.program {
        Program::OrderStatus => order_status::play(&mut stage).await?,
    }
    println!("{}", stage.report(&format!("rust/{name}")));
    Ok(())
}

//! Generates the protobuf messages that Millrace speaks: Temporal's API, from the descriptor set that
//! `temporalio-protos` exports, and Millrace's own records (`commands.proto`, `state.proto`, `tasks.proto`,
//! `public.proto`).
//!
//! Maps become `BTreeMap`s and byte fields `Bytes`, so that equal messages have equal bytes and payloads are not copied.

use prost::Message;
use prost_types::FileDescriptorSet;
use std::{env, error::Error, fs, path::PathBuf};

const OURS: [&str; 4] =
    ["schemas/commands.proto", "schemas/state.proto", "schemas/tasks.proto", "schemas/public.proto"];

/// A server's text that is no part of its public API.
const SPOKEN: [&str; 2] = ["schemas/admin.proto", "schemas/cluster.proto"];

/// Every event of a history takes as much memory as the largest can, but for these, which are few in a history.
const LARGE_EVENTS: [&str; 3] = [
    "workflow_execution_started_event_attributes",
    "workflow_execution_continued_as_new_event_attributes",
    "start_child_workflow_execution_initiated_event_attributes",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=schemas/admin.proto");
    println!("cargo:rerun-if-changed=schemas/cluster.proto");
    println!("cargo:rerun-if-changed=schemas/build.rs");
    let exported = env::var("DEP_TEMPORALIO_PROTOS_DESCRIPTOR_PATH")?;
    let temporal = FileDescriptorSet::decode(fs::read(exported)?.as_slice())?;
    // The SDK core's own interface and the cloud API are no part of a server.
    let kept = temporal.file.into_iter().filter(|file| {
        let name = file.name();
        !name.contains("sdk/core") && !name.contains("cloud") && !name.starts_with("grpc/")
    });
    let temporal = FileDescriptorSet { file: kept.collect() };

    let mut ours = compiler(&temporal);
    ours.include_imports(true).open_files(OURS)?;
    let ours = ours.file_descriptor_set();
    let mut spoken = compiler(&temporal);
    spoken.open_files(SPOKEN)?;
    let spoken = spoken.file_descriptor_set();

    let mut all = temporal;
    for file in ours.file {
        for folder in ["schemas", "src/engine"] {
            let path = PathBuf::from(folder).join(file.name());
            if path.exists() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
        }
        if !all.file.iter().any(|known| known.name() == file.name()) {
            all.file.push(file);
        }
    }
    let generated = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(generated.join("descriptors.bin"), all.encode_to_vec())?;
    fs::write(generated.join("command_names.rs"), command_names(&all)?)?;

    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();
    let mut configuration = tonic_prost_build::configure()
        .build_client(false)
        .build_server(server)
        .generate_default_stubs(true)
        .btree_map(".")
        .bytes(".")
        .include_file("all.rs");
    for event in LARGE_EVENTS {
        configuration = configuration.boxed(format!(".temporal.api.history.v1.HistoryEvent.attributes.{event}"));
    }
    configuration.compile_fds(all)?;
    if server {
        let configuration = tonic_prost_build::configure().bytes(".").btree_map(".");
        configuration.extern_path(".temporal.api", "crate::proto::temporal").compile_fds(spoken)?;
    }
    Ok(())
}

fn compiler(temporal: &FileDescriptorSet) -> protox::Compiler {
    let mut chain = protox::file::ChainFileResolver::new();
    chain.add(protox::file::IncludeFileResolver::new(PathBuf::from("schemas")));
    // A kind of entity may keep the schema of its own commands and records with it.
    chain.add(protox::file::IncludeFileResolver::new(PathBuf::from("src/engine")));
    chain.add(protox::file::DescriptorSetFileResolver::new(temporal.clone()));
    chain.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(chain);
    compiler.include_source_info(true);
    compiler
}

/// The name of each kind of command, as the schema has it.
fn command_names(all: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut messages =
        all.file.iter().filter(|file| file.package() == "millrace.commands").flat_map(|file| &file.message_type);
    let command = messages.find(|message| message.name() == "Command").ok_or("there is no message Command")?;
    let bodies = command.field.iter().filter(|field| field.oneof_index.is_some());
    let arms = bodies.map(|field| {
        let name = field.name();
        let variant: String = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        format!("Self::{variant}(_) => {name:?},")
    });
    let arms: String = arms.collect();
    Ok(format!("impl Body {{ pub fn name(&self) -> &'static str {{ match self {{ {arms} }} }} }}"))
}

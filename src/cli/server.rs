//! `millrace server` and `millrace server start-dev`.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Subcommand, ValueEnum};

use super::config::Config;
use super::data_dir;
use super::records::property;
use crate::cluster::{Cluster, OverGrpc};
use crate::engine::TaskQueueType;
use crate::environment::{Environment, PutForward, System};
use crate::grpc;
use crate::ingress::{self, Subscription};
use crate::log::{Isolation, Log, Topic, embedded::Embedded, embedded::Options, kafka::Kafka};
use crate::metrics;
use crate::partition::{Alone, Node, Partitions, Peers, Settings};
use crate::proto::temporal::enums::v1::IndexedValueType;
use crate::registry::{Framed, Registry};
use crate::types::{limits, time};

/// How long closed workflows of a namespace made at start are kept: as `temporal server start-dev` has it, a day.
const RETENTION_MS: i64 = 24 * 3600 * 1000;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    dev: Option<Dev>,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Subcommand)]
enum Dev {
    /// A whole server in one process, on an embedded log: nothing else to install. Takes the flags of `temporal server start-dev`
    StartDev(Box<DevArguments>),
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Never,
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Args)]
struct NodeArguments {
    /// Kafka brokers, with commas between
    #[arg(long, env = "MILLRACE_BROKERS", value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// Where the node keeps its stores. They are a cache: a lost directory is rebuilt from Kafka
    #[arg(long, env = "MILLRACE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where gRPC is served
    #[arg(long, env = "MILLRACE_LISTEN", default_value = "127.0.0.1:7233", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where the other nodes reach this one (default: where gRPC is served)
    #[arg(long, env = "MILLRACE_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where /metrics and /health are served
    #[arg(long, env = "MILLRACE_METRICS_LISTEN", default_value = "127.0.0.1:7234", value_name = "ADDR")]
    metrics_listen: SocketAddr,
    /// Before the names of topics, transactional ids and consumer groups: one per Millrace cluster
    #[arg(long, env = "MILLRACE_TOPIC_PREFIX", default_value = "millrace.", value_name = "P")]
    topic_prefix: String,
    /// Partitions of new topics (default: 8)
    #[arg(long, env = "MILLRACE_PARTITIONS", value_name = "N")]
    partitions: Option<u32>,
    /// A namespace to register at start; may be repeated
    #[arg(long, short, default_value = "default", value_name = "NAME")]
    namespace: Vec<String>,
    /// Whether topics that are missing are created. If not, they are only checked
    #[arg(long, env = "MILLRACE_CREATE_TOPICS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    create_topics: bool,
    /// Replicas of new topics, and the fewest that those which exist may have (default: 3, or as many as there are brokers)
    #[arg(long, env = "MILLRACE_REPLICATION_FACTOR", value_name = "N")]
    replication_factor: Option<u32>,
    /// Reply topics, subscriptions, task queues whose activities are published, a schema registry, librdkafka's properties:
    /// a file in TOML
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A property for librdkafka, such as security.protocol=SASL_SSL; may be repeated, and goes before the file's
    #[arg(long = "kafka", value_name = "KEY=VALUE", value_parser = property)]
    kafka: Vec<(String, String)>,
    /// How long a node may be without a heartbeat before the others take its partitions over; the brokers bound it (6 s to 30 min
    /// by default)
    #[arg(long, env = "MILLRACE_SESSION_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    session_timeout_ms: u64,
    /// Keep stores of partitions warm that other nodes own, so that this one takes them over at once
    #[arg(long, env = "MILLRACE_STANDBY", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    standby: bool,
    /// How long outputs are gathered before a transaction commits them. With more than four busy partitions on a node it is
    /// longer in proportion: 200 ms instead of 50 with sixteen
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    commit_interval_ms: u64,
    /// Memory for caches of the partitions' state: half for workflows, half for the stores. What does not fit is read from disk
    #[arg(long, env = "MILLRACE_CACHE_MB", default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(8..=1_048_576))]
    cache_mb: u64,
    /// How much is logged, to standard error
    #[arg(long, value_enum, default_value_t = Level::Info, value_name = "LEVEL")]
    log_level: Level,
}

#[derive(Args)]
struct DevArguments {
    /// Port of the gRPC service
    #[arg(long, short, default_value_t = 7233)]
    port: u16,
    /// Address to serve at
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// Port of /metrics (default: a free one for headless servers, else the gRPC port + 1)
    #[arg(long)]
    metrics_port: Option<u16>,
    /// Keep the data in this directory (default: in a temporary one, which goes with the server)
    #[arg(long, short = 'f', value_name = "DIR")]
    db_filename: Option<PathBuf>,
    /// A namespace to register; may be repeated. `default` is always there
    #[arg(long, short, value_name = "NAME")]
    namespace: Vec<String>,
    /// Reply topics, subscriptions, task queues whose activities are published, a schema registry: a file in TOML. Topics that
    /// it names are created
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Wait for the disk before anything is acknowledged: survives a power cut, not only a killed process
    #[arg(long)]
    fsync: bool,
    /// Partitions of a new log
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: u32,
    /// How long outputs are gathered before they are committed
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    commit_interval_ms: u64,
    /// How much is logged, to standard error
    #[arg(long, value_enum, default_value_t = Level::Info, value_name = "LEVEL")]
    log_level: Level,
    /// Accepted, and of no effect: logs are text
    #[arg(long, hide = true)]
    log_format: Option<String>,
    /// Accepted, and of no effect: there is no web interface yet
    #[arg(long)]
    headless: bool,
    #[arg(long, hide = true)]
    ui_port: Option<u16>,
    #[arg(long, hide = true)]
    ui_ip: Option<String>,
    #[arg(long, hide = true)]
    http_port: Option<u16>,
    #[arg(long, hide = true)]
    log_config: bool,
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    sqlite_pragma: Vec<String>,
    /// A value of Temporal's dynamic configuration. Only limit.historyCount.suggestContinueAsNew has an effect: from how many
    /// events on a workflow is told to continue as new; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    dynamic_config_value: Vec<String>,
    /// A search attribute to add to the namespaces, such as CustomerId=Keyword; may be repeated. Types: Text, Keyword, Int,
    /// Double, Bool, Datetime, KeywordList
    #[arg(long, value_name = "NAME=TYPE", value_parser = grpc::parse_search_attribute)]
    search_attribute: Vec<(String, IndexedValueType)>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.dev {
        Some(Dev::StartDev(dev)) => start_dev(*dev),
        None => start_node(arguments.node),
    }
}

/// What both kinds of server come down to.
struct Serve {
    listen: SocketAddr,
    metrics_listen: SocketAddr,
    data_dir: PathBuf,
    namespaces: Vec<String>,
    /// What they are given: those that are there already stay as they are.
    search_attributes: Vec<(String, IndexedValueType)>,
    settings: Settings,
    subscriptions: Vec<Subscription>,
    /// Where other nodes reach this one, if there can be any.
    advertised: Option<String>,
    retention_ms: i64,
    time: Time,
}

/// Which clock a server has.
enum Time {
    System,
    /// One that skips time, from the start or once a client unlocks it.
    Skipped {
        clock: Arc<PutForward>,
        locked: bool,
    },
}

fn start_dev(arguments: DevArguments) -> Result<()> {
    init_tracing(arguments.log_level);
    let config = Config::read(arguments.config.as_deref())?;
    config.check_topics("millrace.")?;
    let scratch = match &arguments.db_filename {
        Some(_) => None,
        None => Some(data_dir::Scratch::new()?),
    };
    let data_dir = arguments
        .db_filename
        .clone()
        .or_else(|| scratch.as_ref().map(|scratch| scratch.path().to_owned()))
        .unwrap_or_default();
    if data_dir.is_file() {
        bail!(
            "--db-filename {} is a file: Millrace keeps its data in a directory, so name one that does not exist yet",
            data_dir.display()
        );
    }
    let _lock = data_dir::prepare(&data_dir)?;
    let log_dir = data_dir.join("log");
    // A log that is there keeps its partitions.
    let partitions = (!log_dir.exists()).then_some(arguments.partitions);
    let options =
        Options { partitions, fsync: arguments.fsync, user_topics: config.user_topics(), ..Options::default() };
    let log: Arc<dyn Log> = Arc::new(Embedded::open(&log_dir, options)?);
    let mut namespaces = vec!["default".to_owned()];
    namespaces.extend(arguments.namespace.into_iter().filter(|name| name != "default"));
    let metrics_port =
        arguments.metrics_port.unwrap_or(if arguments.headless { 0 } else { arguments.port.wrapping_add(1) });
    let serve = Serve {
        listen: SocketAddr::new(arguments.ip, arguments.port),
        metrics_listen: SocketAddr::new(arguments.ip, metrics_port),
        data_dir,
        namespaces,
        search_attributes: arguments.search_attribute,
        settings: Settings {
            history_count_suggest: history_count_suggest(&arguments.dynamic_config_value)?,
            ..settings(arguments.commit_interval_ms, &config, "millrace.")?
        },
        subscriptions: config.subscriptions,
        advertised: None,
        retention_ms: RETENTION_MS,
        time: Time::System,
    };
    serve_log(log, serve)
}

/// Runs a server for tests, as the SDKs start one by its path: the port is the first argument, and time is skipped.
pub fn run_for_tests(port: u16, locked: bool) -> Result<()> {
    init_tracing(Level::Warn);
    let scratch = data_dir::Scratch::new()?;
    let data_dir = scratch.path().to_owned();
    let _lock = data_dir::prepare(&data_dir)?;
    let clock = Arc::new(PutForward::default());
    let options = Options { partitions: Some(1), environment: clock.clone(), ..Options::default() };
    let log: Arc<dyn Log> = Arc::new(Embedded::open(&data_dir.join("log"), options)?);
    let serve = Serve {
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        metrics_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        data_dir,
        // The second is the one that rules and extensions of Java's SDK for JUnit use.
        namespaces: vec!["default".to_owned(), "UnitTest".to_owned()],
        search_attributes: Vec::new(),
        settings: Settings { commit_interval: Duration::from_millis(10), ..Settings::default() },
        subscriptions: Vec::new(),
        advertised: None,
        // A year that is skipped must not take the workflows of before with it.
        retention_ms: time::DURATION_S_MAX * 1000,
        time: Time::Skipped { clock, locked },
    };
    serve_log(log, serve)
}

/// The one key of Temporal's dynamic configuration that is heeded. As there, the last value counts.
fn history_count_suggest(values: &[String]) -> Result<i64> {
    const KEY: &str = "limit.historyCount.suggestContinueAsNew";
    let of_key = |value: &&String| value.split_once('=').is_some_and(|(key, _)| key.eq_ignore_ascii_case(KEY));
    let Some((_, value)) = values.iter().rfind(of_key).and_then(|value| value.split_once('=')) else {
        return Ok(limits::HISTORY_COUNT_SUGGEST);
    };
    match value.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => bail!("--dynamic-config-value {KEY}={value}: expected a number of events above 0"),
    }
}

/// Asks the schema registry, if there is one, for the ids of what will be written.
fn settings(commit_interval_ms: u64, config: &Config, topic_prefix: &str) -> Result<Settings> {
    let mut settings = Settings {
        commit_interval: Duration::from_millis(commit_interval_ms),
        reply_topics: config.reply_topics(),
        published_queues: config.published_queues(),
        ..Settings::default()
    };
    if let Some(set) = &config.schema_registry {
        let registry = Registry::new(set).context("--config: [schema_registry]")?;
        if set.framing == Framed::Confluent {
            let replies: Vec<_> = settings.reply_topics.iter().map(|topic| topic.name()).collect();
            let framing = registry.framing(topic_prefix, &replies, set.auto_register);
            settings.framing = framing.context("no output can be written as [schema_registry] in --config has it")?;
        }
        settings.registry = Some(Arc::new(registry));
    }
    Ok(settings)
}

fn start_node(arguments: NodeArguments) -> Result<()> {
    let Some(brokers) = arguments.brokers else {
        usage(
            "--brokers HOST:PORT,… is missing: where is Kafka? (For a server without Kafka: millrace server start-dev)",
        );
    };
    let Some(data_dir) = arguments.data_dir else {
        usage("--data-dir DIR is missing: where shall the node keep its stores?")
    };
    init_tracing(arguments.log_level);
    let file = Config::read(arguments.config.as_deref())?;
    file.check_topics(&arguments.topic_prefix)?;
    let mut properties = file.kafka();
    properties.extend(arguments.kafka);
    let config = crate::log::kafka::Config {
        topic_prefix: arguments.topic_prefix,
        partitions: arguments.partitions,
        properties,
        replication_factor: arguments.replication_factor,
        create_topics: arguments.create_topics,
        user_topics: file.user_topics(),
        ..crate::log::kafka::Config::new(&brokers)
    };
    // A port that is taken is found before Kafka is asked for anything.
    drop(std::net::TcpListener::bind(arguments.listen).with_context(|| in_use(arguments.listen, "--listen"))?);
    let advertised = match arguments.advertise {
        Some(address) => advertised(&address)?,
        None if arguments.listen.ip().is_unspecified() => bail!(
            "--listen {} is every address of this machine, which other nodes can't use: name the one where they reach this node with --advertise HOST:PORT",
            arguments.listen
        ),
        None => arguments.listen.to_string(),
    };
    let settings = settings(arguments.commit_interval_ms, &file, &config.topic_prefix)?;
    let _lock = data_dir::prepare(&data_dir)?;
    let node = crate::log::Node {
        id: data_dir::node_id(&data_dir)?,
        session_timeout: Duration::from_millis(arguments.session_timeout_ms),
    };
    let log: Arc<dyn Log> = Arc::new(Kafka::connect(config)?);
    let serve = Serve {
        listen: arguments.listen,
        metrics_listen: arguments.metrics_listen,
        data_dir,
        namespaces: arguments.namespace,
        search_attributes: Vec::new(),
        settings: Settings {
            node,
            standby: arguments.standby,
            cache_bytes: (arguments.cache_mb as usize) << 20,
            ..settings
        },
        subscriptions: file.subscriptions,
        advertised: Some(advertised),
        retention_ms: RETENTION_MS,
        time: Time::System,
    };
    serve_log(log, serve)
}

/// An address that can be given to others.
fn advertised(address: &str) -> Result<String> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(port)) if port > 0 => Ok(address.to_owned()),
        _ => bail!("--advertise {address}: expected HOST:PORT, such as millrace-0.millrace:7233"),
    }
}

fn in_use(address: SocketAddr, flag: &str) -> String {
    format!("{address} can't be served at: is another server running there? Choose another with {flag}")
}

fn serve_log(log: Arc<dyn Log>, serve: Serve) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("grpc").build()?;
    let outcome = runtime.block_on(serve_all(log, serve));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn serve_all(log: Arc<dyn Log>, serve: Serve) -> Result<()> {
    let mut signals = Signals::new()?;
    let listener = tokio::net::TcpListener::bind(serve.listen)
        .await
        .with_context(|| in_use(serve.listen, "--port or --listen"))?;
    let metrics_listener = tokio::net::TcpListener::bind(serve.metrics_listen)
        .await
        .with_context(|| in_use(serve.metrics_listen, "--metrics-port or --metrics-listen"))?;
    metrics::build_info(env!("CARGO_PKG_VERSION"), option_env!("MILLRACE_COMMIT").unwrap_or("unknown"));
    let cluster = serve.advertised.as_deref().map(|address| Cluster::new(log.clone(), &serve.settings, address));
    let peers: Arc<dyn Peers> = match &cluster {
        Some(cluster) => Arc::new(OverGrpc(cluster.clone())),
        None => Arc::new(Alone),
    };
    let environment: Arc<dyn Environment> = match &serve.time {
        Time::System => Arc::new(System),
        Time::Skipped { clock, .. } => clock.clone(),
    };
    let mut partitions = Partitions::prepare(log.clone(), serve.data_dir.clone(), environment, serve.settings, peers)?;
    let node = partitions.node.clone();
    if let Some(cluster) = &cluster {
        cluster.start(&node)?;
    }
    partitions.join()?;
    let ready = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until =
        |mut stopped: tokio::sync::watch::Receiver<bool>| async move { drop(stopped.wait_for(|stop| *stop).await) };

    let refreshed = node.clone();
    let is_ready = ready.clone();
    let metrics_address = metrics_listener.local_addr()?;
    let scraped = tokio::spawn(metrics::serve(
        metrics_listener,
        move || refresh(&refreshed),
        move || is_ready.load(Ordering::Relaxed),
    ));
    let cluster_id = cluster_id(&*log);
    let address = listener.local_addr()?;
    let service = grpc::Service { node: node.clone(), cluster, cluster_id, ready: ready.clone() };
    let time_skipping = match serve.time {
        Time::System => None,
        Time::Skipped { clock, locked } => Some(grpc::TimeSkipping::new(service.clone(), clock, locked)),
    };
    let skips = time_skipping.clone().map(|skipping| tokio::spawn(skipping.run()));
    let pages = tokio::spawn(grpc::serve_batch_pages(service.clone()));
    // Other nodes may need this one for their own start.
    let serving = tokio::spawn(grpc::serve(listener, service.clone(), time_skipping, until(stopped)));
    let mut ingress = ingress::start(&node, serve.subscriptions)?;
    let registered = async {
        for namespace in &serve.namespaces {
            grpc::ensure_namespace(&service, namespace, serve.retention_ms, &serve.search_attributes).await?;
        }
        ready.store(true, Ordering::Release);
        tracing::info!("serving at {address}, metrics at http://{metrics_address}/metrics");
        anyhow::Ok(())
    };
    let served = async {
        registered.await?;
        std::future::pending::<()>().await;
        anyhow::Ok(())
    };
    let outcome = tokio::select! {
        () = signals.wait() => Ok(()),
        reason = node.has_failed() => Err(anyhow::anyhow!(reason)),
        failed = served => failed,
    };
    tracing::info!("stopping");
    ready.store(false, Ordering::Relaxed);
    // Workers poll again elsewhere.
    node.matching.close();
    let _ = stop.send(true);
    ingress.hear_no_more();
    let _ = tokio::time::timeout(Duration::from_millis(300), serving).await;
    scraped.abort();
    pages.abort();
    if let Some(skips) = skips {
        skips.abort();
    }
    // What ingress waits for is answered as the partitions end.
    let ended = move || {
        partitions.stop();
        ingress.stop();
    };
    tokio::task::spawn_blocking(ended).await?;
    outcome
}

/// What all nodes of a cluster know it by: the id of a topic that is theirs.
fn cluster_id(log: &dyn Log) -> Arc<str> {
    match log.topic_id(Topic::Control) {
        Ok(id) if !id.is_empty() => id.into(),
        _ => crate::types::uuid_from(crate::environment::random(), crate::environment::random()).into(),
    }
}

/// Ends the process as clap does for arguments that don't fit together.
fn usage(message: &str) -> ! {
    super::Arguments::command().error(clap::error::ErrorKind::MissingRequiredArgument, message).exit()
}

fn refresh(node: &Node) {
    for partition in (0..node.partitions()).filter(|partition| node.position(*partition).is_some()) {
        // For people only: an old end shows less of a lag.
        let end = node.log.end_at_least(Topic::Commands, partition, Isolation::ReadUncommitted);
        if let (Some(position), Ok(end)) = (node.position(partition), end) {
            metrics::partition_position(partition, position.min(end), end);
        }
    }
    let stats = node.matching.all_stats(node.clock_ms());
    let named: Vec<_> = stats
        .iter()
        .map(|(name, stats)| {
            let namespace = node
                .shared
                .namespaces
                .by_id(&name.namespace_id)
                .map_or_else(|| name.namespace_id.to_string(), |namespace| namespace.name.clone());
            (namespace, name, stats)
        })
        .collect();
    metrics::task_queues(named.iter().map(|(namespace, name, stats)| metrics::TaskQueue {
        namespace,
        queue: &name.name,
        kind: match (name.queue_type, stats.sticky) {
            (TaskQueueType::Workflow, false) => metrics::QueueKind::Workflow,
            (TaskQueueType::Workflow, true) => metrics::QueueKind::Sticky,
            (TaskQueueType::Activity, _) => metrics::QueueKind::Activity,
        },
        backlog: stats.backlog,
        oldest_age: stats.oldest_age,
        pollers: stats.pollers,
        waiting_polls: stats.waiting_polls,
    }));
}

/// The signals that end the server, caught from the moment this is made.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn init_tracing(level: Level) {
    let level = match level {
        Level::Never => "off",
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("MILLRACE_LOG")
        // A consumer that was fenced can't take its leave, which is no error of the server's. Nor is what is odd about a schema.
        .unwrap_or_else(|_| {
            tracing_subscriber::EnvFilter::new(format!("{level},rdkafka::consumer::base_consumer=off,apache_avro=off"))
        });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_count_is_read_from_the_dynamic_configuration() {
        let of = |values: &[&str]| history_count_suggest(&values.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap(), limits::HISTORY_COUNT_SUGGEST);
        let (first, last) =
            ("limit.historyCount.suggestContinueAsNew=50", "limit.historycount.suggestcontinueasnew=60");
        assert_eq!(of(&["other=true", first]).unwrap(), 50);
        assert_eq!(of(&[first, last, "other=true"]).unwrap(), 60);
        let refused = of(&["limit.historyCount.suggestContinueAsNew=many"]).unwrap_err().to_string();
        assert!(refused.contains("=many: expected a number of events above 0"), "{refused}");
    }
}

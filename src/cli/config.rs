//! The settings file of a server: what is too long for a command line, or has no business there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::ingress::Subscription;
use crate::log::Topic;
use crate::registry;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Topics that requests may name for their answers.
    reply_topics: Vec<String>,
    /// Task queues of activities whose workers read `activity-tasks`.
    activity_task_queues: Vec<TaskQueue>,
    /// Topics whose records start or signal workflows.
    #[serde(rename = "subscription")]
    pub subscriptions: Vec<Subscription>,
    /// Properties for librdkafka.
    kafka: BTreeMap<String, Property>,
    /// What the ids in Avro records stand for.
    pub schema_registry: Option<registry::Settings>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TaskQueue {
    /// In the namespace `default`.
    Name(String),
    In {
        namespace: String,
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Property {
    Text(String),
    Number(i64),
    Switch(bool),
}

impl Config {
    /// Reads the file; without one, nothing is set.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("--config {shown} can't be read"))?;
        let config: Self = toml::from_str(&text).with_context(|| format!("--config {shown} is wrong"))?;
        for subscription in &config.subscriptions {
            subscription.check().map_err(anyhow::Error::msg).with_context(|| format!("--config {shown} is wrong"))?;
        }
        if let Some(registry) = &config.schema_registry
            && let Err(reason) = registry.check()
        {
            bail!("--config {shown} is wrong: [schema_registry]: {reason}");
        }
        let avro = config.subscriptions.iter().find(|subscription| subscription.needs_registry());
        if let (Some(subscription), None) = (avro, &config.schema_registry) {
            let name = subscription.topic().name();
            bail!(
                "--config {shown} is wrong: the subscription to {name} has format = \"avro\", which needs a schema registry: \
                 add a [schema_registry] with its url"
            );
        }
        let mut topics = BTreeSet::new();
        for name in config.subscriptions.iter().map(|subscription| subscription.topic().name()) {
            // Positions and coordinates are kept by topic.
            if !topics.insert(name) {
                bail!("--config {shown} is wrong: it has two subscriptions to {name}; a topic can have one");
            }
        }
        Ok(config)
    }

    /// Refuses topics of Millrace's own: what it writes there has its own meaning.
    pub fn check_topics(&self, prefix: &str) -> Result<()> {
        for topic in self.user_topics() {
            let name = topic.name();
            let own = name.strip_prefix(prefix).unwrap_or(name);
            if name.is_empty() || Topic::ALL.iter().any(|each| each.name() == own) {
                bail!("--config: {name:?} can't be a reply topic or be subscribed to: name a topic of your own");
            }
        }
        Ok(())
    }

    pub fn reply_topics(&self) -> Vec<Topic> {
        self.reply_topics.iter().map(|name| Topic::user(name)).collect()
    }

    /// All topics of the users' own.
    pub fn user_topics(&self) -> Vec<Topic> {
        let mut topics = self.reply_topics();
        topics.extend(self.subscriptions.iter().map(Subscription::topic));
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Namespace and name.
    pub fn published_queues(&self) -> BTreeSet<(String, String)> {
        let queue = |queue: &TaskQueue| match queue {
            TaskQueue::Name(name) => ("default".to_owned(), name.clone()),
            TaskQueue::In { namespace, name } => (namespace.clone(), name.clone()),
        };
        self.activity_task_queues.iter().map(queue).collect()
    }

    pub fn kafka(&self) -> BTreeMap<String, String> {
        let text = |property: &Property| match property {
            Property::Text(text) => text.clone(),
            Property::Number(number) => number.to_string(),
            Property::Switch(on) => on.to_string(),
        };
        self.kafka.iter().map(|(name, property)| (name.clone(), text(property))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it is written");
        Config::read(Some(file.path()))
    }

    const ORDERS: &str = r#"
        [[subscription]]
        topic = "shop.orders"
        action = "start"
        workflow_id = "order-{value:id}"
        workflow_type = "Order"
        task_queue = "orders"
    "#;

    #[test]
    fn a_file_sets_what_it_names() {
        let head = r#"
            reply_topics = ["shop.replies"]
            activity_task_queues = ["emails", { namespace = "billing", name = "cards" }]
            [kafka]
            "security.protocol" = "SASL_SSL"
            "socket.timeout.ms" = 5000
            "enable.ssl.certificate.verification" = true
        "#;
        let config = read(&format!("{head}{ORDERS}")).unwrap();
        assert_eq!(config.reply_topics(), [Topic::User("shop.replies")]);
        assert_eq!(config.user_topics(), [Topic::User("shop.orders"), Topic::User("shop.replies")]);
        let pair = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(config.published_queues(), [pair("billing", "cards"), pair("default", "emails")].into());
        assert_eq!(config.kafka()["socket.timeout.ms"], "5000");
        assert_eq!(config.kafka()["enable.ssl.certificate.verification"], "true");
    }

    #[test]
    fn the_documented_settings_are_right() {
        let page = include_str!("../../docs/topics.md");
        let (_, rest) = page.split_once("```toml\n").expect("the page has an example");
        let config = read(rest.split_once("```").expect("it ends").0).unwrap();
        assert_eq!(config.subscriptions.len(), 2);
        assert_eq!(config.user_topics().len(), 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (change, reason) in [
            (("workflow_type = \"Order\"", ""), "workflow_type is missing, and its action needs it"),
            (("action = \"start\"", "action = \"signal\""), "workflow_type is set, and its action has no use for it"),
            (("action = \"start\"", "action = \"run\""), "unknown variant `run`"),
            (("topic =", "topics ="), "unknown field `topics`"),
            (("{value:id}", "{value.id}"), "names no part of a record"),
            (("action =", "format = \"raw\"\naction ="), "a raw value has none"),
            (("action =", "id_reuse_policy = \"never\"\naction ="), "id_reuse_policy"),
            (("topic = \"shop.orders\"", "topic = \"\""), "topic is empty"),
            (("action =", "format = \"avro\"\naction ="), "add a [schema_registry] with its url"),
        ] {
            let error = format!("{:#}", read(&ORDERS.replace(change.0, change.1)).err().expect(change.1));
            assert!(error.contains(reason), "{change:?}: {error}");
        }
        for name in ["commands", "millrace.rejections", ""] {
            let config = read(&format!("reply_topics = [{name:?}]")).unwrap();
            let error = config.check_topics("millrace.").unwrap_err().to_string();
            assert!(error.contains("name a topic of your own"), "{name}: {error}");
        }
        for (registry, reason) in [
            ("", "missing field `url`"),
            ("url = \"registry:8081\"", "does not begin with http:// or https://"),
            ("url = \"http://a:b@registry\"", "give it as username"),
            ("url = \"http:///subjects\"", "expected http://HOST:PORT/PATH"),
            ("url = \"http://registry\"\nusername = \"a\"", "username is set without password"),
            ("url = \"http://registry\"\npassword = \"a\"", "password is set without username"),
            ("url = \"http://registry\"\nframing = \"none\"", "unknown variant `none`"),
            ("uri = \"http://registry\"", "unknown field `uri`"),
        ] {
            let error = format!("{:#}", read(&format!("[schema_registry]\n{registry}")).err().expect(registry));
            assert!(error.contains(reason), "{registry}: {error}");
        }
        let error = format!("{:#}", read(&format!("{ORDERS}{ORDERS}")).err().expect("it is refused"));
        assert!(error.contains("two subscriptions to shop.orders"), "{error}");
    }
}

//! The topics at start: those that are missing are created, those that exist are held against what correctness needs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{ConfigResource, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::{Metadata, MetadataTopic};

use super::Config;
use super::admin::Admin;
use super::client::{CALL_WAIT_MAX, Events, MESSAGE_BYTES_MAX, unavailable};
use crate::log::{Error, TOMBSTONE_RETENTION_MS, Topic};

const PARTITIONS_DEFAULT: u32 = 8;
const REPLICATION_DEFAULT: usize = 3;

/// How long new topics may take until each partition has a leader.
const LEADERS_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long it may take until each broker knows the settings of new topics.
const DESCRIPTIONS_WAIT_MAX: Duration = Duration::from_secs(5);

/// One setting of a topic that correctness rests on.
struct Setting {
    name: &'static str,
    wanted: Wanted,
    /// What goes wrong otherwise.
    why: &'static str,
}

enum Wanted {
    Exactly(&'static str),
    AtLeast(i64),
}

/// Creates what is missing and checks the rest. Returns how many partitions the topics have.
pub(super) fn prepare(
    config: &Config,
    names: &BTreeMap<Topic, String>,
    client: &BaseConsumer<Events>,
    admin: &Admin,
    found: Metadata,
) -> Result<u32, Error> {
    let partitions = agree_on_partitions(config, names, &found)?;
    let replication =
        config.replication_factor.map_or(REPLICATION_DEFAULT.min(found.brokers().len()), |factor| factor as usize);
    let missing: Vec<Topic> =
        Topic::ALL.into_iter().filter(|topic| existing(&found, &names[topic]).is_none()).collect();
    // A broker that is away is not found. That matters to new topics only.
    if replication == 0 || !missing.is_empty() && replication > found.brokers().len() {
        return Err(Error::Unusable(format!(
            "the settings ask for a replication factor of {replication}, the cluster has {} brokers",
            found.brokers().len()
        )));
    }
    if let (false, Some(topic)) = (config.create_topics, missing.first()) {
        let name = &names[topic];
        return Err(Error::Unusable(format!("topic {name} does not exist: create it, or let Millrace do so")));
    }
    if !missing.is_empty() {
        create(&missing, names, partitions, replication, admin)?;
    }
    let found = wait_for_leaders(names, client)?;
    // Another process may have created them meanwhile, with other numbers.
    let partitions = agree_on_partitions(config, names, &found)?;
    for topic in Topic::ALL {
        check_replication(&names[&topic], fewest_replicas(&names[&topic], &found), replication)?;
    }
    let described: Vec<&str> = Topic::ALL.iter().map(|topic| names[topic].as_str()).collect();
    for (topic, description) in Topic::ALL.into_iter().zip(describe(&described, admin)?) {
        let replicas = fewest_replicas(&names[&topic], &found);
        check_settings(topic, &names[&topic], &description, replication, replicas)?;
    }
    Ok(partitions)
}

/// Waits until a broker knows all topics: it describes nothing of one that it does not know.
fn describe(names: &[&str], admin: &Admin) -> Result<Vec<ConfigResource>, Error> {
    let deadline = Instant::now() + DESCRIPTIONS_WAIT_MAX;
    loop {
        let described = admin.describe_topics(names)?;
        match names.iter().zip(&described).find(|(_, description)| description.entries.is_empty()) {
            None => return Ok(described),
            Some((name, _)) if Instant::now() > deadline => {
                return Err(Error::Unusable(format!(
                    "the settings of topic {name} can't be read: no broker describes them, or ACLs keep them from this node"
                )));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn existing<'a>(found: &'a Metadata, name: &str) -> Option<&'a MetadataTopic> {
    found.topics().iter().find(|topic| topic.name() == name && !topic.partitions().is_empty())
}

/// Topics of the users' own are theirs to create: how many partitions each has.
pub(super) fn check_user_topics(topics: &[Topic], found: &Metadata) -> Result<Vec<(Topic, u32)>, Error> {
    let check = |topic: &Topic| {
        let missing = || {
            let name = topic.name();
            Error::Unusable(format!("topic {name} does not exist: create it first, or do not name it"))
        };
        Ok((*topic, existing(found, topic.name()).ok_or_else(missing)?.partitions().len() as u32))
    };
    topics.iter().map(check).collect()
}

/// The number of partitions that the existing topics have, which must be one number.
fn agree_on_partitions(config: &Config, names: &BTreeMap<Topic, String>, found: &Metadata) -> Result<u32, Error> {
    let mut agreed: Option<(u32, &str)> = None;
    for topic in Topic::ALL {
        let name = names[&topic].as_str();
        let Some(count) = existing(found, name).map(|found| found.partitions().len() as u32) else { continue };
        if topic == Topic::Control {
            if count != 1 {
                return Err(wrong(name, "number of partitions", &count.to_string(), "1", "its records have one order"));
            }
            continue;
        }
        match agreed {
            Some((other, named)) if other != count => {
                let wanted = format!("{other}, as {named} has");
                let why = "everything from partition p of commands goes to partition p of the others";
                return Err(wrong(name, "number of partitions", &count.to_string(), &wanted, why));
            }
            _ => agreed = Some((count, name)),
        }
    }
    match (agreed, config.partitions) {
        (Some((count, name)), Some(wanted)) if count != wanted => {
            let why = "partitions of existing topics can't be added or taken away by a setting";
            Err(wrong(name, "number of partitions", &count.to_string(), &wanted.to_string(), why))
        }
        (_, Some(0)) => Err(Error::Unusable("the settings ask for 0 partitions: at least one is needed".into())),
        (agreed, wanted) => Ok(agreed.map(|(count, _)| count).or(wanted).unwrap_or(PARTITIONS_DEFAULT)),
    }
}

fn wrong(topic: &str, setting: &str, is: &str, should_be: &str, why: &str) -> Error {
    Error::Unusable(format!("topic {topic}: {setting} is {is}, but should be {should_be} ({why})"))
}

/// What a topic is created with, and held to.
fn settings(topic: Topic, replication: usize) -> Vec<Setting> {
    let exactly = |name, value, why| Setting { name, wanted: Wanted::Exactly(value), why };
    let at_least = |name, least, why| Setting { name, wanted: Wanted::AtLeast(least), why };
    let policy = if topic.is_compacted() { "compact" } else { "delete" };
    let mut settings = vec![
        exactly(
            "cleanup.policy",
            policy,
            "otherwise Kafka drops records that Millrace needs, or keeps what it need not",
        ),
        at_least("max.message.bytes", MESSAGE_BYTES_MAX as i64, "a large payload must fit"),
        exactly("unclean.leader.election.enable", "false", "otherwise acknowledged records can be lost"),
    ];
    if replication >= REPLICATION_DEFAULT {
        settings.push(at_least("min.insync.replicas", 2, "otherwise one broker's loss can lose acknowledged records"));
    }
    if topic.is_compacted() {
        settings.push(at_least(
            "delete.retention.ms",
            TOMBSTONE_RETENTION_MS,
            "a node that was away must read deletions",
        ));
    }
    if topic == Topic::Commands {
        settings.push(exactly("retention.ms", "-1", "commands are deleted once they are decided, never by age"));
        settings.push(exactly("retention.bytes", "-1", "commands are deleted once they are decided, never by size"));
        settings.push(exactly("message.timestamp.type", "LogAppendTime", "time is the broker's"));
    }
    settings
}

/// What a topic must be set to: each setting, its value, and why.
pub fn requirements(topic: Topic, replication: usize) -> Vec<(&'static str, String, &'static str)> {
    let shown = |setting: Setting| {
        let value = match setting.wanted {
            Wanted::Exactly(value) => value.to_owned(),
            Wanted::AtLeast(least) => format!("at least {least}"),
        };
        (setting.name, value, setting.why)
    };
    settings(topic, replication).into_iter().map(shown).collect()
}

fn create(
    missing: &[Topic],
    names: &BTreeMap<Topic, String>,
    partitions: u32,
    replication: usize,
    admin: &Admin,
) -> Result<(), Error> {
    let settings: Vec<Vec<(&str, String)>> = missing
        .iter()
        .map(|topic| {
            let mut created: Vec<_> = settings(*topic, replication)
                .into_iter()
                .map(|setting| match setting.wanted {
                    Wanted::Exactly(value) => (setting.name, value.to_string()),
                    Wanted::AtLeast(least) => (setting.name, least.to_string()),
                })
                .collect();
            if replication < REPLICATION_DEFAULT {
                // A broker's default of 2 would refuse every append.
                created.push(("min.insync.replicas", "1".to_string()));
            }
            created
        })
        .collect();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let (count, replication) =
                (topic.partitions(partitions) as i32, TopicReplication::Fixed(replication as i32));
            let new = NewTopic::new(&names[topic], count, replication);
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    admin.create_topics(&topics)
}

fn wait_for_leaders(names: &BTreeMap<Topic, String>, client: &BaseConsumer<Events>) -> Result<Metadata, Error> {
    let deadline = Instant::now() + LEADERS_WAIT_MAX;
    loop {
        let found = client
            .fetch_metadata(None, CALL_WAIT_MAX)
            .map_err(|error| unavailable("the topics can't be listed", error))?;
        let led = |topic: &MetadataTopic| topic.partitions().iter().all(|partition| partition.leader() >= 0);
        let leaderless = names.values().find(|name| !existing(&found, name).is_some_and(led));
        match leaderless {
            None => return Ok(found),
            Some(name) if Instant::now() > deadline => {
                let waited = LEADERS_WAIT_MAX.as_secs();
                return Err(Error::Unavailable(format!("a partition of topic {name} has no leader, after {waited} s")));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn fewest_replicas(name: &str, found: &Metadata) -> usize {
    let partitions = existing(found, name).map_or(&[][..], MetadataTopic::partitions);
    partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0)
}

fn check_replication(name: &str, fewest: usize, wanted: usize) -> Result<(), Error> {
    if fewest >= wanted {
        return Ok(());
    }
    let why = "a lost broker would take acknowledged records with it; if that is meant, set the replication factor";
    Err(wrong(name, "replication factor", &fewest.to_string(), &format!("at least {wanted}"), why))
}

/// `replication` is what is wanted at least, `replicas` what there is: also on brokers that are away.
fn check_settings(
    topic: Topic,
    name: &str,
    found: &ConfigResource,
    replication: usize,
    replicas: usize,
) -> Result<(), Error> {
    let value = |setting: &str| found.get(setting).and_then(|entry| entry.value.as_deref()).unwrap_or("unknown");
    for Setting { name: setting, wanted, why } in settings(topic, replication) {
        let is = value(setting);
        match wanted {
            Wanted::Exactly(wanted) if is != wanted => return Err(wrong(name, setting, is, wanted, why)),
            Wanted::AtLeast(least) if is.parse::<i64>().is_ok_and(|is| is < least) => {
                return Err(wrong(name, setting, is, &format!("at least {least}"), why));
            }
            _ => {}
        }
    }
    let insync = value("min.insync.replicas");
    if insync.parse::<usize>().is_ok_and(|insync| insync > replicas) {
        let most = format!("at most {replicas}");
        return Err(wrong(
            name,
            "min.insync.replicas",
            insync,
            &most,
            "there are no more replicas, so no append could succeed",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    fn described(changes: &[(&str, &str)]) -> ConfigResource {
        let defaults = settings(Topic::Commands, 3).into_iter().map(|setting| match setting.wanted {
            Wanted::Exactly(value) => (setting.name.to_string(), value.to_string()),
            Wanted::AtLeast(least) => (setting.name.to_string(), least.to_string()),
        });
        let mut values: BTreeMap<String, String> = defaults.collect();
        values.extend(changes.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let entry = |(name, value)| ConfigEntry {
            name,
            value: Some(value),
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        ConfigResource {
            specifier: OwnedResourceSpecifier::Topic("x".into()),
            entries: values.into_iter().map(entry).collect(),
        }
    }

    #[test]
    fn what_is_created_passes_the_check() {
        check_settings(Topic::Commands, "millrace.commands", &described(&[]), 3, 3).unwrap();
    }

    #[test]
    fn brokers_that_are_away_are_no_reason_to_complain() {
        check_settings(Topic::Commands, "millrace.commands", &described(&[]), 1, 3).unwrap();
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_it_is_and_should_be() {
        for (setting, is, complaint) in [
            ("message.timestamp.type", "CreateTime", "is CreateTime, but should be LogAppendTime"),
            ("max.message.bytes", "1048588", "is 1048588, but should be at least 8388608"),
            ("min.insync.replicas", "1", "is 1, but should be at least 2"),
            ("min.insync.replicas", "4", "is 4, but should be at most 3"),
            ("retention.ms", "604800000", "is 604800000, but should be -1"),
        ] {
            let error =
                check_settings(Topic::Commands, "millrace.commands", &described(&[(setting, is)]), 3, 3).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("topic millrace.commands: {setting} {complaint}")), "{text}");
        }
    }
}

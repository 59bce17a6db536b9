//! The directory of an embedded log: its format file, and how RocksDB is opened in it.

use std::fs;
use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, Options};

use super::layout::{FORMAT_VERSION, LATEST, RECORDS};
use crate::log::Error;

/// A plain file beside the database, read before RocksDB touches anything.
const FORMAT_FILE: &str = "MILLRACE-LOG";

/// Makes the directory, or checks that this version can read it. Returns how many partitions its topics have.
pub(super) fn prepare(directory: &Path, partitions: Option<u32>, partitions_default: u32) -> Result<u32, Error> {
    let shown = directory.display();
    let failed = |error: std::io::Error| Error::Unusable(format!("the log's directory {shown} can't be used: {error}"));
    fs::create_dir_all(directory).map_err(failed)?;
    let file = directory.join(FORMAT_FILE);
    if !file.exists() {
        if fs::read_dir(directory).map_err(failed)?.next().is_some() {
            return Err(Error::Unusable(format!(
                "{shown} is not empty and holds no log of Millrace's (there is no file {FORMAT_FILE}): name another directory"
            )));
        }
        let partitions = partitions.unwrap_or(partitions_default);
        fs::write(&file, format!("version {FORMAT_VERSION}\npartitions {partitions}\n")).map_err(failed)?;
        return Ok(partitions);
    }
    let text = fs::read_to_string(&file).map_err(failed)?;
    let number = |name: &str| {
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        number
            .ok_or_else(|| Error::Unusable(format!("{} has no line '{name} <number>': it is damaged", file.display())))
    };
    let version = number("version")?;
    if version != FORMAT_VERSION {
        return Err(Error::Unusable(format!(
            "the log in {shown} has format version {version}, this Millrace reads version {FORMAT_VERSION}: \
             start the Millrace that wrote it, or name another directory"
        )));
    }
    let found = number("partitions")?;
    match partitions {
        Some(wanted) if wanted != found => Err(Error::Unusable(format!(
            "the log in {shown} has {found} partitions, the settings ask for {wanted}: ask for {found}, or name another directory"
        ))),
        _ => Ok(found),
    }
}

pub(super) fn open(directory: &Path) -> Result<DB, Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // What is not in a table file yet is read back from the WAL at the next start: keep that short.
    options.set_max_total_wal_size(64 << 20);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_max_open_files(512);
    let cache = Cache::new_lru_cache(32 << 20);
    let families = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, RECORDS, LATEST]
        .map(|name| ColumnFamilyDescriptor::new(name, family_options(&cache)));
    DB::open_cf_descriptors(&options, directory, families).map_err(|error| {
        let (shown, reason) = (directory.display(), error.to_string());
        Error::Unusable(if reason.contains("lock") {
            format!(
                "the log in {shown} is in use by another process ({reason}): stop that one, or name another directory"
            )
        } else {
            format!("the log in {shown} can't be opened: {reason}")
        })
    })
}

fn family_options(cache: &Cache) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_bloom_filter(10.0, false);
    tables.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&tables);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(16 << 20);
    options
}

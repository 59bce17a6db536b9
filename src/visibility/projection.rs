//! The projection's file: its tables, its single writer and its readers.
//!
//! Rows and the place in the changelog move in one transaction. The journal is a WAL, so that readers never wait for the writer, and
//! `synchronous` is NORMAL: a commit costs no fsync, a killed process loses nothing, and after a power cut the file is an
//! earlier state with the earlier place. (With OFF it could be neither, and nothing would show that.)

use super::{
    Count, Error, Page, Query, Readers, Row,
    attributes::{self, Field},
    filter::Test,
    order::Part,
    sql,
};
use crate::engine::Kind;
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params, params_from_iter, types::Value};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Bumped with every change of the tables or of what is indexed; a file of another version is built again.
const VERSION: i32 = 5;
/// Random ids touch a page each: the more of them are at hand, the fewer are read.
const WRITER_CACHE_KIB: i64 = 32_768;
/// Of each of [`Readers`].
const READER_CACHE_KIB: i64 = 4_096;
/// In pages of 4 KiB: fewer checkpoints write a page that is changed again and again less often. Each costs two fsyncs.
const CHECKPOINT_PAGES: i64 = 16_000;
/// Up to so many runs, matches are worth looking up by value; of more, the first page is found sooner in order.
const FEW: usize = 1_000;

/// Values of an attribute have no declared type, so that they are compared as what they are. `closed` is a column, not an
/// expression, because SQLite seeks to a row value only among columns. The indexes of `run` end where equals are few: the
/// run id that makes an order total is sorted after the fact. What a run calls its namespace is that of one kind of entities: the
/// lists of two kinds have nothing in common.
const TABLES: &str = "
    CREATE TABLE place (next INTEGER NOT NULL, head INTEGER NOT NULL, written_ms INTEGER NOT NULL);
    INSERT INTO place VALUES (0, 0, 0);
    CREATE TABLE namespace (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name));
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        namespace INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        workflow_id TEXT NOT NULL,
        workflow_type TEXT NOT NULL,
        status INTEGER NOT NULL,
        start_time INTEGER NOT NULL,
        close_time INTEGER,
        task_queue TEXT NOT NULL,
        execution_time INTEGER NOT NULL,
        history_length INTEGER NOT NULL,
        history_size_bytes INTEGER NOT NULL,
        state_transition_count INTEGER NOT NULL,
        parent_workflow_id TEXT,
        parent_run_id TEXT,
        root_workflow_id TEXT,
        root_run_id TEXT,
        memo BLOB NOT NULL,
        search_attributes BLOB NOT NULL,
        info BLOB NOT NULL,
        closed AS (ifnull(close_time, x'')) VIRTUAL
    );
    CREATE UNIQUE INDEX run_by_id ON run (run_id, namespace);
    CREATE INDEX run_by_workflow ON run (namespace, workflow_id);
    CREATE INDEX run_by_time ON run (namespace, closed DESC, start_time DESC);
    CREATE INDEX run_by_status ON run (namespace, status, closed DESC, start_time DESC);
    CREATE INDEX run_by_type ON run (namespace, workflow_type, closed DESC, start_time DESC);
    CREATE INDEX run_by_start ON run (namespace, start_time);
    CREATE TABLE attribute (
        run INTEGER NOT NULL,
        name TEXT NOT NULL,
        value NOT NULL,
        namespace INTEGER NOT NULL,
        PRIMARY KEY (run, name, value)
    ) WITHOUT ROWID;
    CREATE INDEX attribute_by_value ON attribute (namespace, name, value);
";

/// How many of a million runs have the same first columns of an index, for SQLite's planner (https://sqlite.org/fileformat2.html#stat1tab).
/// Made up, not measured: a workflow id has few runs, and so is looked up, while everything else is found soonest in the order of
/// the list. What is not said here, the planner takes for selective: it would sort all runs since a start time for a page of them.
const STATISTICS: &str = "
    ANALYZE;
    INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
        ('run', 'run_by_id', '1000000 1 1'),
        ('run', 'run_by_workflow', '1000000 1000000 4'),
        ('run', 'run_by_time', '1000000 1000000 500000 2'),
        ('run', 'run_by_status', '1000000 1000000 250000 125000 2'),
        ('run', 'run_by_type', '1000000 1000000 500000 250000 2'),
        ('run', 'run_by_start', '1000000 1000000 2');
    ANALYZE sqlite_schema;
";

const FIND: &str = "SELECT id, workflow_id, workflow_type, status, start_time, close_time, search_attributes FROM run \
     WHERE run_id = ?1 AND namespace = ?2";
const INSERT: &str = "INSERT INTO run (namespace, run_id, workflow_id, workflow_type, status, start_time, close_time, \
     task_queue, execution_time, history_length, history_size_bytes, state_transition_count, parent_workflow_id, \
     parent_run_id, root_workflow_id, root_run_id, memo, search_attributes, info) \
     VALUES (?14, ?15, ?16, ?17, ?18, ?19, ?20, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
/// Sets no indexed column, so that SQLite opens no index.
const UPDATE: &str = "UPDATE run SET task_queue = ?1, execution_time = ?2, history_length = ?3, history_size_bytes = ?4, \
     state_transition_count = ?5, parent_workflow_id = ?6, parent_run_id = ?7, root_workflow_id = ?8, root_run_id = ?9, \
     memo = ?10, search_attributes = ?11, info = ?12 WHERE id = ?13";
/// Sets what changes when a run closes.
const CLOSE: &str = "UPDATE run SET status = ?1, close_time = ?2 WHERE id = ?3";
/// Sets what never changes, unless the run was started again under its id.
const RENAME: &str = "UPDATE run SET workflow_id = ?1, workflow_type = ?2, start_time = ?3 WHERE id = ?4";
const COLUMNS: &str = "r.workflow_id, r.run_id, r.workflow_type, r.task_queue, r.status, r.start_time, r.execution_time, \
     r.close_time, r.history_length, r.history_size_bytes, r.state_transition_count, r.parent_workflow_id, \
     r.parent_run_id, r.root_workflow_id, r.root_run_id";

/// How far a projection has come in the changelog that it is fed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The next offset of the changelog that it misses; 0: it has yet to be built.
    pub next: i64,
    /// The offset of the newest record before that which ends a transaction; 0: not known.
    pub head: i64,
    /// When it came there, in milliseconds since the Unix epoch.
    pub written_ms: i64,
}

/// The writer of one partition's file. Only one may be open at a time.
pub struct Projection {
    reader: Reader,
    path: PathBuf,
    place: Place,
    namespaces: Namespaces,
}

/// A run that is not listed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub kind: Kind,
    pub namespace_id: String,
    pub run_id: String,
}

/// The numbers of namespaces, by kind and by name.
type Namespaces = HashMap<u32, HashMap<String, i64>>;

fn number_of(namespaces: &Namespaces, kind: u32, name: &str) -> Option<i64> {
    namespaces.get(&kind)?.get(name).copied()
}

/// Lists and counts in one partition's file, beside its writer. Each call sees one committed state.
pub struct Reader {
    connection: Connection,
}

impl Projection {
    /// Opens the file, or makes it. A file that is damaged or of another version is replaced by an empty one that has
    /// yet to be built.
    pub fn open(path: &Path) -> Result<Projection, Error> {
        match Projection::open_as_it_is(path) {
            Ok(Some(projection)) => Ok(projection),
            Ok(None) => Projection::open_anew(path),
            Err(Error::Sqlite(error)) if is_damage(&error) => Projection::open_anew(path),
            Err(error) => Err(error),
        }
    }

    fn open_anew(path: &Path) -> Result<Projection, Error> {
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            match fs::remove_file(PathBuf::from(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let projection = Projection::open_as_it_is(path)?;
        Ok(projection.expect("a new file has the current version"))
    }

    /// Nothing if the file is of another version.
    fn open_as_it_is(path: &Path) -> Result<Option<Projection>, Error> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        configure(&connection, WRITER_CACHE_KIB)?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            VERSION => {}
            0 => connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES} {STATISTICS} PRAGMA user_version = {VERSION}; COMMIT;"
            ))?,
            _ => return Ok(None),
        }
        let place = connection.query_row("SELECT next, head, written_ms FROM place", [], |row| {
            Ok(Place { next: row.get(0)?, head: row.get(1)?, written_ms: row.get(2)? })
        })?;
        let mut namespaces = Namespaces::new();
        let mut numbered = connection.prepare("SELECT kind, name, id FROM namespace")?;
        for row in numbered.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            let (kind, name, id) = row?;
            namespaces.entry(kind).or_default().insert(name, id);
        }
        drop(numbered);
        Ok(Some(Projection { reader: Reader { connection }, path: path.to_owned(), place, namespaces }))
    }

    /// The place given with the last [`apply`](Self::apply).
    pub fn place(&self) -> Place {
        self.place
    }

    /// Forgets every run, and that it was ever built.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.reader.connection.execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM attribute; DELETE FROM run; UPDATE place SET next = 0, head = 0, written_ms = 0; \
             COMMIT;",
        )?;
        self.place = Place::default();
        Ok(())
    }

    /// Readers of the file, which do not wait for its writer.
    pub fn readers(&self) -> Readers {
        Readers::new(self.path.clone())
    }

    /// Inserts or replaces rows, then deletes runs, and moves to `place`: all or nothing.
    pub fn apply(&mut self, upserts: &[Row], deletes: &[Deleted], place: Place) -> Result<(), Error> {
        let transaction = Transaction::begin(&self.reader.connection)?;
        // Ids given to namespaces count only once they are committed.
        let mut added = Namespaces::new();
        for row in upserts {
            let (kind, name) = (row.kind, row.namespace_id.as_str());
            let known = number_of(&self.namespaces, kind, name).or_else(|| number_of(&added, kind, name));
            let namespace = match known {
                Some(id) => id,
                None => {
                    let id = transaction.add_namespace(kind, name)?;
                    added.entry(kind).or_default().insert(name.to_owned(), id);
                    id
                }
            };
            transaction.upsert(namespace, row)?;
        }
        for Deleted { kind, namespace_id, run_id } in deletes {
            let kind = *kind as u32;
            let known = number_of(&self.namespaces, kind, namespace_id);
            if let Some(id) = known.or_else(|| number_of(&added, kind, namespace_id)) {
                transaction.delete(id, run_id)?;
            }
        }
        transaction.commit(place)?;
        for (kind, added) in added {
            self.namespaces.entry(kind).or_default().extend(added);
        }
        self.place = place;
        Ok(())
    }

    /// See [`Reader::list`].
    pub fn list(&self, query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error> {
        self.reader.list(query, page_size, page_token)
    }

    /// See [`Reader::count`].
    pub fn count(&self, query: &Query) -> Result<Count, Error> {
        self.reader.count(query)
    }
}

/// Settings of every connection.
fn configure(connection: &Connection, cache_kib: i64) -> Result<(), Error> {
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(error, rusqlite::Error::QueryReturnedNoRows)
}

/// A write transaction; dropped without a commit, it leaves nothing behind.
struct Transaction<'a> {
    connection: rusqlite::Transaction<'a>,
}

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection) -> Result<Transaction<'a>, Error> {
        Ok(Transaction { connection: connection.unchecked_transaction()? })
    }

    fn commit(self, place: Place) -> Result<(), Error> {
        let Place { next, head, written_ms } = place;
        let mut update = self.connection.prepare_cached("UPDATE place SET next = ?1, head = ?2, written_ms = ?3")?;
        update.execute([next, head, written_ms])?;
        drop(update);
        Ok(self.connection.commit()?)
    }

    fn add_namespace(&self, kind: u32, name: &str) -> Result<i64, Error> {
        let mut insert = self.connection.prepare_cached("INSERT INTO namespace (kind, name) VALUES (?1, ?2)")?;
        insert.execute(params![kind, name])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn upsert(&self, namespace: i64, row: &Row) -> Result<(), Error> {
        let mut find = self.connection.prepare_cached(FIND)?;
        let known = find.query_row(params![row.run_id, namespace], |known| {
            let renamed = known.get_ref(1)?.as_str()? != row.workflow_id
                || known.get_ref(2)?.as_str()? != row.workflow_type
                || known.get::<_, i64>(4)? != row.start_time_ms;
            let closed = known.get::<_, i32>(3)? != row.status || known.get::<_, Option<i64>>(5)? != row.close_time_ms;
            let described = known.get_ref(6)?.as_blob()? != row.search_attributes;
            Ok((known.get::<_, i64>(0)?, renamed, closed, described))
        });
        match known.optional()? {
            None => {
                self.write(INSERT, namespace, row, None)?;
                self.index(self.connection.last_insert_rowid(), namespace, row)
            }
            Some((id, renamed, closed, described)) => {
                self.write(UPDATE, namespace, row, Some(id))?;
                if closed {
                    self.connection.prepare_cached(CLOSE)?.execute(params![row.status, row.close_time_ms, id])?;
                }
                if renamed {
                    let values = params![row.workflow_id, row.workflow_type, row.start_time_ms, id];
                    self.connection.prepare_cached(RENAME)?.execute(values)?;
                }
                if described {
                    self.connection.prepare_cached("DELETE FROM attribute WHERE run = ?1")?.execute([id])?;
                    self.index(id, namespace, row)?;
                }
                Ok(())
            }
        }
    }

    /// Runs [`UPDATE`] for a known id, or [`INSERT`], which takes the same values and more.
    fn write(&self, statement: &str, namespace: i64, row: &Row, id: Option<i64>) -> Result<(), Error> {
        let mut statement = self.connection.prepare_cached(statement)?;
        let Row { parent_workflow_id, parent_run_id, root_workflow_id, root_run_id, .. } = row;
        statement.raw_bind_parameter(1, &row.task_queue)?;
        statement.raw_bind_parameter(2, row.execution_time_ms)?;
        statement.raw_bind_parameter(3, row.history_length)?;
        statement.raw_bind_parameter(4, row.history_size_bytes)?;
        statement.raw_bind_parameter(5, row.state_transition_count)?;
        for (index, id) in (6..).zip([parent_workflow_id, parent_run_id, root_workflow_id, root_run_id]) {
            statement.raw_bind_parameter(index, (!id.is_empty()).then_some(id))?;
        }
        statement.raw_bind_parameter(10, &row.memo[..])?;
        statement.raw_bind_parameter(11, &row.search_attributes[..])?;
        statement.raw_bind_parameter(12, &row.info[..])?;
        if let Some(id) = id {
            statement.raw_bind_parameter(13, id)?;
        } else {
            statement.raw_bind_parameter(14, namespace)?;
            statement.raw_bind_parameter(15, &row.run_id)?;
            statement.raw_bind_parameter(16, &row.workflow_id)?;
            statement.raw_bind_parameter(17, &row.workflow_type)?;
            statement.raw_bind_parameter(18, row.status)?;
            statement.raw_bind_parameter(19, row.start_time_ms)?;
            statement.raw_bind_parameter(20, row.close_time_ms)?;
        }
        statement.raw_execute()?;
        Ok(())
    }

    /// Adds a run's search attributes to the side table, where it has none.
    fn index(&self, id: i64, namespace: i64, row: &Row) -> Result<(), Error> {
        if row.search_attributes.is_empty() {
            return Ok(());
        }
        let mut insert = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO attribute (run, name, value, namespace) VALUES (?1, ?2, ?3, ?4)")?;
        for (name, value) in attributes::entries(&row.search_attributes) {
            if value != Part::Last {
                insert.execute(params![id, name, Value::from(value), namespace])?;
            }
        }
        Ok(())
    }

    fn delete(&self, namespace: i64, run_id: &str) -> Result<(), Error> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM run WHERE run_id = ?1 AND namespace = ?2 RETURNING id")?;
        // Read to its end, or the statement would not have done its work.
        let ids = delete.query_map(params![run_id, namespace], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        for id in ids {
            self.connection.prepare_cached("DELETE FROM attribute WHERE run = ?1")?.execute([id])?;
        }
        Ok(())
    }
}

impl Reader {
    /// A connection of its own to the file, which its writer has open.
    pub(super) fn open(path: &Path) -> Result<Reader, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection, READER_CACHE_KIB)?;
        Ok(Reader { connection })
    }

    /// The runs that match, in the query's order, after those of the page that gave the token (empty for the first page).
    /// A page that is full has a token, also where nothing follows, as Temporal's server has it with an SQL store. A query's
    /// groups are ignored, as there.
    pub fn list(&self, query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error> {
        let after = query.order.after(page_token)?;
        let page_size = page_size.max(1);
        let Some(namespace) = self.namespace(query)? else { return Ok(Page::default()) };
        let few = |field: &Field, test: &Test| self.few(namespace, field, test);
        let sql::Statement { text, values, .. } =
            sql::list(&columns(query), namespace, query, after.as_ref(), page_size, &few);
        let mut statement = self.connection.prepare(&text)?;
        let rows = statement.query_map(params_from_iter(values), |row| read(row, query))?;
        let rows = rows.collect::<Result<Vec<Row>, _>>()?;
        let next_page_token = match rows.last() {
            Some(last) if rows.len() == page_size => query.order.token(last),
            _ => Bytes::new(),
        };
        Ok(Page { rows, next_page_token })
    }

    /// How many runs match, by status if the query groups by it.
    pub fn count(&self, query: &Query) -> Result<Count, Error> {
        let Some(namespace) = self.namespace(query)? else { return Ok(Count::default()) };
        let few = |field: &Field, test: &Test| self.few(namespace, field, test);
        let sql::Statement { text, values, .. } = sql::count(namespace, query, &few);
        let mut statement = self.connection.prepare(&text)?;
        let counted = statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let groups = counted.collect::<Result<Vec<(i32, i64)>, _>>()?;
        let total = groups.iter().map(|(_, count)| count).sum();
        Ok(Count { total, groups: if query.group_by_status { groups } else { Vec::new() } })
    }

    /// Whether few runs pass a test of a field. An error is left to the query itself.
    fn few(&self, namespace: i64, field: &Field, test: &Test) -> bool {
        let sql::Statement { text, values, .. } = sql::matches_up_to(FEW + 1, namespace, field, test);
        let counted = self.connection.query_row(&text, params_from_iter(values), |row| row.get::<_, usize>(0));
        counted.is_ok_and(|count| count <= FEW)
    }

    fn namespace(&self, query: &Query) -> Result<Option<i64>, Error> {
        let mut statement = self.connection.prepare_cached("SELECT id FROM namespace WHERE kind = ?1 AND name = ?2")?;
        Ok(statement.query_row(params![query.kind as u32, query.namespace_id], |row| row.get(0)).optional()?)
    }

    /// A snapshot of the present state until what is returned is dropped.
    #[cfg(test)]
    pub(super) fn snapshot(&self) -> Result<rusqlite::Transaction<'_>, Error> {
        let transaction = self.connection.unchecked_transaction()?;
        transaction.query_row("SELECT next FROM place", [], |_| Ok(()))?;
        Ok(transaction)
    }

    /// How SQLite would run a list, for tests of the indexes.
    #[cfg(test)]
    pub(super) fn plan(&self, query: &Query, page_token: &[u8]) -> Result<Vec<String>, Error> {
        let after = query.order.after(page_token)?;
        let namespace = self.namespace(query)?.unwrap_or(0);
        let few = |field: &Field, test: &Test| self.few(namespace, field, test);
        let sql::Statement { text, values, .. } =
            sql::list(&columns(query), namespace, query, after.as_ref(), 10, &few);
        let mut statement = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {text}"))?;
        let steps = statement.query_map(params_from_iter(values), |row| row.get(3))?;
        Ok(steps.collect::<Result<_, _>>()?)
    }
}

/// What [`read`] reads.
fn columns(query: &Query) -> String {
    let large = if query.names_only { "x'', x'', x''" } else { "r.memo, r.search_attributes, r.info" };
    format!("{COLUMNS}, {large}")
}

/// Reads [`columns`].
fn read(row: &rusqlite::Row, query: &Query) -> rusqlite::Result<Row> {
    let id = |index| row.get::<_, Option<String>>(index).map(Option::unwrap_or_default);
    Ok(Row {
        kind: query.kind as u32,
        namespace_id: query.namespace_id.clone(),
        workflow_id: row.get(0)?,
        run_id: row.get(1)?,
        workflow_type: row.get(2)?,
        task_queue: row.get(3)?,
        status: row.get(4)?,
        start_time_ms: row.get(5)?,
        execution_time_ms: row.get(6)?,
        close_time_ms: row.get(7)?,
        history_length: row.get(8)?,
        history_size_bytes: row.get(9)?,
        state_transition_count: row.get(10)?,
        parent_workflow_id: id(11)?,
        parent_run_id: id(12)?,
        root_workflow_id: id(13)?,
        root_run_id: id(14)?,
        memo: row.get::<_, Vec<u8>>(15)?.into(),
        search_attributes: row.get::<_, Vec<u8>>(16)?.into(),
        info: row.get::<_, Vec<u8>>(17)?.into(),
    })
}

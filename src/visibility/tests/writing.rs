use super::*;
use crate::proto::temporal::common::v1::Memo;
use crate::visibility::merge::Source;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn everything(projection: &Projection) -> Vec<Row> {
    projection.list(&query("ORDER BY RunId"), 10_000, b"").expect("lists").rows
}

#[test]
fn rows_and_position_survive_a_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    assert_eq!(projection.place(), at(0));
    let row = Row {
        memo: Memo { fields: [("note".to_owned(), Default::default())].into() }.encode_to_vec().into(),
        search_attributes: attributes(&[("CustomerId", "Keyword", r#""alice""#)]),
        ..closed(2, 5, run(1))
    };
    projection.apply(std::slice::from_ref(&row), &[], at(42)).expect("applies");
    drop(projection);
    let projection = open(directory.path());
    assert_eq!(projection.place(), at(42));
    assert_eq!(everything(&projection), [row]);
}

#[test]
fn a_damaged_file_and_one_of_another_version_are_begun_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("visibility.sqlite");
    open(directory.path()).apply(&[run(1)], &[], at(42)).expect("applies");
    let connection = rusqlite::Connection::open(&path).expect("opens");
    connection.pragma_update(None, "user_version", 1_000).expect("sets");
    drop(connection);
    assert_eq!(open(directory.path()).place(), at(0));
    assert!(everything(&open(directory.path())).is_empty());
    std::fs::write(&path, b"this is no SQLite file, but it is long enough to be looked at".repeat(100))
        .expect("writes");
    assert_eq!(open(directory.path()).place(), at(0));
}

#[test]
fn a_reader_sees_what_is_committed_beside_the_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    let readers = projection.readers();
    assert_eq!(readers.count(&query("")).expect("counts").total, 0);
    projection.apply(&[run(1), run(2)], &[], at(1)).expect("applies");
    assert_eq!(readers.count(&query("")).expect("counts").total, 2);
    assert_eq!(readers.count(&query("WorkflowId = 'workflow-2'")).expect("counts").total, 1);
}

#[test]
fn neither_a_list_nor_a_commit_waits_for_the_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&[run(1), run(2)], &[], at(1)).expect("applies");
    let readers = projection.readers();
    let total = |readers: &Readers| readers.count(&query("")).expect("counts").total;
    // A commit that takes long.
    let writing = rusqlite::Connection::open(directory.path().join("visibility.sqlite")).expect("opens");
    writing.execute_batch("BEGIN IMMEDIATE; DELETE FROM run").expect("begins");
    assert_eq!(total(&readers), 2);
    writing.execute_batch("ROLLBACK").expect("ends");
    // A list that takes long, and others meanwhile.
    let listed = readers.ask(|reader| {
        let begun = reader.snapshot()?;
        projection.apply(&[run(3)], &[], at(2))?;
        assert_eq!(total(&readers), 3);
        let seen = reader.count(&query(""))?.total;
        drop(begun);
        Ok(seen)
    });
    assert_eq!(listed.expect("counts"), 2, "it sees one state to its end");
    assert_eq!(total(&readers), 3);
}

#[test]
fn a_row_is_shown_as_temporals_message() {
    let row = Row {
        parent_workflow_id: "parent".to_owned(),
        parent_run_id: "parent-run".to_owned(),
        search_attributes: attributes(&[("CustomerId", "Keyword", r#""alice""#)]),
        ..closed(2, 1_250, run(1))
    };
    let info = to_execution_info(&row);
    assert_eq!(info.execution.as_ref().map(|execution| execution.workflow_id.as_str()), Some("workflow-1"));
    assert_eq!(info.status, 2);
    assert_eq!(info.start_time, Some(prost_types::Timestamp { seconds: 1_704_067_260, nanos: 0 }));
    assert_eq!(info.close_time, Some(prost_types::Timestamp { seconds: 1_704_067_261, nanos: 250_000_000 }));
    assert_eq!(info.execution_duration, Some(prost_types::Duration { seconds: 1, nanos: 250_000_000 }));
    assert_eq!(info.parent_execution.map(|parent| parent.run_id), Some("parent-run".to_owned()));
    assert_eq!(info.search_attributes.map(|attributes| attributes.indexed_fields.len()), Some(1));
    assert_eq!(info.memo, None);
    let mut shown = row.clone();
    leave_out_removed(&mut shown, &custom());
    assert_eq!(shown, row);
    leave_out_removed(&mut shown, &Attributes::new());
    assert_eq!(to_execution_info(&shown).search_attributes, None, "the namespace has the attribute no more");
    let open = to_execution_info(&run(1));
    assert_eq!((open.close_time, open.execution_duration, open.parent_execution), (None, None, None));
}

/// A change to one of a few runs.
fn changes() -> impl Strategy<Value = (i64, Option<Row>)> {
    let row = (0..8_i64, 1..4_i32, prop::option::of(0..3_i64), 0..3_i64, 0..4_u8, 0..2_i64);
    prop_oneof![
        1 => (0..8_i64).prop_map(|number| (number, None)),
        4 => row.prop_map(|(number, status, close, length, described, moved)| {
            let search_attributes = match described {
                0 => Bytes::new(),
                1 => attributes(&[("Amount", "Int", "1")]),
                2 => attributes(&[("Amount", "Int", "2"), ("Tags", "KeywordList", r#"["a","b","a"]"#)]),
                _ => attributes(&[("Tags", "KeywordList", r#"["b"]"#)]),
            };
            let row = Row { status, history_length: length, search_attributes, ..run(number) };
            let close_time_ms = close.map(|after| row.start_time_ms + after);
            let workflow_type = if moved == 1 { "Other".to_owned() } else { row.workflow_type.clone() };
            (number, Some(Row { close_time_ms, workflow_type, ..row }))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever came before, the file shows the last rows, and its indexes agree with them.
    #[test]
    fn the_file_equals_a_map(batches in prop::collection::vec(prop::collection::vec(changes(), 0..6), 1..8)) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut projection = open(directory.path());
        let mut expected = BTreeMap::new();
        for (position, batch) in (1..).zip(batches) {
            let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
            for (number, change) in batch {
                match change {
                    Some(row) => upserts.push(row),
                    None => deletes.push(deleted(&run(number).run_id)),
                }
            }
            for row in &upserts {
                expected.insert(row.run_id.clone(), row.clone());
            }
            for Deleted { run_id, .. } in &deletes {
                expected.remove(run_id);
            }
            projection.apply(&upserts, &deletes, at(position)).expect("applies");
            prop_assert_eq!(projection.place(), at(position));
        }
        let expected: Vec<Row> = expected.into_values().collect();
        prop_assert_eq!(&everything(&projection), &expected);
        let count = |filter: &str| projection.count(&query(filter)).expect("counts").total as usize;
        let holds = |test: fn(&Row) -> bool| expected.iter().filter(|row| test(row)).count();
        prop_assert_eq!(count("ExecutionStatus = 2"), holds(|row| row.status == 2));
        prop_assert_eq!(count("WorkflowType = 'Other'"), holds(|row| row.workflow_type == "Other"));
        prop_assert_eq!(count("CloseTime IS NULL"), holds(|row| row.close_time_ms.is_none()));
        let shows = |name: &str, json: &str| {
            let needle = json.to_owned();
            let found = |row: &&Row| {
                let decoded = SearchAttributes::decode(row.search_attributes.clone()).expect("decodes");
                decoded.indexed_fields.get(name).is_some_and(|payload| String::from_utf8_lossy(&payload.data).contains(&needle))
            };
            expected.iter().filter(found).count()
        };
        prop_assert_eq!(count("Amount = 2"), shows("Amount", "2"));
        prop_assert_eq!(count("Tags = 'b'"), shows("Tags", "\"b\""));
        prop_assert_eq!(count("Tags = 'a'"), shows("Tags", "\"a\""));
    }
}

#[test]
fn each_kind_of_entities_has_lists_of_its_own() {
    use crate::engine::Kind::{Namespace, Workflow};
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    let of = |kind: crate::engine::Kind, number: i64| Row { kind: kind as u32, ..run(number) };
    let rows = [of(Workflow, 1), of(Namespace, 1), of(Namespace, 2)];
    projection.apply(&rows, &[], at(10)).expect("applies");
    projection.apply(&[], &[deleted(&run(1).run_id)], at(20)).expect("applies");
    let everything = |kind| query("").of_kind(kind);
    for projection in [&projection, &open(directory.path())] {
        assert!(projection.list(&everything(Workflow), 10, b"").expect("lists").rows.is_empty());
        let listed = projection.list(&everything(Namespace), 10, b"").expect("lists").rows;
        assert_eq!(listed.iter().map(|row| row.kind).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(projection.count(&everything(Namespace)).expect("counts").total, 2);
    }
}

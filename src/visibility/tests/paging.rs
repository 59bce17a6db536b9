use super::*;
use crate::visibility::merge;
use proptest::prelude::*;

/// Runs with many ties, in every state, with and without attributes.
fn runs(count: i64) -> Vec<Row> {
    let with = |number: i64| {
        let row = Row { start_time_ms: NEW_YEAR_MS + number % 3, ..run(number) };
        let attributes = match number % 4 {
            0 => attributes(&[("Amount", "Int", &(number % 5).to_string()), ("CustomerId", "Keyword", r#""a""#)]),
            1 => attributes(&[("CustomerId", "Keyword", &format!("\"{}\"", number % 3)), ("Score", "Double", "0.1")]),
            2 => attributes(&[("Score", "Double", &format!("{}", number as f64 / 7.0)), ("Urgent", "Bool", "true")]),
            _ => Bytes::new(),
        };
        let row = Row { search_attributes: attributes, workflow_id: format!("workflow-{}", number % 7), ..row };
        match number % 5 {
            0 | 1 => row,
            status => closed(status as i32, number % 2, row),
        }
    };
    (0..count).map(with).collect()
}

fn all_pages(query: &Query, page_size: usize, list: impl Fn(&Query, usize, &[u8]) -> Result<Page, Error>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut token = Bytes::new();
    loop {
        let page = list(query, page_size, &token).expect("lists");
        assert!(page.rows.len() <= page_size);
        assert_eq!(page.next_page_token.is_empty(), page.rows.len() < page_size, "only the last page is short");
        rows.extend(page.rows);
        if page.next_page_token.is_empty() {
            return rows;
        }
        token = page.next_page_token;
    }
}

const ORDERS: [&str; 12] = [
    "",
    "ExecutionStatus != 'Failed'",
    "ORDER BY CloseTime",
    "ORDER BY CloseTime DESC, StartTime ASC",
    "ORDER BY WorkflowId DESC",
    "ORDER BY WorkflowId, ExecutionStatus DESC",
    "ORDER BY Amount",
    "ORDER BY Amount DESC, CustomerId",
    "ORDER BY CustomerId DESC, Score DESC, Urgent",
    "ORDER BY ExecutionDuration DESC",
    "ORDER BY ParentWorkflowId DESC",
    "ORDER BY RunId DESC, WorkflowId",
];

#[test]
fn every_run_is_on_one_page_in_the_order_of_the_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&runs(60), &[], at(1)).expect("applies");
    for order in ORDERS {
        let query = query(order);
        let whole = projection.list(&query, 1_000, b"").expect("lists").rows;
        // Sorted by the keys, as in SQLite.
        assert!(whole.is_sorted_by_key(|row| Sorted(&query, row)), "{order}");
        for page_size in [1, 2, 7, 59, 60] {
            let paged = all_pages(&query, page_size, |query, size, token| projection.list(query, size, token));
            assert_eq!(paged, whole, "{order} by {page_size}");
        }
    }
}

struct Sorted<'a>(&'a Query, &'a Row);

impl PartialEq for Sorted<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(std::cmp::Ordering::Equal)
    }
}

impl PartialOrd for Sorted<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let order = &self.0.order;
        Some(order.compare(&order.key(self.1), &order.key(other.1)))
    }
}

#[test]
fn open_runs_come_first_and_then_the_last_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    let rows = [closed(2, 600_000, run(1)), run(2), closed(3, 0, run(3)), run(4)];
    projection.apply(&rows, &[], at(1)).expect("applies");
    let page = projection.list(&query(""), 10, b"").expect("lists");
    assert_eq!(workflow_ids(&page), ["workflow-4", "workflow-2", "workflow-1", "workflow-3"]);
}

#[test]
fn a_list_goes_on_where_it_was_when_runs_close_and_start_between_pages() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&(1..=4).map(run).collect::<Vec<_>>(), &[], at(1)).expect("applies");
    let query = query("ORDER BY StartTime");
    let first = projection.list(&query, 2, b"").expect("lists");
    assert_eq!(workflow_ids(&first), ["workflow-1", "workflow-2"]);
    let gone = [deleted("run-0002")];
    projection.apply(&[closed(2, 1, run(1)), run(0), run(5)], &gone, at(2)).expect("applies");
    let second = projection.list(&query, 10, &first.next_page_token).expect("lists");
    assert_eq!(workflow_ids(&second), ["workflow-3", "workflow-4", "workflow-5"]);
}

#[test]
fn a_token_of_another_order_or_of_no_server_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&runs(5), &[], at(1)).expect("applies");
    let token = projection.list(&query(""), 2, b"").expect("lists").next_page_token;
    for (order, token) in [("ORDER BY StartTime", &token[..]), ("", b"garbage"), ("", &token[..token.len() - 1])] {
        let error = projection.list(&query(order), 2, token).expect_err("refused");
        assert!(error.is_callers_fault() && error.to_string().starts_with("invalid page token"), "{error}");
    }
}

#[test]
fn a_grouped_query_is_counted_in_groups_and_listed_without() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&[run(1), run(2), closed(6, 1, run(3))], &[], at(1)).expect("applies");
    let query = query("WorkflowType = 'Order' GROUP BY ExecutionStatus");
    let count = projection.count(&query).expect("counts");
    assert_eq!(count, Count { total: 3, groups: vec![(1, 2), (6, 1)] });
    let response = to_count_response(&count);
    assert_eq!(response.count, 3);
    let group = &response.groups[1];
    assert_eq!((group.count, &group.group_values[0].data[..]), (1, &b"\"ContinuedAsNew\""[..]));
    assert_eq!(group.group_values[0].metadata["encoding"], "json/plain");
    assert_eq!(projection.list(&query, 10, b"").expect("lists").rows.len(), 3);
}

#[test]
fn pages_seek_in_an_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&runs(50), &[], at(1)).expect("applies");
    for (filter, index) in [
        ("", "run_by_time (namespace=? AND (closed,start_time)<(?,?))"),
        ("ExecutionStatus = 'Running'", "run_by_status (namespace=? AND status=? AND (closed,start_time)<(?,?))"),
        ("WorkflowType = 'Order'", "run_by_type (namespace=? AND workflow_type=? AND (closed,start_time)<(?,?))"),
        (
            "ExecutionStatus = 'Running' OR ExecutionStatus = 'Paused'",
            "run_by_time (namespace=? AND (closed,start_time)<(?,?))",
        ),
    ] {
        let query = query(filter);
        let token = projection.list(&query, 3, b"").expect("lists").next_page_token;
        let file = directory.path().join("visibility.sqlite");
        for (token, index) in [(&b""[..], index.split(" AND (closed").next().expect("an index")), (&token[..], index)] {
            let plan = Reader::open(&file).and_then(|reader| reader.plan(&query, token)).expect("a plan").join("\n");
            assert!(plan.contains(index), "{filter}: {plan}");
            assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{filter}: {plan}");
        }
    }
}

#[test]
fn workflow_ids_are_looked_up_while_few_runs_have_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&(0..1_200).map(run).collect::<Vec<_>>(), &[], at(1)).expect("applies");
    let (by_id, by_time, by_start) = ("run_by_workflow", "run_by_time", "run_by_start");
    for (filter, index, found) in [
        ("WorkflowId = 'workflow-7'", by_id, 1),
        ("WorkflowId = 'workflow-7' ORDER BY StartTime DESC", by_id, 1),
        ("WorkflowId IN ('workflow-7', 'workflow-8') AND ExecutionStatus IN ('Running', 'Completed')", by_id, 2),
        ("WorkflowId STARTS_WITH 'workflow-11'", by_id, 111),
        ("WorkflowId STARTS_WITH 'workflow-'", by_time, 1_200),
        ("WorkflowId > 'a'", by_time, 1_200),
        ("StartTime > '2020-01-01T00:00:00Z'", by_time, 1_200),
        ("StartTime > '2120-01-01T00:00:00Z'", by_start, 0),
        ("StartTime > '2020-01-01T00:00:00Z' ORDER BY StartTime DESC", by_start, 1_200),
        ("WorkflowId > 'a' AND WorkflowType = 'Order' ORDER BY StartTime DESC", by_start, 1_200),
    ] {
        let file = directory.path().join("visibility.sqlite");
        let plan = Reader::open(&file).and_then(|reader| reader.plan(&query(filter), b"")).expect("a plan").join("\n");
        assert!(plan.contains(index), "{filter}: {plan}");
        let page = projection.list(&query(filter), 5_000, b"").expect("lists");
        assert_eq!(page.rows.len(), found, "{filter}");
    }
}

#[test]
fn names_go_without_what_is_large() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    let large = |number| Row {
        memo: Bytes::from_static(b"memo"),
        info: Bytes::from_static(b"info"),
        search_attributes: attributes(&[("CustomerId", "Keyword", "\"alice\"")]),
        ..run(number)
    };
    projection.apply(&[large(1), large(2)], &[], at(1)).expect("applies");
    let query = query("CustomerId = 'alice'");
    let whole = projection.list(&query, 10, b"").expect("lists");
    let names = projection.list(&query.names_only(true), 10, b"").expect("lists");
    let bare = |row: Row| Row { memo: Bytes::new(), info: Bytes::new(), search_attributes: Bytes::new(), ..row };
    assert_eq!(whole.rows.into_iter().map(bare).collect::<Vec<_>>(), names.rows);
}

#[test]
fn an_attribute_is_looked_up_while_few_runs_have_its_value() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    let bought_by = |customer: &str, number| Row {
        search_attributes: attributes(&[("CustomerId", "Keyword", &format!("\"{customer}\""))]),
        ..run(number)
    };
    let many = (0..1_001).map(|number| bought_by("many", number)).chain([bought_by("one", 2_000)]);
    projection.apply(&many.collect::<Vec<_>>(), &[], at(1)).expect("applies");
    for (filter, index, total) in [
        ("CustomerId = 'one'", "attribute_by_value (namespace=? AND name=? AND value=?)", 1),
        ("CustomerId = 'many'", "SEARCH r USING INDEX run_by_time (namespace=?)", 1_001),
    ] {
        let file = directory.path().join("visibility.sqlite");
        let plan = Reader::open(&file).and_then(|reader| reader.plan(&query(filter), b"")).expect("a plan").join("\n");
        assert!(plan.contains(index), "{filter}: {plan}");
        assert_eq!(projection.count(&query(filter)).expect("counts").total, total);
        assert_eq!(projection.list(&query(filter), 5_000, b"").expect("lists").rows.len() as i64, total);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn three_projections_merged_equal_one(
        places in prop::collection::vec(0..3_usize, 40),
        order in prop::sample::select(ORDERS.to_vec()),
        page_size in 1..9_usize,
    ) {
        let directories = [(); 4].map(|()| tempfile::tempdir().expect("a directory"));
        let [one, a, b, c] = directories.each_ref().map(|directory| open(directory.path()));
        let (mut one, mut parts) = (one, [a, b, c]);
        let rows = runs(40);
        one.apply(&rows, &[], at(1)).expect("applies");
        for (row, place) in rows.iter().zip(&places) {
            parts[*place].apply(std::slice::from_ref(row), &[], at(1)).expect("applies");
        }
        let parts = parts.map(|part| part.readers());
        let query = query(order);
        let merged = all_pages(&query, page_size, |query, size, token| merge::list(&parts, query, size, token));
        let whole = all_pages(&query, 7, |query, size, token| one.list(query, size, token));
        prop_assert_eq!(merged, whole);
        // A page of one goes on in the others.
        let from_one = one.list(&query, page_size, b"").expect("lists");
        let from_parts = merge::list(&parts, &query, page_size, b"").expect("lists");
        prop_assert_eq!(from_one, from_parts);
        let grouped = super::query("GROUP BY ExecutionStatus");
        prop_assert_eq!(merge::count(&parts, &grouped).expect("counts"), one.count(&grouped).expect("counts"));
    }
}

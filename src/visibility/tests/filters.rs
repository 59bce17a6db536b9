use super::*;
use proptest::prelude::*;

/// Four runs that differ in everything.
fn four_runs() -> Vec<Row> {
    let child = Row {
        parent_workflow_id: "workflow-1".to_owned(),
        parent_run_id: "run-0001".to_owned(),
        root_workflow_id: "workflow-1".to_owned(),
        root_run_id: "run-0001".to_owned(),
        workflow_type: "Ship".to_owned(),
        ..run(2)
    };
    vec![
        Row {
            history_length: 10,
            history_size_bytes: 1_000,
            state_transition_count: 7,
            search_attributes: attributes(&[
                ("CustomerId", "Keyword", r#""alice""#),
                ("Amount", "Int", "5"),
                ("Score", "Double", "1.5"),
                ("Urgent", "Bool", "true"),
                ("Note", "Text", r#""The quick, brown FOX""#),
                ("Tags", "KeywordList", r#"["red","blue"]"#),
                ("Due", "Datetime", r#""2024-02-01T00:00:00.0005Z""#),
                ("with space-dash", "Keyword", r#""x""#),
                ("dotted.name", "Keyword", r#""y""#),
                ("Order", "Int", "9"),
            ]),
            ..run(1)
        },
        closed(2, 60_000, child),
        closed(
            3,
            1_500,
            Row {
                task_queue: "other_queue".to_owned(),
                search_attributes: attributes(&[
                    ("CustomerId", "Keyword", r#""al%ce""#),
                    ("Amount", "INDEXED_VALUE_TYPE_INT", "-3"),
                    ("Score", "Double", "2"),
                    ("Urgent", "Bool", "false"),
                    ("Note", "Text", r#""slow fox""#),
                    ("Tags", "KeywordList", r#"["green"]"#),
                    ("Due", "Datetime", r#""2024-03-01T01:00:00+01:00""#),
                    ("BuildIds", "KeywordList", r#"["unversioned"]"#),
                    ("TemporalScheduledById", "Keyword", r#""nightly""#),
                ]),
                ..run(3)
            },
        ),
        closed(6, 0, run(4)),
    ]
}

/// (filter, the numbers of the runs that match)
const FILTERS: &[(&str, &[u8])] = &[
    ("", &[1, 2, 3, 4]),
    ("   ", &[1, 2, 3, 4]),
    ("ORDER BY StartTime", &[1, 2, 3, 4]),
    ("WorkflowId = 'workflow-2'", &[2]),
    ("WorkflowId=\"workflow-2\"", &[2]),
    ("`WorkflowId` = 'workflow-2'", &[2]),
    ("RunId = 'run-0003'", &[3]),
    ("WorkflowType = 'Order' AND ExecutionStatus = 'Running'", &[1]),
    ("WorkflowType != 'Order'", &[2]),
    ("workflowType_ = 'x' OR WorkflowType = 'x'", &[]),
    ("ExecutionStatus = 'Completed'", &[2]),
    ("ExecutionStatus = 'WORKFLOW_EXECUTION_STATUS_FAILED'", &[3]),
    ("ExecutionStatus = 6", &[4]),
    ("ExecutionStatus != 'Running'", &[2, 3, 4]),
    ("ExecutionStatus IN ('Running', 2)", &[1, 2]),
    ("executionstatus_ = 1 OR ExecutionStatus not in ('Running', 'Completed')", &[3, 4]),
    ("StartTime > '2024-01-01T00:02:00Z'", &[3, 4]),
    ("StartTime >= '2024-01-01T01:02:00+01:00'", &[2, 3, 4]),
    ("StartTime < '2024-01-01T00:02:00.000000001Z'", &[1, 2]),
    ("StartTime > '2024-01-01T00:01:59.999999999Z'", &[2, 3, 4]),
    ("StartTime = '2024-01-01T00:02:00.000000001Z'", &[]),
    ("StartTime = 1704067320000000000", &[2]),
    ("StartTime BETWEEN '2024-01-01T00:02:00Z' AND '2024-01-01T00:03:00Z'", &[2, 3]),
    ("StartTime NOT BETWEEN '2024-01-01T00:02:00Z' AND '2024-01-01T00:03:00Z'", &[1, 4]),
    ("NOT StartTime BETWEEN '2024-01-01T00:02:00Z' AND '2024-01-01T00:03:00Z'", &[1, 4]),
    ("ExecutionTime <= '2024-01-01T00:01:00Z'", &[1]),
    ("CloseTime IS NULL", &[1]),
    ("CloseTime is not null", &[2, 3, 4]),
    ("CloseTime > '2020-01-01T00:00:00Z'", &[2, 3, 4]),
    ("ExecutionDuration > '1s'", &[2, 3]),
    ("ExecutionDuration = 1500000000", &[3]),
    ("ExecutionDuration = '00:01:00'", &[2]),
    ("ExecutionDuration < '500ms'", &[4]),
    ("HistoryLength > 3", &[1]),
    ("HistorySizeBytes = 1000", &[1]),
    ("StateTransitionCount >= 7", &[1]),
    ("HistoryLength > 3.5", &[1]),
    ("TaskQueue = 'other_queue'", &[3]),
    ("TaskQueue STARTS_WITH 'other_'", &[3]),
    ("TaskQueue STARTS_WITH 'otherX'", &[]),
    ("TaskQueue NOT STARTS_WITH 'other'", &[1, 2, 4]),
    ("NOT TaskQueue STARTS_WITH 'other'", &[1, 2, 4]),
    ("WorkflowId starts_with 'workflow-'", &[1, 2, 3, 4]),
    ("WorkflowId STARTS_WITH ''", &[1, 2, 3, 4]),
    ("WorkflowId > 'workflow-2'", &[3, 4]),
    ("ParentWorkflowId = 'workflow-1'", &[2]),
    ("ParentRunId = 'run-0001'", &[2]),
    ("ParentWorkflowId IS NULL", &[1, 3, 4]),
    ("RootWorkflowId = 'workflow-1'", &[1, 2]),
    ("RootRunId = 'run-0001'", &[1, 2]),
    ("NOT WorkflowId = 'workflow-1'", &[2, 3, 4]),
    ("NOT (WorkflowId = 'workflow-1' OR WorkflowId = 'workflow-2')", &[3, 4]),
    ("NOT (NOT (WorkflowId = 'workflow-1'))", &[1]),
    ("WorkflowId = 'workflow-1' OR WorkflowId = 'workflow-2' AND ExecutionStatus = 'Failed'", &[1]),
    ("(WorkflowId = 'workflow-1' OR WorkflowId = 'workflow-2') AND ExecutionStatus = 'Running'", &[1]),
    // Custom attributes, by type.
    ("CustomerId = 'alice'", &[1]),
    ("`CustomerId` = 'alice'", &[1]),
    ("CustomerId != 'alice'", &[3]),
    ("NOT CustomerId = 'alice'", &[3]),
    ("CustomerId IN ('alice', 'bob')", &[1]),
    ("CustomerId NOT IN ('alice', 'bob')", &[3]),
    ("CustomerId IS NULL", &[2, 4]),
    ("CustomerId IS NOT NULL", &[1, 3]),
    ("CustomerId STARTS_WITH 'al'", &[1, 3]),
    ("CustomerId STARTS_WITH 'al%'", &[3]),
    ("CustomerId NOT STARTS_WITH 'al%'", &[1]),
    ("CustomerId > 'al%ce'", &[1]),
    ("CustomerId BETWEEN 'al' AND 'alz'", &[1, 3]),
    ("Amount = 5", &[1]),
    ("Amount = -3", &[3]),
    ("Amount < 0", &[3]),
    ("Amount >= -3.5", &[1, 3]),
    ("Amount BETWEEN +1 AND 10", &[1]),
    ("Amount IN (5, -3)", &[1, 3]),
    ("NOT Amount > 0", &[3]),
    ("Score = 1.5", &[1]),
    ("Score = 2", &[3]),
    ("Score > 1e0", &[1, 3]),
    ("Urgent = true", &[1]),
    ("Urgent = FALSE", &[3]),
    ("Urgent != true", &[3]),
    ("Due > '2024-02-15T00:00:00Z'", &[3]),
    ("Due = '2024-02-01T00:00:00.0005Z'", &[1]),
    ("Due = '2024-03-01T00:00:00Z'", &[3]),
    ("Due <= '2024-02-01T00:00:00Z'", &[]),
    ("Tags = 'red'", &[1]),
    ("Tags != 'red'", &[2, 3, 4]),
    ("Tags IN ('blue', 'green')", &[1, 3]),
    ("Tags NOT IN ('blue', 'green')", &[2, 4]),
    ("NOT Tags IN ('blue', 'green')", &[2, 4]),
    ("Tags IS NULL", &[2, 4]),
    ("Note = 'fox'", &[1, 3]),
    ("Note = 'quick red'", &[1]),
    ("Note != 'Quick'", &[2, 3, 4]),
    ("Note IS NOT NULL", &[1, 3]),
    ("`with space-dash` = 'x'", &[1]),
    ("dotted.name = 'y'", &[1]),
    ("`dotted`.`name` = 'y'", &[1]),
    ("`dotted.name` = 'y'", &[1]),
    ("Order = 9", &[1]),
    ("Order = 9 ORDER BY Order", &[1]),
    ("BuildIds = 'unversioned'", &[3]),
    ("TemporalBuildIds = 'unversioned'", &[3]),
    ("TemporalScheduledById = 'nightly'", &[3]),
    ("ScheduledById = 'nightly'", &[3]),
    ("TemporalNamespaceDivision IS NULL", &[1, 2, 3, 4]),
    ("NamespaceDivision IS NULL", &[1, 2, 3, 4]),
    ("TemporalWorkflowId = 'workflow-2'", &[2]),
    // Strings are strings.
    ("WorkflowId = 'it''s' OR WorkflowId = 'it\\'s' OR WorkflowId = \"'; DROP TABLE run; --\"", &[]),
    ("WorkflowId = 'workflow-1' -- a comment", &[1]),
];

#[test]
fn filters_match_what_temporals_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&four_runs(), &[], at(1)).expect("applies");
    // Another namespace's runs never match.
    let other = Row { namespace_id: "namespace-2".to_owned(), ..four_runs().remove(0) };
    projection.apply(&[other], &[], at(2)).expect("applies");
    let mut custom = custom();
    custom.extend(["workflowType_", "executionstatus_"].map(|name| (name.to_owned(), Type::Int)));
    custom.insert("workflowType_".to_owned(), Type::Keyword);
    for (filter, expected) in FILTERS {
        let query = Query::parse(Kind::Workflow, NAMESPACE, filter, &custom)
            .unwrap_or_else(|error| panic!("{filter}: {error}"));
        let page = projection.list(&query, 100, b"").unwrap_or_else(|error| panic!("{filter}: {error}"));
        let mut found = workflow_ids(&page);
        found.sort_unstable();
        let expected: Vec<_> = expected.iter().map(|number| format!("workflow-{number}")).collect();
        assert_eq!(found, expected, "{filter}");
        let count = projection.count(&query).expect("counts");
        assert_eq!(count, Count { total: expected.len() as i64, groups: vec![] }, "{filter}");
    }
}

#[test]
fn an_attribute_that_came_back_with_another_type_has_no_values_of_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&four_runs(), &[], at(1)).expect("applies");
    let retyped = Attributes::from([("CustomerId".to_owned(), Type::Int), ("Amount".to_owned(), Type::Keyword)]);
    for (filter, expected) in [
        ("CustomerId > 0", 0),
        ("CustomerId IS NULL", 4),
        ("Amount < 'a'", 0),
        ("Amount IS NOT NULL OR WorkflowId = 'workflow-1'", 1),
    ] {
        let query = Query::parse(Kind::Workflow, NAMESPACE, filter, &retyped).expect(filter);
        assert_eq!(projection.count(&query).expect("counts").total, expected, "{filter}");
    }
    let by_amount = Query::parse(Kind::Workflow, NAMESPACE, "ORDER BY Amount, StartTime", &retyped).expect("parses");
    let mut listed = Vec::new();
    let mut token = Bytes::new();
    loop {
        let page = projection.list(&by_amount, 1, &token).expect("lists");
        listed.extend(workflow_ids(&page).into_iter().map(str::to_owned));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["workflow-1", "workflow-2", "workflow-3", "workflow-4"], "all are without a value");
}

#[test]
fn wrong_filters_are_named_with_their_place() {
    for (filter, expected) in [
        (
            "Nonsense = 1",
            "invalid query: invalid expression: column name 'Nonsense' is not a valid search attribute at Line: 1, Column: 1",
        ),
        (
            "WorkflowId = 'a' AND\n workflowid = 'b'",
            "invalid query: invalid expression: column name 'workflowid' is not a valid search attribute at Line: 2, Column: 2",
        ),
        (
            "WorkflowId = abc",
            "invalid query: operation is not supported: column name on the right side of comparison expression (did you \
             forget to quote \"abc\"?) at Line: 1, Column: 14",
        ),
        ("WorkflowId", "invalid query: invalid expression: incomplete expression 'WorkflowId' at Line: 1, Column: 1"),
        ("WorkflowId =", "invalid query: malformed SQL query: Expected: an expression, found: EOF"),
        ("WorkflowId = 'abc", "invalid query: malformed SQL query: Unterminated string literal at Line: 1, Column: 14"),
        (
            "WorkflowId = 1",
            "invalid query: invalid expression: invalid value type for search attribute WorkflowId of type Keyword: 1 \
             (type: int64)",
        ),
        (
            "Amount = 'x'",
            "invalid query: invalid expression: invalid value type for search attribute Amount of type Int: 'x' (type: string)",
        ),
        ("StartTime > 'yesterday'", "invalid query: invalid expression: unable to parse datetime 'yesterday'"),
        ("ExecutionStatus = 'running'", "invalid query: invalid expression: invalid ExecutionStatus value 'running'"),
        ("ExecutionStatus = 99", "invalid query: invalid expression: invalid ExecutionStatus value 99"),
        (
            "ExecutionDuration > 'long'",
            "invalid query: invalid expression: invalid duration value for search attribute ExecutionDuration: long",
        ),
        (
            "Tags > 'a'",
            "invalid query: invalid expression: operator '>' not supported for KeywordList type search attribute 'Tags'",
        ),
        (
            "Note IN ('a')",
            "invalid query: invalid expression: operator 'in' not supported for Text type search attribute 'Note'",
        ),
        (
            "Note = ' '",
            "invalid query: invalid expression: no tokens found filtering on Text type search attribute Note",
        ),
        (
            "Note BETWEEN 'a' AND 'b'",
            "invalid query: invalid expression: cannot do range condition on search attribute 'Note' of type Text",
        ),
        (
            "WorkflowId LIKE 'a%'",
            "invalid query: malformed SQL query: the operator 'LIKE' is not supported at Line: 1, Column: 12",
        ),
        (
            "Amount STARTS_WITH 'a'",
            "invalid query: invalid expression: operator 'starts_with' not supported for Int type search attribute 'Amount'",
        ),
        (
            "WorkflowId STARTS_WITH 1",
            "invalid query: invalid expression: right-hand side of 'starts_with' must be a literal string (got: 1 (type: int64))",
        ),
        (
            "WorkflowId IS 'a'",
            "invalid query: malformed SQL query: 'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL' at Line: 1, \
             Column: 12",
        ),
        (
            "CloseTime = NULL",
            "invalid query: invalid expression: a value can't be NULL (use IS NULL or IS NOT NULL) at Line: 1, Column: 13",
        ),
        (
            "lower(WorkflowId) = 'a'",
            "invalid query: malformed SQL query: the function 'lower' is not supported at Line: 1, Column: 1",
        ),
        (
            "'a' = 'a'",
            "invalid query: malformed SQL query: Expected: a search attribute before '=', found: something else at Line: 1, \
             Column: 5",
        ),
        (
            "WorkflowId = 'a'; DELETE FROM run",
            "invalid query: malformed SQL query: unexpected ';' at Line: 1, Column: 17",
        ),
        (
            "WorkflowId IN (SELECT 'a')",
            "invalid query: malformed SQL query: Expected: ), found: 'a' at Line: 1, Column: 23",
        ),
        (
            "WorkflowId = 'a' LIMIT 1",
            "invalid query: malformed SQL query: the LIMIT clause is not supported at Line: 1, Column: 18",
        ),
        (
            "ORDER BY Note",
            "invalid query: operation is not supported: unable to sort by search attribute type Text ('Note' at Line: 1, \
             Column: 10)",
        ),
        ("GROUP BY Nope", "invalid query: invalid search attribute: Nope"),
        (
            "GROUP BY WorkflowType",
            "invalid query: operation is not supported: 'GROUP BY' clause is not supported for search attribute WorkflowType",
        ),
        (
            "GROUP BY ExecutionStatus, WorkflowType",
            "invalid query: operation is not supported: 'GROUP BY' clause supports only a single field",
        ),
        ("Amount = 1e999", "invalid query: invalid expression: unable to parse value '1e999'"),
        ("WorkflowId = 'a' OR", "invalid query: malformed SQL query: Expected: an expression, found: EOF"),
        ("(WorkflowId = 'a'", "invalid query: malformed SQL query: Expected: ), found: EOF"),
    ] {
        let error = Query::parse(Kind::Workflow, NAMESPACE, filter, &custom()).expect_err(filter);
        assert!(error.is_callers_fault());
        assert_eq!(error.to_string(), expected, "{filter}");
    }
}

#[test]
fn schedules_are_found_by_their_own_attributes_while_they_have_not_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    let schedule = |number: i64, status: i32, paused: &str| Row {
        kind: Kind::Schedule as u32,
        status,
        search_attributes: attributes(&[
            ("TemporalSchedulePaused", "Bool", paused),
            ("TemporalNamespaceDivision", "Keyword", r#""TemporalScheduler""#),
            ("CustomerId", "Keyword", r#""alice""#),
        ]),
        info: Bytes::from_static(b"info"),
        ..run(number)
    };
    let rows = [schedule(1, 1, "false"), schedule(2, 1, "true"), schedule(3, 2, "true"), run(4)];
    projection.apply(&rows, &[], at(1)).expect("applies");
    let found = |filter: &str| {
        let query = Query::parse(Kind::Schedule, NAMESPACE, filter, &custom()).expect(filter);
        let page = projection.list(&query, 10, b"").expect("lists");
        assert!(page.rows.iter().all(|row| &row.info[..] == b"info"));
        let mut ids: Vec<_> = page.rows.into_iter().map(|row| row.workflow_id).collect();
        ids.sort();
        ids
    };
    assert_eq!(found(""), ["workflow-1", "workflow-2"]);
    assert_eq!(found("TemporalSchedulePaused = true"), ["workflow-2"]);
    assert_eq!(found("ScheduleId STARTS_WITH 'workflow' AND CustomerId = 'alice'"), ["workflow-1", "workflow-2"]);
    assert_eq!(found("ScheduleId = 'workflow-1' OR TemporalSchedulePaused = true"), ["workflow-1", "workflow-2"]);
    assert_eq!(found("ORDER BY ScheduleId DESC").len(), 2);
    let counted = |filter: &str| projection.count(&query(filter)).expect("counts").total;
    assert_eq!(counted("TemporalNamespaceDivision = 'TemporalScheduler' AND ExecutionStatus = 'Running'"), 2);
    assert_eq!(counted("TemporalNamespaceDivision = 'TemporalBatcher'"), 0);
    assert_eq!(counted(""), 1, "schedules are no workflows");
    for (filter, expected) in [
        ("ExecutionStatus = 'Running'", "invalid query filter for schedules: cannot filter on \"ExecutionStatus\""),
        ("WorkflowId = 'a'", "invalid query filter for schedules: cannot filter on \"WorkflowId\""),
        (
            "Nothing = 1",
            "invalid query: invalid expression: column name 'Nothing' is not a valid search attribute at Line: 1, Column: 1",
        ),
    ] {
        let error = Query::parse(Kind::Schedule, NAMESPACE, filter, &custom()).expect_err(filter);
        assert!(error.is_callers_fault());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_condition_that_becomes_part_of_a_query_is_nothing_else() {
    let check = |filter: &str| {
        let checked = Query::check_condition(Kind::Workflow, filter, &custom());
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(check("CustomerId = 'alice' OR WorkflowType = 'Order'"), Ok(()));
    // Put between parentheses, it would be the whole of a query.
    assert!(check("CustomerId = 'alice') OR (WorkflowType = 'Order'").is_err_and(|error| error.contains("malformed")));
    let only = "invalid query: only a condition is allowed here, without ORDER BY and GROUP BY";
    assert_eq!(check("CustomerId = 'alice' ORDER BY StartTime"), Err(only.to_owned()));
    assert_eq!(check("GROUP BY ExecutionStatus"), Err(only.to_owned()));
    let others = "invalid query: only workflows are allowed here, and TemporalNamespaceDivision selects others";
    for division in ["TemporalScheduler", "TemporalBatcher"] {
        let filter = format!("CustomerId = 'alice' AND TemporalNamespaceDivision = '{division}'");
        assert_eq!(check(&filter), Err(others.to_owned()));
    }
}

#[test]
fn long_and_deep_filters_are_served_or_refused_but_never_overflow() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut projection = open(directory.path());
    projection.apply(&four_runs(), &[], at(1)).expect("applies");
    let chain = |count: usize, term: &str| vec![term; count].join(" OR ");
    let found = |filter: &str| projection.count(&query(filter)).expect("counts").total;
    assert_eq!(found(&chain(1_000, "WorkflowId = 'workflow-1'")), 1);
    assert_eq!(found(&chain(1_000, "CustomerId = 'alice'")), 1);
    assert_eq!(found(&chain(1_000, "Tags != 'red'")), 3);
    let values: Vec<_> = (0..29_000).map(|number| format!("'workflow-{number}'")).collect();
    assert_eq!(found(&format!("WorkflowId IN ({})", values.join(", "))), 4);
    assert_eq!(found(&format!("{}WorkflowId = 'workflow-1'{}", "(".repeat(90), ")".repeat(90))), 1);

    let refused =
        |filter: &str| Query::parse(Kind::Workflow, NAMESPACE, filter, &custom()).expect_err("too long").to_string();
    refused(&chain(100_000, "WorkflowId = 'workflow-1'"));
    // The error comes after the deepest tree there can be.
    refused(&(chain(1_000, "WorkflowId = 'workflow-1'") + " ;"));
    refused(&(chain(1_000, "WorkflowId = 'workflow-1'") + " 1"));
    refused(&("Wrong = 1 OR ".to_owned() + &chain(1_000, "WorkflowId = 'workflow-1'")));
    refused(&"(".repeat(100_000));
    refused(&"NOT ".repeat(100_000));
    refused(&format!("Amount = {}1", "- ".repeat(100_000)));
    refused(&format!("WorkflowId{}", " IS NULL".repeat(100_000)));
    refused(&format!("WorkflowId IN ({}'a')", "'a', ".repeat(40_000)));
}

/// Text of the language's own words, which gets further than any other.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "WorkflowId",
        "StartTime",
        "CloseTime",
        "ExecutionStatus",
        "ExecutionDuration",
        "CustomerId",
        "Amount",
        "Score",
        "Tags",
        "Note",
        "Urgent",
        "Due",
        "`with space-dash`",
        "dotted.name",
        "Order",
        "Nonsense",
        "=",
        "!=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "IN",
        "NOT",
        "BETWEEN",
        "AND",
        "OR",
        "STARTS_WITH",
        "IS",
        "NULL",
        "(",
        ")",
        ",",
        "'a'",
        "\"b\"",
        "1",
        "-2.5",
        "true",
        "'2024-01-01T00:00:00Z'",
        "'Running'",
        "ORDER BY",
        "GROUP BY",
        "DESC",
        "ASC",
        "LIKE",
        "SELECT",
        "*",
        ".",
        "-",
        "+",
        "'",
        "CASE",
        "CAST",
        "EXISTS",
        "INTERVAL",
        "DATE",
        "ANY",
        "ARRAY",
        "x'00'",
        ";",
        "::",
        "[",
        "--",
        "?1",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

/// Well-formed conditions.
fn conditions() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "WorkflowId",
        "RunId",
        "WorkflowType",
        "TaskQueue",
        "ParentWorkflowId",
        "CustomerId",
    ]);
    let number =
        prop::sample::select(vec!["HistoryLength", "Amount", "Score", "StartTime", "CloseTime", "ExecutionDuration"]);
    let several = prop::sample::select(vec!["Tags", "Note", "ExecutionStatus"]);
    let compare = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let value = "[a-z%_]{1,4}";
    let leaf = prop_oneof![
        (text.clone(), compare.clone(), value).prop_map(|(name, op, value)| format!("{name} {op} '{value}'")),
        (text.clone(), prop::bool::ANY, value)
            .prop_map(|(name, not, value)| format!("{name} {}STARTS_WITH '{value}'", if not { "NOT " } else { "" })),
        (text, value, value).prop_map(|(name, a, b)| format!("{name} NOT IN ('{a}', '{b}')")),
        (number.clone(), compare, any::<i32>()).prop_map(|(name, op, value)| format!("{name} {op} {value}")),
        (number, any::<i32>(), any::<i32>()).prop_map(|(name, a, b)| format!("{name} BETWEEN {a} AND {b}")),
        several.clone().prop_map(|name| format!("{name} IS NULL")),
        several.prop_map(|name| if name == "ExecutionStatus" {
            format!("{name} IN (1, 3)")
        } else {
            format!("{name} != 'fox'")
        }),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} OR {b}")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(text in "\\PC{0,80}") {
        let _ = Query::parse(Kind::Workflow, NAMESPACE, &text, &custom());
    }

    #[test]
    fn anything_that_parses_runs(text in words()) {
        thread_local!(static FILE: (tempfile::TempDir, Projection) = {
            let directory = tempfile::tempdir().expect("a directory");
            let mut projection = open(directory.path());
            projection.apply(&four_runs(), &[], at(1)).expect("applies");
            (directory, projection)
        });
        if let Ok(query) = Query::parse(Kind::Workflow, NAMESPACE, &text, &custom()) {
            FILE.with(|(_, projection)| {
                projection.count(&query).expect("counts");
                projection.list(&query, 10, b"").expect("lists");
            });
        }
    }

    /// Only what is missing can pass neither a condition nor its negation.
    #[test]
    fn a_negation_never_matches_what_the_condition_does(condition in conditions()) {
        thread_local!(static FILE: (tempfile::TempDir, Projection) = {
            let directory = tempfile::tempdir().expect("a directory");
            let mut projection = open(directory.path());
            projection.apply(&four_runs(), &[], at(1)).expect("applies");
            (directory, projection)
        });
        FILE.with(|(_, projection)| {
            let count = |filter: &str| projection.count(&query(filter)).expect("counts").total;
            let both = count(&format!("({condition}) AND NOT ({condition})"));
            prop_assert_eq!(both, 0);
            let twice = count(&format!("NOT (NOT ({condition}))"));
            prop_assert_eq!(twice, count(&condition));
            let page = projection.list(&query(&condition), 100, b"").expect("lists");
            prop_assert_eq!(page.rows.len() as i64, twice);
            Ok(())
        })?;
    }
}

use super::*;
use crate::proto::temporal::schedule::v1::CalendarSpec;

fn cron(text: &str) -> Result<ScheduleSpec, String> {
    canonical(ScheduleSpec { cron_string: vec![text.into()], ..ScheduleSpec::default() })
}

/// The first moments at which a cron string is due after a time.
fn due(text: &str, after: &str, count: usize) -> Vec<String> {
    let spec = Spec::new(&cron(text).unwrap(), String::new()).unwrap();
    let after = DateTime::parse_from_rfc3339(after).unwrap().timestamp_millis();
    let rfc3339 = |due: Due| crate::engine::payload::rfc3339(due.nominal_ms / 1000);
    spec.after(after).take(count).map(rfc3339).collect()
}

/// From the Go library that Temporal's server uses.
#[test]
fn jitter_is_the_server_s() {
    let jitter = |seed: &str, at: &str, max_ms: i64| {
        let spec = Spec { jitter_ms: max_ms, seed: seed.into(), intervals: vec![(1 << 40, 0)], ..Spec::default() };
        spec.jitter(DateTime::parse_from_rfc3339(at).unwrap().timestamp())
    };
    assert_eq!(jitter("", "2022-03-23T09:00:00Z", 1000), 235);
    assert_eq!(jitter("", "2022-03-23T10:30:00Z", 1000), 139);
    assert_eq!(jitter("", "2022-03-23T15:00:00Z", 1000), 89);
    assert_eq!(jitter("", "2022-03-24T00:00:00Z", 3_600_000), 2_124_276);
    assert_eq!(jitter("seed-1", "2022-03-24T00:00:00Z", 3_600_000), 372_519);
    assert_eq!(jitter("seed-2", "2022-03-24T00:00:00Z", 3_600_000), 2_356_922);
    let seed = "00000000-0000-0000-0000-000000000001-my-sched";
    assert_eq!(jitter(seed, "2026-01-01T00:00:00Z", 3_600_000), 1_245_491);
    assert_eq!(jitter(seed, "2026-01-01T01:00:00Z", 3_600_000), 2_625_613);
}

#[test]
fn clocks_that_are_set_back_and_forward() {
    assert_eq!(
        due("CRON_TZ=America/Los_Angeles 30 1 * * *", "2024-11-03T07:00:00Z", 3),
        ["2024-11-03T08:30:00Z", "2024-11-03T09:30:00Z", "2024-11-04T09:30:00Z"]
    );
    assert_eq!(
        due("CRON_TZ=America/Los_Angeles 30 2 * * *", "2024-03-09T12:00:00Z", 1),
        ["2024-03-11T09:30:00Z"],
        "there is no half past two on the tenth"
    );
    // East of Greenwich the hour that comes twice is taken as Temporal's server takes it.
    assert_eq!(
        due("CRON_TZ=Europe/Berlin 30 2 * * *", "2024-10-26T12:00:00Z", 2),
        ["2024-10-27T01:30:00Z", "2024-10-28T01:30:00Z"]
    );
    assert_eq!(
        due("CRON_TZ=Europe/Berlin 30 1 * * *", "2024-10-26T12:00:00Z", 2),
        ["2024-10-26T23:30:00Z", "2024-10-27T00:30:00Z"]
    );
    assert_eq!(due("CRON_TZ=America/Santiago 0 12 * * 0", "2024-09-07T12:00:00Z", 1), ["2024-09-15T15:00:00Z"]);
}

#[test]
fn texts_are_read_as_the_server_reads_them() {
    let of = |text: &str| cron(text).map(|spec| spec.structured_calendar[0].clone());
    let range = |start, end, step| Range { start, end, step };
    assert_eq!(of("0 0 * * 7").unwrap().day_of_week, [range(0, 0, 0)]);
    assert_eq!(of("0 0 * * 3-7").unwrap().day_of_week, [range(0, 0, 0), range(3, 6, 0)]);
    assert_eq!(of("0 0 * * 5-7/2").unwrap().day_of_week, [range(0, 0, 0), range(5, 6, 2)]);
    assert_eq!(of("0 0 * * mon-Friday").unwrap().day_of_week, [range(1, 5, 0)]);
    assert_eq!(of("*/15 0 * sept * # hourly").unwrap().minute, [range(0, 59, 15)]);
    assert_eq!(of("0 0 * sept * # every day ").unwrap().comment, "every day");
    assert_eq!(of("5 4 3 2 1 2030").unwrap().year, [range(2030, 0, 0)]);
    assert_eq!(of("6 5 4 3 2 1 *").unwrap().second, [range(6, 0, 0)]);
    for (text, wrong) in [
        ("0 0 * *", "CronString does not have 5-7 fields"),
        ("0 0 * * * * * *", "CronString does not have 5-7 fields"),
        ("CRON_TZ=Asia/Tokyo", "CronString has time zone but missing fields"),
        ("CRON_TZ=Nowhere/Land 0 0 * * *", "unknown time zone Nowhere/Land"),
        ("@every", "CronString does not have interval after @every"),
        ("@every 1h/2h", "phase cannot be greater than Interval"),
        ("@every 10ms", "interval is too small"),
        ("60 0 * * *", "Minute is not in range [0-59]"),
        (
            "0 0 1-0 * fri-sun",
            "DayOfWeek End is before Start or not in range [0-7], DayOfMonth End is before Start or not in range [1-31]",
        ),
        ("1/2/3 0 * * *", "Minute has too many slashes"),
        ("1-2-3 0 * * *", "Minute has too many dashes"),
        ("1/ 0 * * *", "Minute missing step value"),
        ("1/0 0 * * *", "Minute has invalid Step"),
        ("1/x 0 * * *", "strconv.Atoi: parsing \"x\": invalid syntax"),
    ] {
        assert_eq!(cron(text).expect_err(text), wrong, "{text}");
    }
    let interval = cron("@every 1.5d/5m").unwrap().interval[0];
    assert_eq!(interval.interval, Some(Duration { seconds: 129_600, nanos: 0 }));
    assert_eq!(interval.phase, Some(Duration { seconds: 300, nanos: 0 }));
}

#[test]
fn cron_strings_agree_on_their_time_zone() {
    let of = |texts: &[&str], timezone_name: &str| {
        let cron_string = texts.iter().map(|text| (*text).into()).collect();
        canonical(ScheduleSpec { cron_string, timezone_name: timezone_name.into(), ..ScheduleSpec::default() })
            .map(|spec| spec.timezone_name)
    };
    assert_eq!(of(&["TZ=Asia/Tokyo 0 0 * * *"], ""), Ok("Asia/Tokyo".into()));
    assert_eq!(of(&["TZ=Asia/Tokyo 0 0 * * *"], "Asia/Tokyo"), Ok("Asia/Tokyo".into()));
    assert_eq!(of(&["0 0 * * *"], "Asia/Tokyo"), Ok("Asia/Tokyo".into()));
    assert_eq!(of(&["TZ=Asia/Tokyo 0 0 * * *", "0 0 * * *"], ""), Err("conflicting timezone names".into()));
    assert_eq!(of(&["TZ=Asia/Tokyo 0 0 * * *"], "UTC"), Err("conflicting timezone names".into()));
}

#[test]
fn structured_calendars_are_checked() {
    let of = |calendar| canonical(ScheduleSpec { structured_calendar: vec![calendar], ..ScheduleSpec::default() });
    let calendar = StructuredCalendarSpec {
        hour: vec![Range { start: 24, end: 3, step: -1 }],
        comment: "x".repeat(201),
        ..StructuredCalendarSpec::default()
    };
    let wrong = "invalid calendar spec: Hour Start is not in range [0-23], \
                 Hour End is before Start or not in range [0-23], Hour has invalid Step, comment is too long";
    assert_eq!(of(calendar).expect_err("it is wrong"), wrong);
    let calendar = CalendarSpec { hour: "25".into(), minute: "-1".into(), ..CalendarSpec::default() };
    let spec = ScheduleSpec { exclude_calendar: vec![calendar], ..ScheduleSpec::default() };
    assert!(canonical(spec).is_err());
}

#[test]
fn what_is_excluded_is_left_out_however_long_it_is() {
    let mut spec = cron("@every 1s").unwrap();
    let all = |min, max| vec![Range { start: min, end: max, step: 1 }];
    let excluded = StructuredCalendarSpec {
        second: all(0, 59),
        minute: all(0, 59),
        hour: all(0, 23),
        day_of_month: all(1, 31),
        month: all(1, 12),
        day_of_week: all(0, 6),
        year: vec![Range { start: 2026, end: 2029, step: 1 }],
        ..StructuredCalendarSpec::default()
    };
    spec.exclude_structured_calendar.push(excluded.clone());
    let next = |spec: &ScheduleSpec| {
        let due = Spec::new(spec, String::new()).unwrap().next(1_767_225_599_000)?;
        Some(crate::engine::payload::rfc3339(due.nominal_ms / 1000))
    };
    assert_eq!(next(&spec).as_deref(), Some("2030-01-01T00:00:00Z"));
    // In zones whose clocks are changed on half hours, too.
    spec.timezone_name = "Australia/Lord_Howe".into();
    assert_eq!(next(&spec).as_deref(), Some("2029-12-31T13:00:00Z"));
    // All that ever comes is excluded.
    spec.exclude_structured_calendar[0].year.clear();
    assert_eq!(next(&spec), None);
}

#[test]
fn it_is_due_from_its_start_to_its_end() {
    let mut spec = cron("@every 1h").unwrap();
    spec.start_time = Some(Timestamp { seconds: 7200, nanos: 0 });
    spec.end_time = Some(Timestamp { seconds: 10_800, nanos: 0 });
    let spec = Spec::new(&spec, String::new()).unwrap();
    let due: Vec<_> = spec.after(0).map(|due| due.nominal_ms / 1000).collect();
    assert_eq!(due, [7200, 10_800]);
}

#[test]
fn a_calendar_that_names_nothing_is_never_due() {
    let spec = ScheduleSpec { structured_calendar: vec![StructuredCalendarSpec::default()], ..ScheduleSpec::default() };
    assert_eq!(Spec::new(&spec, String::new()).unwrap().next(0), None);
    assert_eq!(Spec::default().next(0), None);
    let all = |min, max| vec![Range { start: min, end: max, step: 1 }];
    let calendar = StructuredCalendarSpec {
        minute: all(0, 59),
        hour: all(0, 23),
        day_of_month: all(1, 31),
        month: all(1, 12),
        day_of_week: all(0, 6),
        ..StructuredCalendarSpec::default()
    };
    let spec = ScheduleSpec { structured_calendar: vec![calendar; 600], ..ScheduleSpec::default() };
    assert_eq!(Spec::new(&spec, String::new()).unwrap().next(0), None, "no second is named");
    assert!(canonical(spec).is_err(), "it has too many calendars");
}

/// What Temporal's server answers for specs made at random: of each the first moments at which it is due after some times, with its
/// jitter; and the words with which it refuses some. The specs are encoded, in hexadecimal.
const MATCHING_TIMES: &str = include_str!("matching_times.txt");

fn decoded(hexadecimal: &str) -> ScheduleSpec {
    let byte = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("it is a byte");
    let bytes: Vec<u8> = (0..hexadecimal.len()).step_by(2).map(byte).collect();
    prost::Message::decode(&bytes[..]).expect("it is a spec")
}

#[test]
fn is_due_when_the_server_says() {
    let (mut namespace, mut spec, mut name) = ("", Spec::default(), String::new());
    let (mut specs, mut moments, mut wrong) = (0, 0, Vec::new());
    for line in MATCHING_TIMES.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields[..] {
            ["namespace", id] => namespace = id,
            ["spec", id, encoded] => {
                let canonical = canonical(decoded(encoded)).expect(line);
                name = format!("{canonical:?}");
                spec = Spec::new(&canonical, format!("{namespace}-{id}")).expect(line);
                specs += 1;
            }
            ["from", from, ref due @ ..] => {
                let from: i64 = from.parse().expect(line);
                let steps: Vec<i64> = due.iter().map(|ms| ms.parse().expect(line)).collect();
                moments += steps.len();
                let to = Timestamp { seconds: from + 10 * 31_557_600, nanos: 0 };
                let from = Timestamp { seconds: from, nanos: 0 };
                let ours = matching_times(&spec, &from, &to, 12);
                let before = std::iter::once(from.seconds * 1000).chain(ours.iter().copied());
                let ours: Vec<i64> = ours.iter().zip(before).map(|(due, before)| due - before).collect();
                if ours != steps {
                    wrong.push(format!("{name}\nfrom {from:?}: {steps:?}, ours {ours:?}"));
                }
            }
            _ => assert!(line.starts_with("refused "), "{line}"),
        }
    }
    assert!(specs >= 300 && moments > 20_000, "{specs} specs, {moments} moments");
    assert!(wrong.is_empty(), "{} wrong, the first: {}", wrong.len(), wrong[0]);
}

#[test]
fn refuses_what_the_server_refuses() {
    let refused = MATCHING_TIMES.lines().filter_map(|line| line.strip_prefix("refused ")?.split_once(' '));
    let mut count = 0;
    for (encoded, words) in refused {
        count += 1;
        let why = canonical(decoded(encoded)).expect_err(words);
        assert_eq!(format!("Invalid schedule spec: {why}"), words);
    }
    assert!(count > 20, "{count}");
}

//! Against something small that speaks the API, and against things that do not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::proto::events::{Completion, Request, Signal, request};
use crate::wire::avro::{self, Published};

/// Answers each request with a given response, and keeps the requests.
struct StandIn {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

type Respond = Box<dyn FnMut(&str, &str) -> (u16, String) + Send>;

impl StandIn {
    /// `respond` gets method and path, and the body.
    fn new(mut respond: Respond) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}/api", listener.local_addr().expect("it listens"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let received = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &mut respond, &received);
            }
        });
        Self { url, asked }
    }

    fn registry(&self) -> Registry {
        Registry::new(&Settings::at(&self.url)).expect("a client")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, respond: &mut Respond, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => authorization = format!(" {value}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let what = line.rsplit_once(' ').map_or("", |(what, _)| what);
    asked.lock().unwrap().push(format!("{what}{authorization}"));
    let (status, text) = respond(what, &String::from_utf8_lossy(&body));
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
}

fn fixed(status: u16, text: &'static str) -> StandIn {
    StandIn::new(Box::new(move |_, _| (status, text.to_owned())))
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    outcome.expect_err("it fails").to_string()
}

#[test]
fn a_server_registers_what_it_writes_and_nothing_else() {
    let mut next = 0;
    let stand_in = StandIn::new(Box::new(move |_, body| {
        let schema: serde_json::Value = serde_json::from_str(body).expect("the body is JSON");
        assert!(avro::parse_schema(schema["schema"].as_str().unwrap()).is_ok());
        next += 1;
        (200, format!("{{\"id\": {next}}}"))
    }));
    let framing = stand_in.registry().framing("shop.", &["answers"], true).unwrap();
    let Framing::Confluent(ids) = &framing else { panic!("{framing:?}") };
    let topics: Vec<_> = ids.keys().map(String::as_str).collect();
    assert_eq!(topics, ["activity-tasks", "answers", "completions", "history", "rejections", "timers"]);
    let mut asked = stand_in.asked();
    asked.sort();
    let subjects =
        ["answers", "shop.activity-tasks", "shop.completions", "shop.history", "shop.rejections", "shop.timers"];
    assert_eq!(asked, subjects.map(|topic| format!("POST /api/subjects/{topic}-value/versions")));
    let record = crate::wire::outputs::encode(&framing, &Completion::default());
    assert_eq!(record[..5], [&[0][..], &ids["completions"].to_be_bytes()].concat());
}

#[test]
fn without_auto_register_ids_are_looked_up_and_what_is_missing_is_named() {
    let missing = fixed(404, r#"{"error_code": 40401, "message": "Subject not found."}"#);
    let said_of = said(missing.registry().framing("shop.", &[], false));
    assert!(said_of.contains("no subject shop.history-value") && said_of.contains("auto_register = true"), "{said_of}");
    assert_eq!(missing.asked(), ["POST /api/subjects/shop.history-value"]);
    let other = fixed(404, r#"{"error_code": 40403, "message": "Schema not found"}"#);
    let said_of = said(other.registry().framing("shop.", &[], false));
    assert!(said_of.contains("shop.history-value") && said_of.contains("does not have the schema"), "{said_of}");
    let found = fixed(200, r#"{"subject": "s", "id": 9, "version": 3, "schema": "\"string\""}"#);
    let Ok(Framing::Confluent(ids)) = found.registry().framing("shop.", &[], false) else { panic!("it is there") };
    assert!(ids.values().all(|id| *id == 9));
}

#[test]
fn what_is_wrong_at_the_start_is_said_with_what_to_do() {
    for (status, text, parts) in [
        (401, "", ["HTTP 401", "user name and password"]),
        (403, "{}", ["HTTP 403", "what the user may do"]),
        (409, r#"{"error_code": 409, "message": "a reader lacks x"}"#, ["a reader lacks x", "compatibility level"]),
        (422, r#"{"error_code": 42201, "message": "bad"}"#, ["HTTP 422", "bad"]),
        (404, "<html>Not here</html>", ["no schema registry", "/apis/ccompat/v7"]),
        (200, "<html>Welcome</html>", ["no schema registry", "not JSON"]),
        (200, "{}", ["no schema registry", "no id"]),
        (200, r#"{"id": -1}"#, ["no schema registry", "no id"]),
    ] {
        let said = said(fixed(status, text).registry().framing("", &[], true));
        assert!(parts.iter().all(|part| said.contains(part)), "{status} {text}: {said}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registry = Registry::new(&Settings::at(&format!("http://{nobody}"))).unwrap();
    let said = said(registry.framing_within("", &[], true, Duration::from_millis(10)));
    assert!(
        said.contains(&format!("http://{nobody} can't be reached")) && said.contains("Does it run there?"),
        "{said}"
    );
}

#[test]
fn a_registry_that_is_not_ready_at_the_start_is_waited_for() {
    let mut asked = 0;
    let stand_in = StandIn::new(Box::new(move |_, _| {
        asked += 1;
        if asked <= 2 { (503, "starting".to_owned()) } else { (200, "{\"id\": 1}".to_owned()) }
    }));
    assert!(stand_in.registry().framing_within("", &[], true, Duration::from_secs(30)).is_ok());
}

#[test]
fn the_credentials_go_along_and_are_not_shown() {
    let stand_in = fixed(200, r#"{"schema": "\"string\""}"#);
    let settings =
        Settings { username: Some("shop".into()), password: Some("s3cret".into()), ..Settings::at(&stand_in.url) };
    let registry = Registry::new(&settings).unwrap();
    registry.writer(5).unwrap();
    assert_eq!(stand_in.asked(), ["GET /api/schemas/ids/5 Basic c2hvcDpzM2NyZXQ="]);
    assert!(!format!("{registry:?}").contains("c2hvcDpzM2NyZXQ"));
}

#[test]
fn a_schema_is_asked_for_once_and_a_failure_again() {
    let mut answers = vec![
        (200, r#"{"schema": "\"string\""}"#),
        (500, r#"{"error_code": 50001, "message": "down"}"#),
        (429, ""),
        (404, "not found"),
    ];
    let stand_in = StandIn::new(Box::new(move |_, _| {
        let (status, text) = answers.pop().expect("no more is asked for");
        (status, text.to_owned())
    }));
    let registry = stand_in.registry();
    // None of these is a reason to refuse a record: what is asked for may be there.
    for (may_pass, part) in [(false, "no schema registry"), (true, "HTTP 429"), (true, "HTTP 500: down")] {
        let error = registry.writer(7).unwrap_err();
        assert!(!error.is_final() && error.may_pass() == may_pass, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    for _ in 0..3 {
        let json = registry.writer(7).unwrap().values().unwrap().to_json(b"\x04hi").unwrap();
        assert_eq!(json, "\"hi\"");
    }
    assert_eq!(stand_in.asked().len(), 4);
}

#[test]
fn an_id_that_is_unknown_or_of_no_use_is_final() {
    let unknown = fixed(404, r#"{"error_code": 40403, "message": "Schema 7 not found"}"#);
    let error = unknown.registry().writer(7).unwrap_err();
    assert!(error.is_final() && error.to_string().contains("knows no schema with the id 7"), "{error}");
    for (text, part) in [
        (r#"{"schema": "message A {}", "schemaType": "PROTOBUF"}"#, "of the type PROTOBUF"),
        (r#"{"schema": "no JSON"}"#, "Expected JSON"),
        (r#"{"schema": "\"Unknown\""}"#, "Unknown is not defined"),
    ] {
        let writer = fixed(200, text).registry().writer(7).expect("that it is of no use is known");
        let said = writer.values().expect_err(text).to_owned();
        assert!(said.contains(part), "{said}");
        assert!(writer.message::<Request>("requests", b"").unwrap_err().contains(part));
    }
}

#[test]
fn requests_are_read_by_the_schema_of_who_wrote_them() {
    let signal = Signal { workflow_id: "w".into(), signal_name: "paid".into(), ..Signal::default() };
    let sent = Request { request: Some(request::Request::Signal(signal)) };
    let schema = serde_json::json!({ "schema": Request::codec().schema_json() }).to_string();
    let writer = StandIn::new(Box::new(move |_, _| (200, schema.clone()))).registry().writer(3).unwrap();
    let record = avro::encode(&sent).unwrap();
    assert_eq!(writer.message::<Request>("requests", &record[10..]), Ok(sent));
    assert!(writer.message::<Request>("requests", &record[10..20]).unwrap_err().contains("ends early"));
    // A producer's own, with a name of its own and an unknown field.
    let own = r#"{"type": "record", "name": "shop.Cancel", "fields": [{"name": "trace", "type": ["null", "string"]},
        {"name": "cancel", "type": {"type": "record", "name": "C", "fields": [{"name": "workflow_id", "type": "string"}]}}]}"#;
    let own = serde_json::json!({ "schema": own }).to_string();
    let writer = StandIn::new(Box::new(move |_, _| (200, own.clone()))).registry().writer(3).unwrap();
    let read: Request = writer.message("requests", b"\x02\x02x\x02w").unwrap();
    assert!(matches!(read.request, Some(request::Request::Cancel(cancel)) if cancel.workflow_id == "w"));
}

#[test]
fn what_a_schema_refers_to_is_fetched_too() {
    let order = r#"{"schema": "{\"type\": \"record\", \"name\": \"Order\", \"fields\": [{\"name\": \"to\", \"type\": \"shop.Address\"}, {\"name\": \"from\", \"type\": \"shop.Address\"}]}",
        "references": [{"name": "shop.Address", "subject": "shop address", "version": 4}]}"#;
    let address = r#"{"schema": "{\"type\": \"record\", \"name\": \"Address\", \"namespace\": \"shop\", \"fields\": [{\"name\": \"town\", \"type\": \"string\"}]}"}"#;
    let stand_in =
        StandIn::new(Box::new(move |what, _| (200, if what.contains("/ids/") { order } else { address }.to_owned())));
    let writer = stand_in.registry().writer(1).unwrap();
    let json = writer.values().unwrap().to_json(b"\x04Ry\x08Deal").unwrap();
    assert_eq!(json, r#"{"to":{"town":"Ry"},"from":{"town":"Deal"}}"#);
    assert_eq!(stand_in.asked()[1..], ["GET /api/subjects/shop%20address/versions/4".to_owned()]);
}

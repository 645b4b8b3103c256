//! What a collector is sent: traces of requests, and the log's lines, by OTLP over HTTP.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
};

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::LogRecord,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use serde_json::json;

use crate::support::{
    GRID,
    program::{Server, create_platform, exchange, refusal},
};

/// Something that was sent: where, and what.
type Sent = (String, Vec<u8>);

/// A collector, which takes whatever comes, if it is to.
struct Collector {
    address: SocketAddr,
    sent: mpsc::Receiver<Sent>,
}

impl Collector {
    fn start(takes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (send, sent)) = (listener.local_addr().unwrap(), mpsc::channel());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = BufReader::new(stream);
                let head: Vec<_> = stream.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                if stream.read_exact(&mut body).is_err() || head.is_empty() {
                    continue;
                }
                let status = if takes { "200 OK" } else { "400 Bad Request" };
                let _ = write!(stream.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                if send.send((head.join("\n"), body)).is_err() {
                    return;
                }
            }
        });
        Self { address, sent }
    }

    fn url(&self) -> String {
        format!("http://{}/otlp/", self.address)
    }

    /// All that was sent up to now: bytes, spans, lines.
    fn take(&self) -> (Vec<Sent>, Vec<Span>, Vec<LogRecord>) {
        let (sent, mut spans, mut lines): (Vec<_>, _, _) = (self.sent.try_iter().collect(), Vec::new(), Vec::new());
        for (head, body) in &sent {
            let is = |path: &str| head.starts_with(&format!("POST /otlp/v1/{path} HTTP/1.1\n"));
            assert!(is("traces") || is("logs"), "{head}");
            let mut resources = Vec::new();
            if is("traces") {
                for of in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
                    resources.push(of.resource.unwrap().attributes);
                    spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            } else {
                for of in ExportLogsServiceRequest::decode(&body[..]).unwrap().resource_logs {
                    resources.push(of.resource.unwrap().attributes);
                    lines.extend(of.scope_logs.into_iter().flat_map(|scope| scope.log_records));
                }
            }
            for resource in resources {
                assert_eq!(texts(&resource)["service.name"], "countersign");
                assert_eq!(texts(&resource)["service.version"], env!("CARGO_PKG_VERSION"));
            }
        }
        (sent, spans, lines)
    }
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> HashMap<&str, String> {
    attributes.iter().map(|of| (of.key.as_str(), of.value.as_ref().map(text).unwrap_or_default())).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn requests_are_traced_with_what_they_ask_of_the_database_and_no_secret() {
    let (data, collector) = (tempfile::tempdir().unwrap(), Collector::start(true));
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start_with(data.path(), &["--otlp", &collector.url(), "--trace-ratio", "1"]);
    let (status, made) = server.send("POST", GRID, &root, &json!({ "name": "ci", "permissions": ["VIEW"] }));
    assert_eq!(status, 201, "{made}");
    let secret = made["clientSecret"].as_str().unwrap().to_owned();
    assert_eq!(server.send("GET", "/hunter2/elsewhere", &root, &json!(null)).0, 404);
    let verify = |more: &str| {
        let request = format!("GET /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n{more}\r\n", root.basic());
        assert!(exchange(server.api, request.as_bytes()).starts_with(b"HTTP/1.1 200"));
    };
    verify("");
    verify(&format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));
    // Of these nobody sees anything: the caller has decided.
    verify(&format!("traceparent: 00-{}-{PARENT}-00\r\n", TRACE.replace('0', "1")));
    server.signal("-TERM");
    let (code, logged) = server.wait();
    assert_eq!(code, Some(0));

    let (sent, spans, lines) = collector.take();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let [create] = named(&format!("POST {GRID}"))[..] else { panic!("{spans:?}") };
    assert_eq!(create.kind, SpanKind::Server as i32);
    let told = texts(&create.attributes);
    assert_eq!(
        (told["http.route"].as_str(), told["http.request.method"].as_str(), told["http.response.status_code"].as_str()),
        (GRID, "POST", "201")
    );
    assert!(told["countersign.caller"].contains(&root.id[root.id.len() - 12..]), "{told:?}");
    let changes = named("database change");
    let [change] = changes.iter().filter(|span| span.parent_span_id == create.span_id).collect::<Vec<_>>()[..] else { panic!("{spans:?}") };
    assert_eq!((&change.trace_id, change.kind), (&create.trace_id, SpanKind::Client as i32));
    assert!(change.start_time_unix_nano >= create.start_time_unix_nano && change.end_time_unix_nano <= create.end_time_unix_nano);
    assert!(["sqlite", "postgresql"].contains(&texts(&change.attributes)["db.system.name"].as_str()));
    // What has no route is named by its method alone.
    let [other] = named("GET")[..] else { panic!("{spans:?}") };
    assert!(texts(&other.attributes)["http.response.status_code"] == "404" && !texts(&other.attributes).contains_key("http.route"));
    let [verified] = named("GET /verify")[..] else { panic!("{spans:?}") };
    assert_eq!((hex(&verified.trace_id), hex(&verified.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert!(spans.iter().all(|span| span.status.as_ref().is_none_or(|status| status.code != StatusCode::Error as i32)));

    // The log's lines are there too, in the traces that they belong to, and as they were on standard error.
    let of_create: Vec<_> = lines.iter().filter(|line| line.trace_id == create.trace_id).collect();
    let [line] = of_create[..] else { panic!("{lines:?}") };
    assert_eq!(text(line.body.as_ref().unwrap()), "request");
    assert_eq!(texts(&line.attributes)["request_id"], told["countersign.request_id"]);
    let written = logged.iter().filter(|line| line.contains(&told["countersign.request_id"])).collect::<Vec<_>>();
    assert!(written.len() == 1 && !written[0].contains("span"), "{written:?}");
    assert!(lines.iter().any(|line| text(line.body.as_ref().unwrap()).starts_with("all tokens are in memory")));

    for (head, body) in &sent {
        let all = format!("{head}{}", String::from_utf8_lossy(body));
        for hidden in [&secret, &root.secret, "hunter2", "Basic "] {
            assert!(!all.contains(hidden), "{hidden}: {all}");
        }
    }
}

#[test]
fn a_collector_that_takes_nothing_or_is_not_there_is_counted_and_holds_up_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [Collector::start(false).url(), format!("http://{gone}")] {
        let server = Server::start_with(data.path(), &["--otlp", &url, "--trace-ratio", "1"]);
        assert_eq!(server.get(GRID, &root).0, 200);
        crate::support::program::until("a failure is counted", || server.metric("otlp_failures_total") != "0");
        assert_eq!(server.get(GRID, &root).0, 200);
        server.signal("-TERM");
        assert_eq!(server.wait().0, Some(0));
    }
}

#[test]
fn a_collector_is_a_url_without_a_login() {
    let data = tempfile::tempdir().unwrap();
    for url in ["collector:4318", "ftp://collector", "http://me:hunter2@collector", "http://collector/?key=hunter2", "http://"] {
        let said = refusal(data.path(), &["--otlp", url]);
        assert!(said.contains("otlp must be empty, or a URL such as http://127.0.0.1:4318") && !said.contains("hunter2"), "{said}");
    }
    for ratio in ["-0.1", "1.1", "NaN", "x", ""] {
        let said = refusal(data.path(), &[&format!("--trace-ratio={ratio}")]);
        assert!(said.contains("trace_ratio must be a number from 0 to 1"), "{said}");
    }
}

//! Heads to a collector by TLS: to one that proves its name by a certificate that is trusted, and to nobody else.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, channel},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::support::certificates::Certificates;

/// Takes what is posted to it: whole requests, or why there was none.
fn collector(config: ServerConfig) -> (SocketAddr, Receiver<Result<String, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, config, (tell, told)) = (listener.local_addr().unwrap(), Arc::new(config), channel());
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut collect = || {
                let (mut request, mut part) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"}") {
                    match stream.read(&mut part).map_err(|e| e.to_string())? {
                        0 => return Err("nothing came".to_owned()),
                        read => request.extend_from_slice(&part[..read]),
                    }
                }
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").map_err(|e| e.to_string())?;
                Ok(String::from_utf8(request).unwrap())
            };
            if tell.send(collect()).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// A server that trusts these authorities, and writes its heads to that URL.
fn server(data: &Path, trusted: &Path, url: &str) -> Server {
    let mut command = program_on(data);
    command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--audit-head", url, "--data"]).arg(data);
    Server::of(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn l_04_a_collector_proves_its_name_by_a_certificate_that_is_trusted() {
    let (data, certificates) = (tempfile::tempdir().unwrap(), Certificates::new());
    create_platform(data.path(), "Acme");
    let patience = Duration::from_secs(60);
    let (address, told) = collector(certificates.of("DNS:localhost,IP:127.0.0.1"));
    for host in ["localhost", "127.0.0.1"] {
        let node = server(data.path(), &certificates.path("ours.pem"), &format!("https://{host}:{}/heads", address.port()));
        let request = told.recv_timeout(patience).unwrap().unwrap();
        assert!(request.starts_with("POST /heads HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("{\"countersign\":\"audit head 1\"") && request.contains("\"size\":3,"), "{request}");
        until("it knows that the head was taken", || node.metric("audit_head_seq_total") == "3");
        assert_eq!(node.metric("audit_head_failures_total"), "0");
    }

    let (elsewhere, told_elsewhere) = collector(certificates.of("DNS:collector.elsewhere"));
    for (trusted, address, told, why) in [
        ("theirs.pem", address, &told, "invalid peer certificate: UnknownIssuer"),
        ("ours.pem", elsewhere, &told_elsewhere, "invalid peer certificate: certificate not valid for name \\\"localhost\\\""),
    ] {
        let sink = format!("localhost:{}", address.port());
        let node = server(data.path(), &certificates.path(trusted), &format!("https://{sink}/heads"));
        let refused = told.recv_timeout(patience).unwrap();
        assert!(refused.is_err(), "a head was sent to whoever is not trusted: {refused:?}");
        until("it is counted", || node.metric("audit_head_failures_total") == "1");
        assert_eq!(node.metric("audit_head_seq_total"), "0");
        let mut log = Vec::new();
        until("it is told", || {
            log.extend(node.logged());
            log.iter().any(|line| line.contains("cannot be written there"))
        });
        let line = log.iter().find(|line| line.contains("cannot be written there")).unwrap();
        assert!(line.contains(why) && line.contains(&sink), "{line}");
    }
}

//! One real broker for all tests of this process, through `deploy/kafka.sh`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub struct Broker {
    pub address: String,
    pub port: u16,
    directory: PathBuf,
    /// Stops the broker when this process ends, however it ends: then its input is closed.
    _guard: Child,
}

impl Broker {
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    pub fn start() -> Broker {
        let directory = tempfile::Builder::new().prefix("millrace-kafka-").tempdir().unwrap().keep();
        let port = free_port();
        let guard = Command::new("sh")
            .arg("-c")
            .arg(r#"cat; "$0" stop "$1"; rm -rf "$1""#)
            .args([&script(), &directory])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let address = start(&directory, port);
        Broker { address, port, directory, _guard: guard }
    }

    pub fn restart(&self) {
        let stopped = Command::new(script()).arg("stop").arg(&self.directory).status().unwrap();
        assert!(stopped.success());
        start(&self.directory, self.port);
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kafka.sh")
}

/// Fails the test with what the script says is missing.
fn start(directory: &Path, port: u16) -> String {
    let output = Command::new(script()).arg("start").arg(directory).arg(port.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "These tests need a real Kafka broker, but it could not be started: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// A port that is free, and the next one too.
fn free_port() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two free ports in a row");
}

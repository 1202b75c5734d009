//! `kiroku health`: asks the server at `listen` whether it is well, without an HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Command;

use super::{FAILED, complain, print, tool};

const HEALTH_WITHIN: Duration = Duration::from_secs(5);
/// The status line is at the front.
const MAX_HEALTH_BYTES: u64 = 1024;

pub fn command() -> Command {
    tool(Command::new("health").about("Ask the server at `listen` whether it is well (for containers)"))
}

pub fn run(listen: SocketAddr, json: bool) -> ExitCode {
    match ask(reachable(listen)) {
        Ok(200) if json => print("{\"well\":true}\n"),
        Ok(200) => print("ok\n"),
        Ok(status) => complain(&format!("/healthz answers {status}"), FAILED),
        Err(error) => complain(&error, FAILED),
    }
}

fn ask(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_WITHIN)?;
    stream.set_read_timeout(Some(HEALTH_WITHIN))?;
    stream.set_write_timeout(Some(HEALTH_WITHIN))?;
    // In one piece: whoever listens there may answer, and hang up, at the first.
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.take(MAX_HEALTH_BYTES).read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let status = reply.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::other("what listens there does not speak HTTP"))
}

/// An address that means "all of this machine's" can be listened on but not called.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_calls_a_reachable_address() {
        let called = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(called("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(called("[::]:80"), "[::1]:80");
        assert_eq!(called("10.1.2.3:80"), "10.1.2.3:80");
    }

    #[test]
    fn health_reads_the_status() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for reply in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "SSH-2.0\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        assert_eq!(ask(address).unwrap(), 503);
        assert!(ask(address).is_err());
        server.join().unwrap();
    }
}

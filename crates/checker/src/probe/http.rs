//! Asking over HTTP/1.1.

use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use netloft_health::Observation;
use netloft_types::HttpCheck;

use super::connect;

/// Bytes of a status line and headers that are read; those of ordinary servers are below 1 KiB.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Headers that are read.
const HEADERS_MAX: usize = 64;

/// Asks and looks at the status; the body is not read, however long it is.
pub(super) async fn probe(target: SocketAddr, check: &HttpCheck) -> Result<Observation, Observation> {
    let request = request(target, check)?;
    let stream = connect(target).await?;
    let answer = ask(stream, request).await;
    let status = answer
        .map_err(|error| Observation::fail(&format!("no HTTP answer from {target}: {error}")))?
        .status();
    let said = format!("HTTP {status}");
    if check.expected.contains(status.as_u16()) {
        Ok(Observation::pass(&said))
    } else if status == StatusCode::TOO_MANY_REQUESTS {
        Ok(Observation::warn(&said))
    } else {
        Err(Observation::fail(&said))
    }
}

fn request(target: SocketAddr, check: &HttpCheck) -> Result<Request<Empty<Bytes>>, Observation> {
    let host = check.host.as_ref().map_or_else(|| target.to_string(), ToString::to_string);
    let mut request = Request::builder()
        .method(check.method.as_str())
        .uri(check.path.as_str())
        .header(HOST, host)
        .header(CONNECTION, "close");
    if !check.headers.iter().any(|(name, _)| name == USER_AGENT.as_str()) {
        request = request.header(USER_AGENT, "netloft-checker");
    }
    for (name, value) in check.headers.iter() {
        request = request.header(name, value);
    }
    // The vocabulary lets nothing through that is none; but what hyper takes for one is for hyper to say.
    request.body(Empty::new()).map_err(|error| Observation::fail(&format!("cannot ask: {error}")))
}

async fn ask(
    stream: tokio::net::TcpStream,
    request: Request<Empty<Bytes>>,
) -> Result<Response<hyper::body::Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let (mut answer, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It has handed over the answer, or the reason why there is none.
        _ = &mut connection => answer.await,
    }
}

//! A client of HTTP/1.1 that keeps one connection and asks one thing at a time.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::client::ID_PREFIX;

pub(crate) struct Http {
    address: SocketAddr,
    requests: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever asks next.
        tokio::spawn(connection);
        Ok(Self { address, requests, host: address.to_string().parse()? })
    }

    /// Asks, and answers the body, if the answer is not a refusal. What is asked must do no harm if it is asked twice.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes> {
        let (path, body) = (path.parse::<Uri>()?, Bytes::from(body));
        let answer = match self.send(&method, path.clone(), body.clone()).await {
            // A server closes a connection that was idle for some seconds, perhaps just now.
            Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {
                *self = Self::connect(self.address).await?;
                self.send(&method, path, body).await?
            }
            sent => sent?,
        };
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    async fn send(&mut self, method: &Method, path: Uri, body: Bytes) -> hyper::Result<Response<Incoming>> {
        self.requests.ready().await?;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = path;
        request.headers_mut().insert(HOST, self.host.clone());
        self.requests.send_request(request).await
    }
}

/// A text as it can stand in a query: all but letters and digits as their codes.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// The numbers of the instances in a body that names each by its id in quotes, once. The rest of it is not parsed: what
/// is compared is what the server spends, and parsing JSON would take longer than that.
pub(crate) fn numbers(body: &[u8]) -> Result<Vec<u32>> {
    let quoted = format!("\"{ID_PREFIX}");
    let named = str::from_utf8(body)?.split(&quoted).skip(1);
    named
        .map(|rest| {
            let (number, _) = rest.split_once('"').context("an id ends")?;
            Ok(number.parse()?)
        })
        .collect()
}

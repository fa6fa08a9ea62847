//! Servers of every manner, on loopback.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// More than anything of these tests takes on a busy machine; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a server does with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Reads a request and sends these bytes.
    Says(Vec<u8>),
    /// Reads and never says a word.
    Silent,
    /// Sends these bytes, then these again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// One byte of a good answer, and another every 100 ms.
    Dribbles,
    /// Hangs up at once.
    HangsUp,
}

pub(crate) fn status(line: &str) -> Manner {
    Manner::Says(format!("HTTP/1.1 {line}\r\ncontent-length: 2\r\n\r\nok").into_bytes())
}

/// A server. Dropped, it hears nobody any more.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(manner: Manner) -> Self {
        Self::at("127.0.0.1:0", manner).await
    }

    pub(crate) async fn at(address: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::<std::sync::Mutex<Vec<String>>>::default();
        let (counted, heard) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, manner.clone(), Arc::clone(&heard)));
            }
        });
        Self { address, connections, requests, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, manner: Manner, heard: Arc<std::sync::Mutex<Vec<String>>>) {
    if manner == Manner::HangsUp {
        return;
    }
    let mut request = vec![0; 4096];
    let len = stream.read(&mut request).await.unwrap_or_default();
    heard.lock().unwrap().push(String::from_utf8_lossy(&request[..len]).into_owned());
    match manner {
        Manner::Says(bytes) => drop(stream.write_all(&bytes).await),
        Manner::Silent => drop(stream.read(&mut request).await),
        Manner::Endless(first, more) => {
            let mut sent = stream.write_all(&first).await;
            while sent.is_ok() {
                sent = stream.write_all(&more).await;
            }
        }
        Manner::Dribbles => {
            for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Manner::HangsUp => {}
    }
}

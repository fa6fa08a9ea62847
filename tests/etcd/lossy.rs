//! A wire that loses answers: what is asked arrives, and what is answered does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// A proxy before etcd, each of whose connections ends after a while, with the answers of its last moments lost.
pub(crate) struct Lossy {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Lossy {
    /// Listens on a free port of loopback, for as long as the test program runs.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        thread::spawn(move || crate::world::block_on(accept(listener, to, counter)));
        Self { address, connections }
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn accept(listener: std::net::TcpListener, to: SocketAddr, connections: Arc<AtomicUsize>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        let number = connections.fetch_add(1, Ordering::Relaxed) as u64;
        let life = Duration::from_millis(60 + 37 * (number % 11));
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(to).await {
                relay(client, server, life).await;
            }
        });
    }
}

async fn relay(client: TcpStream, server: TcpStream, life: Duration) {
    let (mut questions, mut answers_to) = client.into_split();
    let (mut answers, mut questions_to) = server.into_split();
    let asking = tokio::spawn(async move {
        let _ = copy(&mut questions, &mut questions_to).await;
    });
    let _ = timeout(life, copy(&mut answers, &mut answers_to)).await;
    // From here on what etcd says is read and goes nowhere.
    let mut lost = [0; 4_096];
    let losing = async { while answers.read(&mut lost).await.is_ok_and(|len| len > 0) {} };
    tokio::select! {
        () = losing => {}
        () = sleep(Duration::from_millis(15)) => {}
    }
    asking.abort();
    let _ = answers_to.shutdown().await;
}

//! A replica: a process that serves gRPC, and is slow, cold or failing as it is told.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Calls it works on at once.
pub const PLACES: usize = 4;
/// What a call takes on average.
pub const WORK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy)]
pub struct Nature {
    pub speed: f64,
    /// The share of calls that it refuses at once.
    pub failing: f64,
    /// For how many seconds it has a fifth of its speed.
    pub cold: f64,
    pub is_there: bool,
}

impl Nature {
    pub const ORDINARY: Self = Self { speed: 1.0, failing: 0.0, cold: 0.0, is_there: true };
    pub const COLD: Self = Self { cold: 2.0, ..Self::ORDINARY };
    pub const ABSENT: Self = Self { is_there: false, ..Self::ORDINARY };
}

/// A running one. It ends when this is dropped.
#[derive(Debug)]
pub struct Replica {
    pub address: SocketAddr,
    pub process: Option<Child>,
    _stdin: Option<ChildStdin>,
}

impl Replica {
    pub async fn start(nature: Nature) -> anyhow::Result<Self> {
        if !nature.is_there {
            // A port that was free a moment ago.
            let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
            return Ok(Self { address, process: None, _stdin: None });
        }
        let numbers = [nature.speed, nature.failing, nature.cold].map(|number| number.to_string());
        let mut process = Command::new(std::env::current_exe()?)
            .arg("replica")
            .args(numbers)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or_else(|| anyhow::anyhow!("a replica has no output"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        Ok(Self { address: line.trim().parse()?, process: Some(process), _stdin: stdin })
    }
}

/// Serves until its input ends, which is when whoever started it does.
pub async fn serve(numbers: &[String]) -> anyhow::Result<()> {
    let number = |index: usize| numbers.get(index).and_then(|number| number.parse().ok()).unwrap_or(0.0);
    let nature = Nature { speed: number(0), failing: number(1), cold: number(2), is_there: true };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let worker = Worker { nature, begun: Instant::now(), places: Arc::new(Semaphore::new(PLACES)) };
    let orphaned = async {
        let mut rest = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut rest).await;
    };
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(HealthServer::new(worker));
    server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), orphaned).await?;
    Ok(())
}

#[derive(Debug)]
struct Worker {
    nature: Nature,
    begun: Instant,
    places: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Health for Worker {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if rand::rng().random::<f64>() < self.nature.failing {
            return Err(Status::unavailable("it fails"));
        }
        let is_cold = self.begun.elapsed().as_secs_f64() < self.nature.cold;
        let speed = if is_cold { self.nature.speed / 5.0 } else { self.nature.speed };
        let work = WORK.mul_f64(-(1.0 - rand::rng().random::<f64>()).ln() / speed);
        let _place = self.places.acquire().await.map_err(|_| Status::internal("no places"))?;
        tokio::time::sleep(work).await;
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    type WatchStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only calls"))
    }
}

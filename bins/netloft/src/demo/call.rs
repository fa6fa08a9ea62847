//! Finds services in the registry and calls their instances over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use netloft_balance::Outcome;
use netloft_client::{Balanced, Client};
use netloft_types::{Instance, Query, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::args::CallArgs;
use crate::output;

/// How many instances are tried for one call.
const ATTEMPTS_MAX: usize = 3;
/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the first answer of the registry may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a report is printed.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// What a caller has seen of one service so far. Printed as a line of JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) service: String,
    /// Answered calls, by instance.
    pub(crate) calls: BTreeMap<String, u64>,
    /// Calls that no instance answered.
    pub(crate) failed: u64,
    /// Attempts that failed; the call was tried on another instance.
    pub(crate) retried: u64,
}

/// Calls every service at the rate asked for, until the time is up or `shutdown` completes.
pub(crate) async fn run(
    client: &Client,
    args: &CallArgs,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let calls = args.services.iter().map(|service| {
        let (client, service, args) = (client.clone(), service.clone(), (args.rate, args.strategy));
        tokio::spawn(async move { call_service(&client, service, args.0, args.1).await })
    });
    let mut calls: Vec<_> = calls.collect();
    let deadline = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let first_failure = async {
        for call in &mut calls {
            call.await.context("a task panicked")??;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        () = shutdown => Ok(()),
        () = deadline => Ok(()),
        failure = first_failure => failure,
    }
}

async fn call_service(
    client: &Client,
    service: ServiceName,
    rate: u32,
    strategy: netloft_balance::Builtin,
) -> anyhow::Result<()> {
    let mut report = Report { service: service.to_string(), ..Report::default() };
    let balanced = client.balance(Query::service(service), strategy);
    balanced.ready(PATIENCE).await?;
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Who is there before those it calls waits for the first of them.
    while balanced.candidates().next().is_none() {
        ticks.tick().await;
    }
    let mut reported = Instant::now();
    loop {
        ticks.tick().await;
        call(&balanced, &mut report).await;
        if reported.elapsed() >= REPORT_INTERVAL {
            output::json(&report)?;
            reported = Instant::now();
        }
    }
}

/// One call: tries instances until one answers.
async fn call(balanced: &Balanced, report: &mut Report) {
    let mut candidates = balanced.candidates();
    for _ in 0..ATTEMPTS_MAX {
        let Some(pick) = candidates.next() else { break };
        if get(pick.instance()).await.is_ok() {
            *report.calls.entry(pick.id.to_string()).or_default() += 1;
            pick.end(Outcome::Success);
            return;
        }
        pick.end(Outcome::Failure);
        report.retried += 1;
    }
    report.failed += 1;
}

/// Asks an instance who it is, over a connection of its own.
pub(crate) async fn get(instance: &Arc<Instance>) -> anyhow::Result<String> {
    let address = instance.socket_address();
    let answer = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get("/").header("host", address.to_string()).body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            ensure!(response.status().is_success(), "status {}", response.status());
            let body = response.into_body().collect().await?.to_bytes();
            Ok(String::from_utf8_lossy(&body).trim_end().to_owned())
        };
        // The exchange is driven by the connection: whichever fails first tells why.
        tokio::pin!(connection);
        tokio::select! {
            biased;
            answer = exchange => answer,
            ended = &mut connection => {
                ended?;
                anyhow::bail!("the connection was closed before the answer")
            }
        }
    };
    timeout(ATTEMPT_TIMEOUT, answer).await.with_context(|| format!("{address} did not answer in time"))?
}

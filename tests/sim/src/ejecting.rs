//! Outlier detection for those who come without.
//!
//! gRPC proposal A50 (Envoy's outlier detection), with both algorithms and their defaults: every 10 s, of the
//! servers with enough calls, those are ejected whose success rate is 1.9 standard deviations below the mean, or
//! that fail more than 85 % of their calls; for 30 s times how often in a row, to 300 s; no more than 10 % of all,
//! but one always may be. And Envoy's five failures in a row, which A50 leaves out.

use crate::client::{Client, Ended};
use crate::queue::Queue;

/// A client that does not see who is ejected.
#[derive(Debug)]
pub(crate) struct Ejecting {
    inner: Box<dyn Client>,
    weights: Vec<u32>,
    records: Vec<Record>,
    compared: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// In this interval.
    successes: u32,
    failures: u32,
    failed_in_row: u32,
    until: Option<f64>,
    times: u32,
}

const INTERVAL: f64 = 10.0;
const BASE: f64 = 30.0;
const MAX: f64 = 300.0;
const PERCENT_MAX: usize = 10;
const DEVIATIONS: f64 = 1.9;
const FAILURE_SHARE: f64 = 0.85;
const IN_ROW: u32 = 5;
/// Success rates want more calls of each than shares of failures do.
const CALLS_MIN: [u32; 2] = [100, 50];
const SERVERS_MIN: usize = 5;

impl Ejecting {
    pub(crate) fn new(inner: Box<dyn Client>, servers: usize) -> Self {
        Self { inner, weights: Vec::new(), records: vec![Record::default(); servers], compared: 0.0 }
    }

    fn eject(&mut self, server: usize, now: f64) {
        let listed = self.weights.iter().filter(|weight| **weight > 0).count();
        let ejected = self.records.iter().filter(|record| record.until.is_some()).count();
        let is_too_many = ejected > 0 && (ejected + 1) * 100 > listed * PERCENT_MAX;
        let record = &mut self.records[server];
        if is_too_many || listed <= ejected + 1 || record.until.is_some() {
            return;
        }
        record.times += 1;
        record.until = Some(now + (BASE * f64::from(record.times)).min(MAX));
        self.tell(now);
    }

    fn tell(&mut self, now: f64) {
        let each = self.weights.iter().zip(&self.records);
        let weights: Vec<u32> =
            each.map(|(weight, record)| if record.until.is_some() { 0 } else { *weight }).collect();
        self.inner.follow(&weights, now);
    }

    fn compare(&mut self, now: f64) {
        self.compared = now;
        let outliers = self.outliers();
        let is_over = |record: &Record| record.until.is_some_and(|until| until <= now);
        let returns = self.records.iter().any(is_over);
        for record in &mut self.records {
            if is_over(record) {
                record.until = None;
            } else if record.until.is_none() {
                record.times = record.times.saturating_sub(1);
            }
            (record.successes, record.failures) = (0, 0);
        }
        if returns {
            self.tell(now);
        }
        for server in outliers {
            self.eject(server, now);
        }
    }

    fn outliers(&self) -> Vec<usize> {
        let enough = |min: u32| {
            let each = self.records.iter().enumerate();
            let rates = each.filter_map(move |(server, record)| {
                let calls = record.successes + record.failures;
                (calls >= min).then(|| (server, f64::from(record.successes) / f64::from(calls)))
            });
            let rates: Vec<(usize, f64)> = rates.collect();
            if rates.len() < SERVERS_MIN { Vec::new() } else { rates }
        };
        let [rates, shares] = CALLS_MIN.map(enough);
        let count = f64::from(u32::try_from(rates.len()).expect("a fleet is small"));
        let mean = rates.iter().map(|it| it.1).sum::<f64>() / count;
        let variance = rates.iter().map(|it| (it.1 - mean).powi(2)).sum::<f64>() / count;
        let low = rates.into_iter().filter(|it| it.1 < mean - DEVIATIONS * variance.sqrt());
        low.chain(shares.into_iter().filter(|it| 1.0 - it.1 > FAILURE_SHARE)).map(|it| it.0).collect()
    }
}

impl Client for Ejecting {
    fn follow(&mut self, weights: &[u32], now: f64) {
        self.weights = weights.to_vec();
        self.tell(now);
    }

    fn call(&mut self, number: usize, servers: &[Queue], now: f64) -> Option<usize> {
        if now - self.compared >= INTERVAL {
            self.compare(now);
        }
        self.inner.call(number, servers, now)
    }

    fn end(&mut self, ended: &Ended) {
        let record = &mut self.records[ended.server];
        if ended.is_success {
            record.successes += 1;
            record.failed_in_row = 0;
        } else {
            record.failures += 1;
            record.failed_in_row += 1;
        }
        let is_outlier = record.failed_in_row >= IN_ROW;
        self.inner.end(ended);
        if is_outlier {
            self.records[ended.server].failed_in_row = 0;
            self.eject(ended.server, ended.now);
        }
    }
}

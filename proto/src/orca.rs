//! What gRPC backends of any language say of their load: ORCA, the Open Request Cost Aggregation of xDS.

use netloft_types::Load;
use prost::Message as _;

/// The trailer in which a backend says it, call by call (gRPC proposal A51).
pub const TRAILER: &str = "endpoint-load-metrics-bin";

/// `xds.data.orca.v3.OrcaLoadReport`, as far as it is read here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OrcaLoadReport {
    /// The share of the processor that is used; may be above 1.
    #[prost(double, tag = "1")]
    pub cpu_utilization: f64,
    /// Calls per second.
    #[prost(double, tag = "6")]
    pub rps_fractional: f64,
    /// Failures per second.
    #[prost(double, tag = "7")]
    pub eps: f64,
    /// What the application takes for its utilization; may be above 1.
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

impl OrcaLoadReport {
    /// Its bytes, as they are in the trailer before that is put into base64.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

/// Reads a report; `None` if it is none, or tells of no measure. What the application says counts more than what its processor
/// does (gRPC proposal A58).
pub fn load(report: &[u8]) -> Option<Load> {
    let report = OrcaLoadReport::decode(report).ok()?;
    let own = Some(report.application_utilization).filter(|utilization| *utilization > 0.0);
    Load::new(own.unwrap_or(report.cpu_utilization), report.rps_fractional, report.eps).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_the_application_counts_more_than_that_of_the_processor() {
        let report = |cpu_utilization, application_utilization| {
            let orca =
                OrcaLoadReport { cpu_utilization, application_utilization, rps_fractional: 7.0, eps: 1.0 };
            load(&orca.to_bytes())
        };
        assert_eq!(report(0.5, 0.0), Load::new(0.5, 7.0, 1.0).ok());
        assert_eq!(report(0.5, 1.5), Load::new(1.5, 7.0, 1.0).ok());
        assert_eq!(report(f64::NAN, 0.0), None);
        assert_eq!(report(-1.0, 0.0), None);
    }

    #[test]
    fn what_others_write_is_read_and_what_is_no_report_is_not() {
        // cpu_utilization 0.5, mem_utilization 0.25, rps 3 (given up since), named_metrics {a: 1}, rps_fractional 8, eps 2.
        let mut bytes = vec![0x09];
        bytes.extend(0.5_f64.to_le_bytes());
        bytes.push(0x11);
        bytes.extend(0.25_f64.to_le_bytes());
        bytes.extend([0x18, 0x03, 0x42, 12, 0x0a, 1, b'a', 0x11]);
        bytes.extend(1.0_f64.to_le_bytes());
        bytes.push(0x31);
        bytes.extend(8.0_f64.to_le_bytes());
        bytes.push(0x39);
        bytes.extend(2.0_f64.to_le_bytes());
        assert_eq!(load(&bytes), Load::new(0.5, 8.0, 2.0).ok());
        assert_eq!(load(&bytes[..bytes.len() - 1]), None);
        assert_eq!(load(b"no report"), None);
    }
}

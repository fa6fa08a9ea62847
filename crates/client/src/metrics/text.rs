//! Stats as Prometheus reads them.

use std::fmt::Write as _;

use super::{CallStats, Ended};

/// A family of numbers: its name, its type, what it is, and how it is read.
type Family = (&'static str, &'static str, &'static str, fn(&CallStats) -> u64);

const FAMILIES: [Family; 11] = [
    ("calls_begun_total", "counter", "Calls that began", |stats| stats.calls_begun),
    ("attempts_begun_total", "counter", "Attempts that began", |stats| stats.attempts_begun),
    ("without_instance_total", "counter", "Calls for which there was no instance", |stats| {
        stats.without_instance
    }),
    ("transparent_retries_total", "counter", "Repeats of what no instance had begun", |stats| {
        stats.transparent_retries
    }),
    ("retries_total", "counter", "Repeats of what had failed", |stats| stats.retries),
    ("repeats_refused_total", "counter", "Repeats that there was no budget for", |stats| {
        stats.repeats_refused
    }),
    ("hedges_total", "counter", "Attempts beside others", |stats| stats.hedges),
    ("hedges_won_total", "counter", "Attempts beside others that answered first", |stats| stats.hedges_won),
    ("connections_open", "gauge", "Connections that are open", |stats| stats.connections_open),
    ("connections_made_total", "counter", "Connections that were made", |stats| stats.connections_made),
    ("connections_failed_total", "counter", "Connections that could not be made", |stats| {
        stats.connections_failed
    }),
];

/// How calls or attempts ended, one number for each way.
type Ends = (&'static str, &'static str, fn(&CallStats) -> Ended);

const ENDS: [Ends; 2] = [
    ("calls_total", "How calls ended", |stats| stats.calls),
    ("attempts_total", "How attempts ended", |stats| stats.attempts),
];

/// Stats of several services in the text format of Prometheus (version 0.0.4), to be appended to what a program exposes
/// itself. Each service has a name of its own, which becomes a label.
///
/// ```
/// # use netloft_client::{CallStats, prometheus_text};
/// # let stats = CallStats::default();
/// let text = prometheus_text(&[("api", stats)]);
/// assert!(text.contains("netloft_client_retries_total{service=\"api\"} 0\n"));
/// ```
pub fn prometheus_text(services: &[(&str, CallStats)]) -> String {
    let mut text = String::new();
    // A text takes everything.
    write(&mut text, services).unwrap_or_default();
    text
}

fn write(text: &mut String, services: &[(&str, CallStats)]) -> std::fmt::Result {
    let services: Vec<_> = services.iter().map(|(service, stats)| (escaped(service), stats)).collect();
    for (name, kind, help, read) in FAMILIES {
        head(text, name, kind, help)?;
        for (service, stats) in &services {
            writeln!(text, "netloft_client_{name}{{service=\"{service}\"}} {}", read(stats))?;
        }
    }
    for (name, help, read) in ENDS {
        head(text, name, "counter", help)?;
        for (service, stats) in &services {
            let Ended { succeeded, refused, failed, given_up } = read(stats);
            let ways =
                [("succeeded", succeeded), ("refused", refused), ("failed", failed), ("given_up", given_up)];
            for (outcome, count) in ways {
                let labels = format_args!("service=\"{service}\",outcome=\"{outcome}\"");
                writeln!(text, "netloft_client_{name}{{{labels}}} {count}")?;
            }
        }
    }
    head(text, "latency_seconds", "histogram", "Time until a call was answered, or its stream began")?;
    services.iter().try_for_each(|(service, stats)| histogram(text, service, stats))
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP netloft_client_{name} {help}.\n# TYPE netloft_client_{name} {kind}")
}

fn histogram(text: &mut String, service: &str, stats: &CallStats) -> std::fmt::Result {
    let mut so_far = 0;
    for (bound, count) in stats.latency.buckets() {
        so_far += count;
        let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
        let labels = format_args!("service=\"{service}\",le=\"{bound}\"");
        writeln!(text, "netloft_client_latency_seconds_bucket{{{labels}}} {so_far}")?;
    }
    let total = stats.latency.total().as_secs_f64();
    writeln!(text, "netloft_client_latency_seconds_sum{{service=\"{service}\"}} {total}")?;
    writeln!(text, "netloft_client_latency_seconds_count{{service=\"{service}\"}} {so_far}")
}

/// As the format wants the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::histogram::Histogram;
    use super::*;

    #[test]
    fn each_family_is_said_once_with_a_number_for_each_service() {
        let latency = Histogram::default();
        latency.count(Duration::from_micros(50));
        latency.count(Duration::from_mins(2));
        let api = CallStats { retries: 3, latency: latency.read(), ..CallStats::default() };
        let text = prometheus_text(&[("api", api), ("a\"b\\c\nd", CallStats::default())]);
        assert_eq!(text.matches("# TYPE netloft_client_retries_total counter\n").count(), 1);
        for line in [
            "netloft_client_retries_total{service=\"api\"} 3",
            "netloft_client_retries_total{service=\"a\\\"b\\\\c\\nd\"} 0",
            "netloft_client_calls_total{service=\"api\",outcome=\"given_up\"} 0",
            "netloft_client_latency_seconds_bucket{service=\"api\",le=\"0.000032\"} 0",
            "netloft_client_latency_seconds_bucket{service=\"api\",le=\"0.000064\"} 1",
            "netloft_client_latency_seconds_bucket{service=\"api\",le=\"33.554432\"} 1",
            "netloft_client_latency_seconds_bucket{service=\"api\",le=\"+Inf\"} 2",
            "netloft_client_latency_seconds_sum{service=\"api\"} 120.00005",
            "netloft_client_latency_seconds_count{service=\"api\"} 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}

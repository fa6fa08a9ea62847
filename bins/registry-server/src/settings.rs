//! What the server does, once everything that can be set is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use netloft_health::{MonitorOptions, PanicOptions, Targets};
use netloft_registry::{EmbeddedOptions, FeedOptions, Limits, StoreOptions};
use netloft_rpc::ServerOptions;
use netloft_types::Subnet;

use crate::access::AccessSettings;
use crate::args::{LogFormat, LogLevel, Options, OrNone, StoreKind};

/// Not registered with anyone; free on common systems.
const PORT: u16 = 7400;

/// Everything about a server. At least one of `listen` and `unix` is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) unix: Option<PathBuf>,
    /// The directory of the store; it is in memory if there is none.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) store_options: EmbeddedOptions,
    pub(crate) server_options: ServerOptions,
    pub(crate) monitor_options: MonitorOptions,
    /// Where Prometheus is answered.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) access: AccessSettings,
    pub(crate) log: LogLevel,
    pub(crate) log_format: LogFormat,
}

impl Settings {
    /// Fills in the defaults, and refuses what must not be.
    pub(crate) fn of(options: Options) -> anyhow::Result<Self> {
        let listen = match options.listen {
            None => Some(SocketAddr::from(([127, 0, 0, 1], PORT))),
            Some(OrNone::Some(address)) => Some(address),
            Some(OrNone::None) => None,
        };
        let unix = match options.unix {
            None => default_socket(),
            Some(OrNone::Some(path)) => Some(path),
            Some(OrNone::None) => None,
        };
        if listen.is_none() && unix.is_none() {
            bail!("there is nothing to listen on: set --listen or --unix");
        }
        // Tokens are kept beside the registrations, or where they would be.
        let keep = data_dir(options.data_dir.clone()).ok();
        let access = AccessSettings::of(options.access, keep.as_deref())?;
        if let Some(address) = listen {
            check_reach(address, &access)?;
        }
        let data_dir = match options.store.unwrap_or_default() {
            StoreKind::Embedded => Some(data_dir(options.data_dir)?),
            StoreKind::Memory => None,
        };
        let (limits, feed, server) = (Limits::default(), FeedOptions::default(), ServerOptions::default());
        let per_session = options.instances_per_session_max;
        Ok(Self {
            listen,
            unix,
            data_dir,
            store_options: EmbeddedOptions {
                store: StoreOptions {
                    limits: Limits {
                        sessions_max: options.sessions_max.unwrap_or(limits.sessions_max),
                        instances_max: options.instances_max.unwrap_or(limits.instances_max),
                        instances_per_session_max: per_session.unwrap_or(limits.instances_per_session_max),
                    },
                    feed: FeedOptions {
                        history_len_max: options.history_len_max.unwrap_or(feed.history_len_max),
                        watchers_max: options.watchers_max.unwrap_or(feed.watchers_max),
                    },
                },
                grace: options.grace_ms.map_or(EmbeddedOptions::default().grace, Duration::from_millis),
            },
            server_options: ServerOptions {
                connections_max: options.connections_max.unwrap_or(server.connections_max),
                connections_per_peer_max: options
                    .connections_per_peer_max
                    .unwrap_or(server.connections_per_peer_max),
                ..server
            },
            monitor_options: monitor_options(
                options.check_allow,
                options.check_deny,
                options.probes_max,
                options.panic_percent,
            ),
            metrics: match options.metrics {
                Some(OrNone::Some(address)) => Some(address),
                Some(OrNone::None) | None => None,
            },
            access,
            log: options.log.unwrap_or_default(),
            log_format: options.log_format.unwrap_or_default(),
        })
    }
}

/// Refuses to be reached from elsewhere by whoever likes. There is no flag that allows it: whoever has to, for a moment,
/// can listen on loopback and forward.
fn check_reach(address: SocketAddr, access: &AccessSettings) -> anyhow::Result<()> {
    if address.ip().is_loopback() || (access.is_on && access.tls.is_some()) {
        return Ok(());
    }
    bail!(
        "refusing to listen on {address}: beyond loopback, everybody has to prove who they are, and over TLS; set \
         --tls-cert and --tls-key, and --tls-client-ca with --policy, or make tokens with `registry-server token create`"
    )
}

fn monitor_options(
    allow: Option<Vec<Subnet>>,
    deny: Option<Vec<Subnet>>,
    probes_max: Option<usize>,
    usable_percent_min: Option<u8>,
) -> MonitorOptions {
    let monitor = MonitorOptions::default();
    let usable_percent_min = usable_percent_min.unwrap_or(monitor.panic.usable_percent_min);
    MonitorOptions {
        probes_max: probes_max.unwrap_or(monitor.probes_max),
        targets: Targets { allow: allow.unwrap_or_default(), deny: deny.unwrap_or_default() },
        panic: PanicOptions { usable_percent_min, ..monitor.panic },
        ..monitor
    }
}

/// The directory that was asked for, or the one in which this user's registry keeps what it knows.
pub(crate) fn data_dir(asked: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let own = || netloft_rpc::state_directory().map(|directory| directory.join("registry"));
    let found = asked.or_else(own);
    found.context("there is no directory to keep registrations in: set --data-dir, or say --store memory")
}

/// Where this user's registry listens unless it is told otherwise; nowhere if the user has no place for sockets.
fn default_socket() -> Option<PathBuf> {
    Some(netloft_rpc::run_directory()?.join("registry.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::AccessFlags;

    fn listening_on(address: &str) -> Options {
        Options { listen: Some(address.parse().unwrap()), ..Options::default() }
    }

    #[test]
    fn the_default_is_loopback_with_the_bounds_of_the_libraries() {
        let settings = Settings::of(Options::default()).unwrap();
        assert_eq!(settings.listen, Some("127.0.0.1:7400".parse().unwrap()));
        assert_eq!(settings.store_options, EmbeddedOptions::default());
        assert_eq!(settings.server_options, ServerOptions::default());
        assert_eq!(settings.monitor_options, MonitorOptions::default());
    }

    #[test]
    fn an_address_beyond_loopback_needs_identities_and_tls() {
        let file = || Some(PathBuf::from("/somewhere"));
        let with = |remote: &str, access| Settings::of(Options { access, ..listening_on(remote) });
        for remote in ["0.0.0.0:7400", "[::]:7400", "192.0.2.1:7400"] {
            let insufficient = [
                AccessFlags::default(),
                AccessFlags { auth: Some(true), ..AccessFlags::default() },
                AccessFlags {
                    tls_cert: file(),
                    tls_key: file(),
                    auth: Some(false),
                    ..AccessFlags::default()
                },
            ];
            for access in insufficient {
                let error = with(remote, access).unwrap_err().to_string();
                assert!(error.contains(remote) && error.contains("--tls-cert"), "{error}");
            }
            let secure =
                AccessFlags { tls_cert: file(), tls_key: file(), auth: Some(true), ..AccessFlags::default() };
            assert_eq!(with(remote, secure).unwrap().listen, Some(remote.parse().unwrap()));
        }
        for local in ["127.0.0.1:0", "127.1.2.3:7400", "[::1]:7400"] {
            assert!(Settings::of(listening_on(local)).is_ok(), "{local}");
        }
    }

    #[test]
    fn a_server_that_listens_nowhere_is_refused() {
        let nowhere = Options { unix: Some(OrNone::None), ..listening_on("none") };
        assert!(Settings::of(nowhere).unwrap_err().to_string().contains("nothing to listen on"));
    }
}

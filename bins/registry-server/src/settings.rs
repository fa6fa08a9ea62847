//! What the server does, once everything that can be set is.

mod etcd;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use netloft_health::{MonitorOptions, PanicOptions, Targets};
use netloft_registry::{EmbeddedOptions, FeedOptions, Limits, StoreOptions};
use netloft_registry_etcd::EtcdOptions;
use netloft_rpc::ServerOptions;
use netloft_types::Subnet;

pub(crate) use self::etcd::naming_flag;
use crate::access::AccessSettings;
use crate::args::{LogFormat, LogLevel, Options, OrNone, StoreKind};

/// Not registered with anyone; free on common systems.
const PORT: u16 = 7400;

/// Which store, and everything about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StoreSettings {
    Memory(StoreOptions),
    Embedded { directory: PathBuf, options: EmbeddedOptions },
    Etcd { endpoints: Vec<String>, options: EtcdOptions },
}

impl StoreSettings {
    /// Where the store keeps what it knows, if that is on this machine.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Embedded { directory, .. } => Some(directory),
            Self::Memory(_) | Self::Etcd { .. } => None,
        }
    }
}

/// Everything about a server. At least one of `listen` and `unix` is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) unix: Option<PathBuf>,
    pub(crate) store: StoreSettings,
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
        let (store, server) = (store(&options)?, ServerOptions::default());
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
        if matches!(store, StoreSettings::Etcd { .. }) && access.is_on && access.session_key.is_none() {
            bail!(
                "--store etcd with access control needs the key of sessions that all its servers share: set \
                 --session-key; the first server makes the file, and the others need a copy of it"
            );
        }
        Ok(Self {
            listen,
            unix,
            store,
            server_options: ServerOptions {
                connections_max: options.connections_max.unwrap_or(server.connections_max),
                connections_per_peer_max: options
                    .connections_per_peer_max
                    .unwrap_or(server.connections_per_peer_max),
                load_report_interval: match options.load_report_interval_ms {
                    None => server.load_report_interval,
                    Some(0) => None,
                    Some(ms) => Some(Duration::from_millis(ms)),
                },
                advises_weights: options.advise_weights.unwrap_or(server.advises_weights),
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

fn store(options: &Options) -> anyhow::Result<StoreSettings> {
    let (limits, feed) = (Limits::default(), FeedOptions::default());
    let per_session = options.instances_per_session_max;
    let store = StoreOptions {
        limits: Limits {
            sessions_max: options.sessions_max.unwrap_or(limits.sessions_max),
            instances_max: options.instances_max.unwrap_or(limits.instances_max),
            instances_per_session_max: per_session.unwrap_or(limits.instances_per_session_max),
        },
        feed: FeedOptions {
            history_len_max: options.history_len_max.unwrap_or(feed.history_len_max),
            watchers_max: options.watchers_max.unwrap_or(feed.watchers_max),
        },
    };
    let grace = options.grace_ms.map(Duration::from_millis);
    let kind = options.store.unwrap_or_default();
    if kind != StoreKind::Etcd
        && let Some(flag) = etcd::first_flag(options)
    {
        bail!("{flag} is for --store etcd, and the store is another one");
    }
    Ok(match kind {
        StoreKind::Memory => StoreSettings::Memory(store),
        StoreKind::Embedded => StoreSettings::Embedded {
            directory: data_dir(options.data_dir.clone())?,
            options: EmbeddedOptions { store, grace: grace.unwrap_or(EmbeddedOptions::default().grace) },
        },
        StoreKind::Etcd => {
            let etcd = EtcdOptions::default();
            let endpoints = options.etcd_endpoint.clone();
            StoreSettings::Etcd {
                endpoints: endpoints.context("--store etcd needs the cluster: set --etcd-endpoint")?,
                options: EtcdOptions {
                    store,
                    prefix: options.etcd_prefix.clone().unwrap_or(etcd.prefix),
                    lease_ttl: options.etcd_lease_s.map_or(etcd.lease_ttl, |s| Duration::from_secs(s.get())),
                    grace: grace.unwrap_or(etcd.grace),
                    tls: etcd::tls(options)?,
                    user: etcd::user(options)?,
                },
            }
        }
    })
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
        let StoreSettings::Embedded { options, .. } = settings.store else {
            panic!("{:?} is not the default", settings.store)
        };
        assert_eq!(options, EmbeddedOptions::default());
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
    fn a_store_in_etcd_needs_to_know_where_that_is_and_no_other_does() {
        let etcd = |store, endpoints: Option<&str>| Options {
            store: Some(store),
            etcd_endpoint: endpoints.map(|endpoint| vec![endpoint.to_owned()]),
            ..Options::default()
        };
        let error = Settings::of(etcd(StoreKind::Etcd, None)).unwrap_err().to_string();
        assert!(error.contains("--etcd-endpoint"), "{error}");
        let endpoint = "http://192.0.2.1:2379";
        assert!(Settings::of(etcd(StoreKind::Memory, Some(endpoint))).is_err());
        let settings = Settings::of(etcd(StoreKind::Etcd, Some(endpoint))).unwrap();
        let (endpoints, options) = (vec![endpoint.to_owned()], EtcdOptions::default());
        assert_eq!(settings.store, StoreSettings::Etcd { endpoints, options });
    }

    #[test]
    fn servers_that_share_a_registry_under_access_control_share_the_key_of_sessions() {
        let controlled = |session_key| Options {
            store: Some(StoreKind::Etcd),
            etcd_endpoint: Some(vec!["http://192.0.2.1:2379".to_owned()]),
            access: AccessFlags { auth: Some(true), session_key, ..AccessFlags::default() },
            ..Options::default()
        };
        let error = Settings::of(controlled(None)).unwrap_err().to_string();
        assert!(error.contains("--session-key"), "{error}");
        assert!(Settings::of(controlled(Some("/somewhere".into()))).is_ok());
    }

    #[test]
    fn no_interval_takes_no_load_reports() {
        let interval = |ms| {
            let options = Options { load_report_interval_ms: ms, ..Options::default() };
            Settings::of(options).unwrap().server_options.load_report_interval
        };
        assert_eq!(interval(Some(0)), None);
        assert_eq!(interval(Some(250)), Some(Duration::from_millis(250)));
        assert_eq!(interval(None), ServerOptions::default().load_report_interval);
    }

    #[test]
    fn a_server_that_listens_nowhere_is_refused() {
        let nowhere = Options { unix: Some(OrNone::None), ..listening_on("none") };
        assert!(Settings::of(nowhere).unwrap_err().to_string().contains("nothing to listen on"));
    }
}

//! Who may do what: from files to the access control of a server, for as long as it runs.

mod files;
mod key;
mod tokens;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use netloft_access::{AccessList, Policy, Quota, Rate, SessionKey, Tokens};
use netloft_rpc::{Access, AccessOptions, Audit, AuditOptions, AuditWriter, ClientCertificates, TlsConfig};
use tokio::sync::watch;
use tracing::{info, warn};

use self::files::Follower;
pub(crate) use self::tokens::carry_out;
use crate::args::AccessFlags;

/// Who may do what, and how they prove who they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessSettings {
    /// Whether anything is denied at all.
    pub(crate) is_on: bool,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) session_key: Option<PathBuf>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) strict_ids: bool,
    pub(crate) audit: Option<PathBuf>,
    pub(crate) audit_reads: bool,
    pub(crate) quota: Quota,
}

/// The certificates of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    clients_must: bool,
}

/// The name of the file of tokens in the data directory.
const TOKENS: &str = "tokens";

impl AccessSettings {
    /// Fills in the defaults, and refuses what contradicts itself. `data_dir` is where tokens are unless it is said.
    pub(crate) fn of(flags: AccessFlags, data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let own_tokens = data_dir.map(|directory| directory.join(TOKENS));
        let is_asked_for = flags.policy.is_some() || flags.tokens.is_some() || flags.tls_client_ca.is_some();
        let is_on = match flags.auth {
            Some(false) if is_asked_for => {
                bail!("--auth false contradicts --policy, --tokens and --tls-client-ca")
            }
            Some(said) => said,
            None => is_asked_for || own_tokens.as_ref().is_some_and(|tokens| tokens.exists()),
        };
        let tls = match (flags.tls_cert, flags.tls_key) {
            (Some(certificate), Some(key)) => {
                let clients_must = flags.tls_require_client_cert == Some(true);
                if clients_must && flags.tls_client_ca.is_none() {
                    bail!("--tls-require-client-cert needs --tls-client-ca: whose certificates are good?");
                }
                Some(TlsFiles { certificate, key, client_ca: flags.tls_client_ca, clients_must })
            }
            (None, None) if flags.tls_client_ca.is_none() => None,
            _ => bail!("TLS needs both --tls-cert and --tls-key"),
        };
        let quota = Quota::default();
        let rate = |asked: Option<u32>, rate: Rate| {
            let times = rate.burst / rate.per_second;
            asked.map_or(rate, |per_second| Rate { per_second, burst: per_second.saturating_mul(times) })
        };
        Ok(Self {
            is_on,
            policy: flags.policy,
            tokens: flags.tokens.or(own_tokens),
            session_key: flags.session_key,
            tls,
            strict_ids: flags.strict_ids == Some(true),
            audit: flags.audit_log,
            audit_reads: flags.audit_reads == Some(true),
            quota: Quota {
                sessions_max: flags.identity_sessions_max.unwrap_or(quota.sessions_max),
                instances_max: flags.identity_instances_max.unwrap_or(quota.instances_max),
                streams_max: flags.identity_streams_max.unwrap_or(quota.streams_max),
                calls: rate(flags.identity_calls_per_second, quota.calls),
                removals: rate(flags.identity_removals_per_second, quota.removals),
            },
        })
    }
}

/// The access control of a server, and who writes its log.
pub(crate) struct Control {
    pub(crate) access: Access,
    pub(crate) writer: Option<AuditWriter>,
}

/// Begins to control access, if it is to be. `keep` is the directory of a store that has one.
pub(crate) fn control(settings: &AccessSettings, keep: Option<&Path>) -> anyhow::Result<Option<Control>> {
    if !settings.is_on {
        return Ok(None);
    }
    let (audit, writer) = match &settings.audit {
        Some(path) => {
            let options = AuditOptions { reads: settings.audit_reads };
            let (audit, writer) =
                Audit::start(open_audit(path)?, options).context("cannot start a thread")?;
            (Some(audit), Some(writer))
        }
        None => (None, None),
    };
    let key = match (&settings.session_key, keep) {
        (Some(path), _) => key::session_key(path)?,
        (None, Some(directory)) => key::session_key(&directory.join(key::SESSION_KEY))?,
        // The sessions end with the process, too.
        (None, None) => SessionKey::from_bytes(&rand::random()),
    };
    let sources = Sources {
        policy: settings.policy.clone(),
        tokens: settings.tokens.clone(),
        key: key.clone(),
        served_under: keep.map(key::ServedUnder::in_directory),
    };
    let follower = Follower::of(sources.policy.iter().chain(&sources.tokens).cloned().collect());
    let (list, resumable) = sources.read()?;
    let list = follower.follow("who may do what", list, move || sources.read().map(|(list, _)| list));
    info!("access is controlled: what neither a policy nor a token allows is denied");
    let options =
        AccessOptions { quota: settings.quota.clone(), audit, resumable, strict_ids: settings.strict_ids };
    Ok(Some(Control { access: Access::new(list, key, options), writer }))
}

/// The TLS of a server, renewed whenever its files change.
pub(crate) fn tls(files: &TlsFiles) -> anyhow::Result<watch::Receiver<Arc<TlsConfig>>> {
    let all = [&files.certificate, &files.key].into_iter().chain(&files.client_ca);
    let follower = Follower::of(all.cloned().collect());
    let first = files.read()?;
    let files = files.clone();
    Ok(follower.follow("the certificates", first, move || files.read()))
}

impl TlsFiles {
    fn read(&self) -> anyhow::Result<TlsConfig> {
        let clients =
            if self.clients_must { ClientCertificates::Required } else { ClientCertificates::Optional };
        let client_ca = self.client_ca.as_deref().map(read).transpose()?;
        let config =
            TlsConfig::from_pem(&read(&self.certificate)?, &read(&self.key)?, client_ca.as_deref(), clients);
        let config = config.with_context(|| {
            let Self { certificate, key, .. } = self;
            format!("cannot speak TLS with {} and {}", certificate.display(), key.display())
        })?;
        let expires = humantime::format_rfc3339_seconds(config.expires());
        match config.expires().duration_since(SystemTime::now()) {
            Ok(left) if left > EXPIRY_NOTICE => info!(%expires, "certificate read"),
            _ => warn!(%expires, "the server's certificate expires soon, or has expired"),
        }
        Ok(config)
    }
}

/// How long before its end a certificate is worth a warning when it is read.
const EXPIRY_NOTICE: Duration = Duration::from_mins(10);

/// Where a list of who is known comes from.
struct Sources {
    policy: Option<PathBuf>,
    tokens: Option<PathBuf>,
    key: SessionKey,
    served_under: Option<key::ServedUnder>,
}

impl Sources {
    /// Reads the list, and tells whether it is the one under which the store was served last.
    fn read(&self) -> anyhow::Result<(AccessList, bool)> {
        let policy_text = self.policy.as_deref().map(read_text).transpose()?.unwrap_or_default();
        let policy: Policy = toml::from_str(&policy_text).with_context(|| named(self.policy.as_deref()))?;
        let tokens_text = self.tokens.as_deref().map(tokens::read).transpose()?.unwrap_or_default();
        let tokens: Tokens = toml::from_str(&tokens_text).with_context(|| named(self.tokens.as_deref()))?;
        if policy.identities.is_empty() && tokens.records.is_empty() {
            warn!("nobody is known yet: only the owner of the server, over the unix socket, can do anything");
        }
        let mark = self.key.mark(format!("{policy_text}\0{tokens_text}").as_bytes());
        let is_same = self.served_under.as_ref().is_some_and(|under| under.replace(&mark));
        Ok((AccessList::new(policy, tokens), is_same))
    }
}

fn named(path: Option<&Path>) -> String {
    format!("cannot use {}", path.unwrap_or(Path::new("nothing")).display())
}

fn read(path: impl AsRef<Path>) -> anyhow::Result<Vec<u8>> {
    let path = path.as_ref();
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn open_audit(path: &Path) -> anyhow::Result<Box<dyn Write + Send>> {
    if path.as_os_str() == "stderr" {
        return Ok(Box::new(io::stderr()));
    }
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path);
    Ok(Box::new(file.with_context(|| format!("cannot open {}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: AccessFlags) -> anyhow::Result<AccessSettings> {
        AccessSettings::of(flags, None)
    }

    #[test]
    fn whatever_needs_access_control_turns_it_on() {
        let is_on = |flags| settings(flags).unwrap().is_on;
        let file = || Some(PathBuf::from("/somewhere"));
        assert!(!is_on(AccessFlags::default()));
        assert!(is_on(AccessFlags { auth: Some(true), ..AccessFlags::default() }));
        assert!(is_on(AccessFlags { policy: file(), ..AccessFlags::default() }));
        assert!(is_on(AccessFlags { tokens: file(), ..AccessFlags::default() }));
        let tls = AccessFlags { tls_cert: file(), tls_key: file(), ..AccessFlags::default() };
        assert!(!is_on(tls));
        let directory = tempfile::tempdir().unwrap();
        let beside = || AccessSettings::of(AccessFlags::default(), Some(directory.path())).unwrap().is_on;
        assert!(!beside());
        std::fs::write(directory.path().join(TOKENS), "").unwrap();
        assert!(beside());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let file = || Some(PathBuf::from("/somewhere"));
        let cases = [
            (AccessFlags { auth: Some(false), policy: file(), ..AccessFlags::default() }, "--auth false"),
            (AccessFlags { tls_cert: file(), ..AccessFlags::default() }, "--tls-key"),
            (AccessFlags { tls_client_ca: file(), ..AccessFlags::default() }, "--tls-cert"),
        ];
        for (flags, expected) in cases {
            let error = settings(flags).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_rate_keeps_its_burst_in_proportion() {
        let flags = AccessFlags { identity_removals_per_second: Some(3), ..AccessFlags::default() };
        assert_eq!(settings(flags).unwrap().quota.removals, Rate { per_second: 3, burst: 30 });
    }
}

//! With what etcd is spoken to, and how flags of that are named when they are of no use.

use std::path::Path;

use anyhow::bail;
use netloft_registry_etcd::{EtcdIdentity, EtcdOptions, EtcdPassword, EtcdTls, EtcdUser, OpenError};

use crate::args::Options;

/// A flag that is set and says how to reach etcd.
pub(super) fn first_flag(options: &Options) -> Option<&'static str> {
    let flags = [
        ("--etcd-endpoint", options.etcd_endpoint.is_some()),
        ("--etcd-ca", options.etcd_ca.is_some()),
        ("--etcd-cert", options.etcd_cert.is_some()),
        ("--etcd-key", options.etcd_key.is_some()),
        ("--etcd-user", options.etcd_user.is_some()),
        ("--etcd-password-file", options.etcd_password_file.is_some()),
    ];
    flags.into_iter().find(|(_, is_set)| *is_set).map(|(flag, _)| flag)
}

pub(super) fn tls(options: &Options) -> anyhow::Result<Option<EtcdTls>> {
    let identity = match (options.etcd_cert.clone(), options.etcd_key.clone()) {
        (Some(certificate), Some(key)) => Some(EtcdIdentity { certificate, key }),
        (None, None) => None,
        (Some(_), None) => bail!("--etcd-cert needs its key: set --etcd-key"),
        (None, Some(_)) => bail!("--etcd-key needs its certificate: set --etcd-cert"),
    };
    match (options.etcd_ca.clone(), identity) {
        (Some(ca), identity) => Ok(Some(EtcdTls { ca, identity })),
        (None, Some(_)) => bail!("--etcd-cert needs to know who may see it: set --etcd-ca"),
        (None, None) => Ok(None),
    }
}

pub(super) fn user(options: &Options) -> anyhow::Result<Option<EtcdUser>> {
    match (options.etcd_user.clone(), options.etcd_password_file.clone()) {
        (Some(name), Some(file)) => Ok(Some(EtcdUser { name, password: EtcdPassword::File(file) })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("--etcd-user needs a password: set --etcd-password-file"),
        (None, Some(_)) => bail!("--etcd-password-file is of a user: set --etcd-user"),
    }
}

/// An error with the flag that it is about, if it is about one.
pub(crate) fn naming_flag(error: OpenError, options: &EtcdOptions) -> anyhow::Error {
    let flag = match &error {
        OpenError::NoAuthority { .. } | OpenError::NotTls { .. } => Some("--etcd-ca"),
        OpenError::OpenPassword { .. } => Some("--etcd-user"),
        OpenError::Credentials { source } => source.path().and_then(|path| flag_of(path, options)),
        _ => None,
    };
    let error = anyhow::Error::new(error);
    match flag {
        Some(flag) => error.context(flag),
        None => error,
    }
}

fn flag_of(path: &Path, options: &EtcdOptions) -> Option<&'static str> {
    let tls = options.tls.as_ref();
    let identity = tls.and_then(|tls| tls.identity.as_ref());
    let password = options.user.as_ref().map(|user| &user.password);
    let flags = [
        ("--etcd-ca", tls.is_some_and(|tls| tls.ca == path)),
        ("--etcd-cert", identity.is_some_and(|identity| identity.certificate == path)),
        ("--etcd-key", identity.is_some_and(|identity| identity.key == path)),
        ("--etcd-password-file", matches!(password, Some(EtcdPassword::File(file)) if file == path)),
    ];
    flags.into_iter().find(|(_, is_it)| *is_it).map(|(flag, _)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::StoreKind;
    use crate::settings::{Settings, StoreSettings};

    type Change = fn(&mut Options);

    #[test]
    fn what_proves_this_server_to_etcd_is_whole_or_refused() {
        let with = |change: Change| {
            let endpoints = Some(vec!["https://192.0.2.1:2379".to_owned()]);
            let mut options =
                Options { store: Some(StoreKind::Etcd), etcd_endpoint: endpoints, ..Options::default() };
            change(&mut options);
            Settings::of(options).map(|settings| settings.store).map_err(|error| error.to_string())
        };
        let file = || Some("/somewhere".into());
        let refused: [(Change, &str); 5] = [
            (|options| options.etcd_cert = Some("/c".into()), "--etcd-key"),
            (|options| options.etcd_key = Some("/k".into()), "--etcd-cert"),
            (
                |options| (options.etcd_cert, options.etcd_key) = (Some("/c".into()), Some("/k".into())),
                "--etcd-ca",
            ),
            (|options| options.etcd_user = Some("u".into()), "--etcd-password-file"),
            (|options| options.etcd_password_file = Some("/p".into()), "--etcd-user"),
        ];
        for (change, missing) in refused {
            let error = with(change).unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
        let StoreSettings::Etcd { options, .. } = with(|options| {
            (options.etcd_ca, options.etcd_cert, options.etcd_key) =
                (Some("/ca".into()), Some("/c".into()), Some("/k".into()));
        })
        .unwrap() else {
            panic!("the store is another one")
        };
        let identity = Some(EtcdIdentity { certificate: "/c".into(), key: "/k".into() });
        assert_eq!(options.tls, Some(EtcdTls { ca: "/ca".into(), identity }));
        for stray in [
            Options { etcd_ca: file(), ..Options::default() },
            Options { etcd_password_file: file(), ..Options::default() },
        ] {
            let error = Settings::of(stray).unwrap_err().to_string();
            assert!(error.contains("--store etcd"), "{error}");
        }
    }
}

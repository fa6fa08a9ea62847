//! TLS to instances, with a real server that speaks nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use netloft_client::{ChannelOptions, TlsIdentity, TlsName, TlsOptions};
use netloft_registry::MemoryStore;
use netloft_rpc::{ClientCertificates, Listener, Server, ServerOptions, TlsConfig};
use netloft_types::Instance;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use support::backend::{at, channel};
use support::*;
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// An authority, and the files of those it certifies.
struct Authority {
    directory: TempDir,
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), &ca).unwrap();
        Self { directory, ca, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate and its key, for these names.
    fn certify(&self, names: &[SanType]) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn identity(&self) -> TlsIdentity {
        let (certificate, key) = self.certify(&[]);
        let identity = TlsIdentity { certificate: self.path("own.pem"), key: self.path("own.key") };
        fs::write(&identity.certificate, certificate).unwrap();
        fs::write(&identity.key, key).unwrap();
        identity
    }

    /// Starts a server that this authority has certified for its address and for `api.example`; answers it as an instance,
    /// whose metadata say the name.
    async fn start(&self, clients: ClientCertificates) -> Instance {
        let names =
            [SanType::IpAddress([127, 0, 0, 1].into()), SanType::DnsName("api.example".try_into().unwrap())];
        let (certificate, key) = self.certify(&names);
        let ca = (clients == ClientCertificates::Required).then_some(self.ca.as_bytes());
        let config = TlsConfig::from_pem(certificate.as_bytes(), key.as_bytes(), ca, clients).unwrap();
        let (renew, configs) = watch::channel(Arc::new(config));
        let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), configs).await.unwrap();
        let address = listener.tcp_address().unwrap();
        let store = Arc::new(MemoryStore::start(netloft_registry::StoreOptions::default()));
        let server = Server::new(ServerOptions::default()).registry(store);
        tokio::spawn(async move {
            let _never_renewed = renew;
            server.run(vec![listener], std::future::pending()).await.unwrap();
        });
        let metadata = BTreeMap::from([("tls-name".to_owned(), "api.example".to_owned())]);
        Instance { metadata: metadata.try_into().unwrap(), ..at(0, address) }
    }
}

async fn call(instance: Instance, tls: Option<TlsOptions>) -> Result<(), Status> {
    let registry = Registry::start().await;
    let _held = registry.client().register(instance, long()).await.unwrap();
    let channel = channel(&registry, ChannelOptions { tls, ..ChannelOptions::default() }).await;
    let answer = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert_eq!(channel.stats().calls.succeeded, u64::from(answer.is_ok()));
    answer.map(drop)
}

#[tokio::test]
async fn a_certified_instance_is_believed_by_its_address_a_name_or_its_metadata() {
    let authority = Authority::new();
    let instance = authority.start(ClientCertificates::Optional).await;
    for name in [TlsName::address(), TlsName::fixed("api.example").unwrap(), TlsName::metadata("tls-name")] {
        let tls = TlsOptions { name, ..TlsOptions::new(authority.path("ca.pem")) };
        call(instance.clone(), Some(tls)).await.unwrap();
    }
}

#[tokio::test]
async fn who_is_certified_by_another_or_for_another_name_gets_no_call() {
    let (authority, other) = (Authority::new(), Authority::new());
    let instance = authority.start(ClientCertificates::Optional).await;
    let right = || TlsOptions::new(authority.path("ca.pem"));
    for (tls, why) in [
        (Some(TlsOptions::new(other.path("ca.pem"))), "invalid peer certificate"),
        (Some(TlsOptions { name: TlsName::fixed("b.example").unwrap(), ..right() }), "not valid for name"),
        (Some(TlsOptions { name: TlsName::metadata("absent"), ..right() }), "server name"),
        (Some(TlsOptions::new(authority.path("none.pem"))), "cannot read"),
        (None, "n0"),
    ] {
        let status = call(instance.clone(), tls).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains(why), "{why}: {}", status.message());
    }
}

#[tokio::test]
async fn an_instance_that_asks_who_calls_is_shown_a_certificate() {
    let authority = Authority::new();
    let instance = authority.start(ClientCertificates::Required).await;
    let without = TlsOptions::new(authority.path("ca.pem"));
    let with = TlsOptions { identity: Some(authority.identity()), ..without.clone() };
    call(instance.clone(), Some(with)).await.unwrap();
    assert_eq!(call(instance, Some(without)).await.unwrap_err().code(), Code::Unavailable);
}

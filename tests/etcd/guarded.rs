//! Etcd that asks who comes: over TLS, and with passwords.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use netloft_registry::{Command as Change, Store};
use netloft_registry_etcd::{
    CredentialError, EtcdIdentity, EtcdOptions, EtcdPassword, EtcdStore, EtcdTls, EtcdUser, OpenError,
};
use netloft_tests::etcd::{self, command};
use netloft_tests::programs::ours;
use netloft_tests::raise_loopback;
use netloft_tests::running::{Running, eventually};
use netloft_types::{Instance, Query, ReadMode, SessionId, Update};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{block_on, until_listening};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node of etcd at loopback, and the files around it.
struct Guarded {
    process: Option<Running>,
    directory: TempDir,
    more: Vec<String>,
}

impl Guarded {
    /// Over TLS, for those whom its authority has certified.
    fn with_tls() -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new();
        authority.write(&directory, "ca.pem");
        authority.certify(&directory, "etcd");
        authority.certify(&directory, "registry");
        let mut guarded = Self { process: None, directory, more: Vec::new() };
        let path = |name| guarded.text(name);
        let flags = [
            ("--listen-client-urls", "https://127.0.0.1:2379".to_owned()),
            ("--advertise-client-urls", "https://127.0.0.1:2379".to_owned()),
            ("--cert-file", path("etcd.pem")),
            ("--key-file", path("etcd.key")),
            ("--trusted-ca-file", path("ca.pem")),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        guarded.more = flags.chain(["--client-cert-auth".to_owned()]).collect();
        guarded.start();
        guarded
    }

    /// Without TLS, where `registry` may read and write what is below `/netloft/`.
    fn with_passwords() -> Self {
        let mut guarded = Self { process: None, directory: TempDir::new().unwrap(), more: Vec::new() };
        guarded.write("password", "open sesame\n");
        guarded.start();
        let perm = json!({
            "permType": "READWRITE",
            "key": "L25ldGxvZnQv",      // "/netloft/"
            "range_end": "L25ldGxvZnQw" // "/netloft0"
        });
        let steps = [
            ("role/add", json!({ "name": "root" })),
            ("user/add", json!({ "name": "root", "password": "the root of it" })),
            ("user/grant", json!({ "user": "root", "role": "root" })),
            ("role/add", json!({ "name": "registry" })),
            ("role/grant", json!({ "name": "registry", "perm": perm })),
            ("user/add", json!({ "name": "registry", "password": "open sesame" })),
            ("user/grant", json!({ "user": "registry", "role": "registry" })),
            ("user/add", json!({ "name": "nobody", "password": "open sesame" })),
            ("enable", json!({})),
        ];
        for (method, request) in steps {
            ask(&format!("auth/{method}"), &request, None);
        }
        guarded
    }

    fn start(&mut self) {
        raise_loopback();
        let data = self.path("data");
        let mut command = command("one", &data, "127.0.0.1", "one=http://127.0.0.1:2380");
        command.args(&self.more);
        self.process = Some(Running::spawn(command));
        until_listening("127.0.0.1:2379".parse().unwrap());
    }

    fn restart(&mut self) {
        self.process.take().unwrap().kill();
        self.start();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn change_password(&self, password: &str) {
        let root = json!({ "name": "root", "password": "the root of it" });
        let token = ask("auth/authenticate", &root, None)["token"].as_str().unwrap().to_owned();
        self.write("password", password);
        ask("auth/user/changepw", &json!({ "name": "registry", "password": password }), Some(&token));
    }

    fn tls(&self) -> EtcdOptions {
        let identity =
            EtcdIdentity { certificate: self.path("registry.pem"), key: self.path("registry.key") };
        options(Some(EtcdTls { ca: self.path("ca.pem"), identity: Some(identity) }), None)
    }

    fn user(&self, name: &str) -> EtcdOptions {
        let password = EtcdPassword::File(self.path("password"));
        options(None, Some(EtcdUser { name: name.to_owned(), password }))
    }
}

/// Asks the JSON gateway, as whom the token says, and waits for a good answer.
fn ask(method: &str, request: &Value, token: Option<&str>) -> Value {
    eventually(method, || {
        let (head, body) = etcd::ask("127.0.0.1:2379".parse().unwrap(), method, request, token, PATIENCE)?;
        // While it elects its leader, it asks to be asked again.
        assert!(head.contains(" 200 ") || head.contains(" 503 "), "{method}: {head}: {body}");
        head.contains(" 200 ").then(|| serde_json::from_str(&body).unwrap())
    })
}

fn options(tls: Option<EtcdTls>, user: Option<EtcdUser>) -> EtcdOptions {
    let lease_ttl = Duration::from_secs(2);
    EtcdOptions { tls, user, lease_ttl, ..EtcdOptions::default() }
}

/// Who certifies.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn write(&self, directory: &TempDir, name: &str) {
        fs::write(directory.path().join(name), &self.certificate).unwrap();
    }

    /// Writes a certificate for loopback, and its key.
    fn certify(&self, directory: &TempDir, name: &str) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(directory.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

async fn open(scheme: &str, options: EtcdOptions) -> Result<EtcdStore, OpenError> {
    EtcdStore::open(&[format!("{scheme}://127.0.0.1:2379")], options).await
}

async fn register(store: &EtcdStore, id: &str) {
    let (session, ttl) = (SessionId::from_number(1), Some(Duration::from_mins(1)));
    store.apply(Change::OpenSession { session, ttl }).await.unwrap();
    let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
    let instance = Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, port);
    store.apply(Change::Register { session, instance }).await.unwrap();
}

async fn ids(store: &EtcdStore) -> Vec<String> {
    let all = store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
    all.instances.iter().map(|instance| instance.id.to_string()).collect()
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

pub(crate) fn over_tls_both_prove_who_they_are_and_the_registry_is_as_ever() {
    let mut guarded = Guarded::with_tls();
    block_on(async {
        let here = open("https", guarded.tls()).await.unwrap();
        let there = open("https", guarded.tls()).await.unwrap();
        register(&here, "a").await;
        assert_eq!(ids(&there).await, ["a"]);
        // The certificate is renewed by another authority, and etcd with it.
        let next = Authority::new();
        next.write(&guarded.directory, "ca.pem");
        next.certify(&guarded.directory, "etcd");
        next.certify(&guarded.directory, "registry");
        guarded.restart();
        let back = async {
            let session = SessionId::from_number(1);
            while here.apply(Change::CloseSession { session }).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, back).await.expect("files are read again");
        assert!(ids(&there).await.is_empty());
    });
    let mut program = server("https://127.0.0.1:2379");
    program.args(["--etcd-ca", &guarded.text("ca.pem"), "--etcd-cert", &guarded.text("registry.pem")]);
    program.args(["--etcd-key", &guarded.text("registry.key")]);
    let mut running = Running::spawn(program);
    running.line("listening on ");
    running.stop().success();
}

pub(crate) fn neither_believes_whom_another_authority_certified() {
    let guarded = Guarded::with_tls();
    let elsewhere = TempDir::new().unwrap();
    let other = Authority::new();
    other.write(&elsewhere, "ca.pem");
    other.certify(&elsewhere, "registry");
    block_on(async {
        let mut believing = guarded.tls();
        believing.tls.as_mut().unwrap().ca = elsewhere.path().join("ca.pem");
        let (mut showing, mut nameless) = (guarded.tls(), guarded.tls());
        let (certificate, key) =
            (elsewhere.path().join("registry.pem"), elsewhere.path().join("registry.key"));
        showing.tls.as_mut().unwrap().identity = Some(EtcdIdentity { certificate, key });
        nameless.tls.as_mut().unwrap().identity = None;
        let all = tokio::join!(open("https", believing), open("https", showing), open("https", nameless));
        let [believing, showing, nameless] = [all.0, all.1, all.2].map(|opened| told(&opened.unwrap_err()));
        assert!(believing.contains("invalid peer certificate"), "{believing}");
        assert!(showing.contains("etcd does not answer: ") && nameless.contains("etcd does not answer: "));
        // Whom it believes, it answers.
        open("https", guarded.tls()).await.unwrap();
    });
}

pub(crate) fn a_file_of_no_use_is_named_with_its_flag() {
    let directory = TempDir::new().unwrap();
    let (authority, path) =
        (Authority::new(), |name: &str| directory.path().join(name).to_str().unwrap().to_owned());
    authority.write(&directory, "ca");
    authority.certify(&directory, "one");
    authority.certify(&directory, "two");
    let broken = authority.certificate.replace("MII", "%%%");
    for (name, text) in [("broken", broken.as_str()), ("text", "no certificate"), ("empty", "\n")] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let (ca, one, two, broken, text) =
        (path("ca"), path("one.pem"), path("two.key"), path("broken"), path("text"));
    let (empty, missing) = (path("empty"), path("missing"));
    let (tls, open, far) = ("https://127.0.0.1:2379", "http://127.0.0.1:2379", "http://192.0.2.1:2379");
    let refused: [(&str, &[&str], &[&str]); 10] = [
        (tls, &["--etcd-ca", &missing], &["--etcd-ca", &missing, "No such file"]),
        (tls, &["--etcd-ca", &text], &["--etcd-ca", &text, "no certificate"]),
        (tls, &["--etcd-ca", &broken], &["--etcd-ca", &broken]),
        (tls, &["--etcd-ca", &ca, "--etcd-cert", &missing, "--etcd-key", &two], &["--etcd-cert", &missing]),
        (tls, &["--etcd-ca", &ca, "--etcd-cert", &one, "--etcd-key", &missing], &["--etcd-key", &missing]),
        (
            tls,
            &["--etcd-ca", &ca, "--etcd-cert", &one, "--etcd-key", &two],
            &[&one, &two, "not a certificate and its key"],
        ),
        (tls, &[], &["--etcd-ca", "takes the authority"]),
        (open, &["--etcd-ca", &ca], &["--etcd-ca", "not over TLS"]),
        (
            open,
            &["--etcd-user", "registry", "--etcd-password-file", &empty],
            &["--etcd-password-file", "no password"],
        ),
        (far, &["--etcd-user", "registry", "--etcd-password-file", &text], &["--etcd-user", "clear text"]),
    ];
    for (endpoint, flags, parts) in refused {
        let mut program = server(endpoint);
        program.args(flags);
        let began = Instant::now();
        let finished = Running::spawn(program).wait();
        assert_eq!(finished.code(), Some(1), "{flags:?} {finished:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "at once");
        for part in parts {
            assert!(finished.stderr.contains(part), "{flags:?}: {part:?} is not in {}", finished.stderr);
        }
    }
}

pub(crate) fn with_a_password_it_goes_on_when_tokens_are_forgotten_and_passwords_change() {
    let mut guarded = Guarded::with_passwords();
    block_on(async {
        let store = open("http", guarded.user("registry")).await.unwrap();
        register(&store, "a").await;
        let mut watch = store.watch(Query::everything(), None).unwrap();
        watch.next().await.unwrap();

        // Etcd keeps its tokens in memory.
        guarded.restart();
        let renewed = |id: &'static str| {
            let store = &store;
            async move {
                let id = id.parse().unwrap();
                let session = SessionId::from_number(1);
                let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
                let instance = Instance::new(id, "api".parse().unwrap(), address, port);
                let change = Change::Register { session, instance };
                while store.apply(change.clone()).await.is_err() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        timeout(PATIENCE, renewed("b")).await.expect("it says the password again");
        let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        assert!(
            matches!(&told[..], [Update::Put { instance, .. }] if instance.id.as_str() == "b"),
            "{told:?}"
        );

        guarded.change_password("another one");
        timeout(PATIENCE, renewed("c")).await.expect("it reads the password again");
        let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        assert!(
            matches!(&told[..], [Update::Put { instance, .. }] if instance.id.as_str() == "c"),
            "{told:?}"
        );
        assert_eq!(ids(&store).await, ["a", "b", "c"]);
    });
}

pub(crate) fn who_may_not_come_in_is_told_so_at_once() {
    let guarded = Guarded::with_passwords();
    block_on(async {
        let began = Instant::now();
        guarded.write("password", "open says me");
        let wrong = open("http", guarded.user("registry")).await.unwrap_err();
        assert!(told(&wrong).contains("authentication failed"), "{}", told(&wrong));
        guarded.write("password", "open sesame");
        let unnamed = open("http", options(None, None)).await.unwrap_err();
        assert!(told(&unnamed).contains("user name is empty"), "{}", told(&unnamed));
        let powerless = open("http", guarded.user("nobody")).await.unwrap_err();
        assert!(told(&powerless).contains("permission denied"), "{}", told(&powerless));
        for error in [&wrong, &unnamed, &powerless] {
            assert!(matches!(error, OpenError::Refused { .. }) && !error.is_retryable(), "{error:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let missing =
            EtcdUser { name: "registry".to_owned(), password: EtcdPassword::File(guarded.path("missing")) };
        let missing = open("http", options(None, Some(missing))).await.unwrap_err();
        assert!(
            matches!(&missing, OpenError::Credentials { source: CredentialError::Read { .. } }),
            "{missing:?}"
        );
    });
    guarded.write("password", "open says me");
    let mut program = server("http://127.0.0.1:2379");
    program.args(["--etcd-user", "registry", "--etcd-password-file", &guarded.text("password")]);
    let finished = Running::spawn(program).wait();
    assert!(
        finished.code() == Some(1) && finished.stderr.contains("etcd refuses this server: "),
        "{finished:?}"
    );
    assert!(!finished.stderr.contains("open says me"), "{finished:?}");
}

fn server(endpoint: &str) -> Command {
    let mut command = Command::new(ours("registry-server"));
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--unix",
        "none",
        "--store",
        "etcd",
        "--etcd-endpoint",
        endpoint,
    ]);
    command
}

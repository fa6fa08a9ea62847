//! A server to attack, and those who attack it.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use netloft_client::{Client, ClientOptions, Credentials, TlsIdentity};
use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// How long anything may take that is to happen at once, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a change of a file may take to count: twice what is promised, for busy machines.
pub(crate) const NOTICE: Duration = Duration::from_secs(4);

/// A directory with what a server needs.
pub(crate) struct Ground {
    directory: TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // As whoever renews certificates does: so that nobody sees half of it.
        let aside = self.path("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.path(name)).unwrap();
    }

    /// Makes a token with the program itself.
    pub(crate) fn token(&self, name: &str, scope: &str, more: &[&str]) -> String {
        let mut arguments = vec!["token", "create", "--name", name, "--scope", scope];
        arguments.extend(more);
        self.run_token(&arguments)
    }

    pub(crate) fn run_token(&self, arguments: &[&str]) -> String {
        let output = command(arguments).args(["--tokens", &self.text("tokens")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a server where nothing is guarded.
    pub(crate) fn start_open(more: &[&str]) -> Server {
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--unix", "none", "--store", "memory"];
        arguments.extend(more);
        Server::start(&arguments)
    }

    /// Starts a server that knows the tokens that were made.
    pub(crate) fn start_guarded(&self, more: &[&str]) -> Server {
        let tokens = self.text("tokens");
        let mut arguments =
            vec!["--listen", "127.0.0.1:0", "--unix", "none", "--store", "memory", "--tokens", &tokens];
        arguments.extend(more);
        Server::start(&arguments)
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-server"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

/// A running server, killed in the end.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(Ok(line)) = stdout.next() else {
            let mut log = String::new();
            child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("it did not start: {log}");
        };
        let address = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address, _stdout: stdout }
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time used, in seconds.
    pub(crate) fn processor_time(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    /// Asks it to end; answers its log.
    pub(crate) fn stop(mut self) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who speaks the protocol as they please.
pub(crate) type Raw = RegistryClient<InterceptedService<Channel, Bearer>>;

#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// Somebody with this token, or with none if it is empty.
pub(crate) fn raw(server: &Server, token: &str) -> Raw {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let header = (!token.is_empty()).then(|| format!("Bearer {token}").parse().unwrap());
    RegistryClient::with_interceptor(endpoint.connect_lazy(), Bearer(header))
}

pub(crate) async fn open_session(client: &mut Raw) -> String {
    open_session_for(client, 60_000).await
}

pub(crate) async fn open_session_for(client: &mut Raw, ttl_ms: u64) -> String {
    client.open_session(wire::OpenSessionRequest { ttl_ms }).await.unwrap().into_inner().session_id
}

pub(crate) fn instance(id: &str, service: &str, address: &str) -> wire::Instance {
    wire::Instance {
        id: id.to_owned(),
        service: service.to_owned(),
        address: address.to_owned(),
        port: 80,
        ..wire::Instance::default()
    }
}

pub(crate) async fn register(
    client: &mut Raw,
    session: &str,
    instance: wire::Instance,
) -> Result<u64, Status> {
    let request = wire::RegisterRequest { session_id: session.to_owned(), instance: Some(instance) };
    client.register(request).await.map(|answer| answer.into_inner().revision)
}

pub(crate) async fn get(client: &mut Raw, id: &str) -> Result<wire::Instance, Status> {
    let answer = client.get(wire::GetRequest { instance_id: id.to_owned(), ..Default::default() }).await?;
    Ok(answer.into_inner().instance.unwrap())
}

/// Everything of a status that its receiver can tell, with `id` taken out of the text.
pub(crate) fn told(status: &Status, id: &str) -> (Code, String, Vec<u8>, Vec<String>) {
    let mut names: Vec<_> = status.metadata().keys().map(|key| format!("{key:?}")).collect();
    names.sort();
    (status.code(), status.message().replace(id, "ID"), status.details().to_vec(), names)
}

/// An authority for certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// From when until when a certificate counts, in seconds from now.
pub(crate) type Span = (i64, i64);
pub(crate) const NOW: Span = (-3_600, 3_600);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn server(&self, span: Span) -> Certified {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.certify(params, span)
    }

    pub(crate) fn client(&self, uris: &[&str], span: Span) -> Certified {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        self.certify(params, span)
    }

    fn certify(&self, mut params: CertificateParams, (from, until): Span) -> Certified {
        let at = |seconds: i64| {
            let offset = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { SystemTime::now() - offset } else { SystemTime::now() + offset }
        };
        (params.not_before, params.not_after) = (at(from).into(), at(until).into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certified { certificate, key: key.serialize_pem() }
    }
}

impl Ground {
    pub(crate) fn write_certified(&self, name: &str, certified: &Certified) {
        // The key first: a pair that does not belong together is refused, and read again when it does.
        self.write(&format!("{name}.key"), &certified.key);
        self.write(&format!("{name}.pem"), &certified.certificate);
    }

    /// Starts a server over TLS, with a certificate of `authority`, which is believed of clients, too.
    pub(crate) fn start_tls(&self, authority: &Authority, more: &[&str]) -> Server {
        self.write_certified("server", &authority.server(NOW));
        self.write("ca.pem", &authority.pem);
        let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| self.text(name));
        let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
        self.start_guarded(&[&tls, more].concat())
    }

    /// A client of a server over TLS, which believes `ca.pem`, and has the certificate of this name, if any.
    pub(crate) fn tls_client(&self, server: &Server, name: Option<&str>) -> Client {
        let credentials = Credentials {
            token: None,
            tls_ca: Some(self.path("ca.pem")),
            tls_identity: name.map(|name| TlsIdentity {
                certificate: self.path(&format!("{name}.pem")),
                key: self.path(&format!("{name}.key")),
            }),
        };
        client(&format!("https://{}", server.address), credentials)
    }
}

pub(crate) fn client(target: &str, credentials: Credentials) -> Client {
    let options = ClientOptions { credentials, call_timeout: PATIENCE, ..ClientOptions::default() };
    Client::connect_with(&target.parse().unwrap(), &options)
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn lines_of(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

//! Docker: its bridge driver through `connect` and `disconnect` of the API, for a container that runs already.
//!
//! The daemon is started for the bench alone, with containerd, in a host namespace, on sockets and in a directory of its own.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::contender::{Order, Place, Port, Worker};
use netloft_tests::bench::peers::Peers;
use netloft_tests::bench::process::{Process, resident_mib};

const IMAGE: &str = "sleeper:1";
const NETWORK: &str = "blue";

/// The daemons, in a process namespace of their own.
pub(crate) struct Engine {
    socket: PathBuf,
    dockerd: Process,
    _containerd: Process,
}

impl Engine {
    pub(crate) fn start(place: &Place) -> Result<Self> {
        // In a user namespace there is a root as well, but not for cgroups.
        let users = fs::read_to_string("/proc/self/uid_map")?;
        ensure!(users.split_whitespace().nth(2) == Some("4294967295"), "dockerd needs root");
        let (files, run) = (&place.directory, &place.run);
        let containerd = start_containerd(place)?;
        let socket = run.join("docker.sock");
        let mut command = place.peers.command("nsenter");
        command
            .args(["--target", &containerd.child()?.to_string(), "--pid", "--mount"])
            .arg(place.peers.debian("usr/sbin/dockerd")?)
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .arg("--containerd")
            .arg(run.join("containerd.sock"))
            .arg("--data-root")
            .arg(files.join("data"))
            .arg("--exec-root")
            .arg(run.join("exec"))
            .arg("--pidfile")
            .arg(run.join("dockerd.pid"))
            .args(["--bip", "172.30.0.1/16"]);
        let log = files.join("dockerd.log");
        let mut dockerd = Process::start(command, &place.host, &log)?;
        let answers =
            || Api::connect(&socket).is_ok_and(|mut api| api.call(Method::GET, "/_ping", "").is_ok());
        dockerd.brings("an answer", answers).with_context(|| last_line(&log))?;
        Ok(Self { socket, dockerd, _containerd: containerd })
    }

    /// How much memory dockerd has resident, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        resident_mib(self.dockerd.child()?)
    }

    /// Makes the image: busybox and nothing else.
    fn import_image(&self, place: &Place) -> Result<()> {
        let root = place.directory.join("image");
        fs::create_dir_all(root.join("bin"))?;
        fs::copy(place.peers.debian("bin/busybox")?, root.join("bin/busybox"))?;
        let _ = fs::remove_file(root.join("bin/sleep"));
        symlink("busybox", root.join("bin/sleep"))?;
        let mut tar = place.peers.command("tar");
        tar.arg("-C").arg(&root).args(["-c", "."]);
        let image = Peers::run(tar, b"")?;
        let (name, tag) = IMAGE.split_once(':').context("it has a tag")?;
        Api::connect(&self.socket)?.post(&format!("/images/create?fromSrc=-&repo={name}&tag={tag}"), image)
    }
}

fn start_containerd(place: &Place) -> Result<Process> {
    let (files, run) = (&place.directory, &place.run);
    let socket = run.join("containerd.sock");
    let (root, state) = (files.join("containerd"), run.join("containerd"));
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{}\"\n",
        root.display(),
        state.display(),
        socket.display(),
    );
    let path = files.join("containerd.toml");
    fs::write(&path, config)?;
    // Its end is the end of every container, however this process ends.
    let mut command = place.peers.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(place.peers.debian("usr/bin/containerd")?).arg("--config").arg(path);
    let mut containerd = Process::start(command, &place.host, &files.join("containerd.log"))?;
    containerd.brings("a socket", || socket.exists())?;
    Ok(containerd)
}

/// What a log ends with.
fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

/// A caller of the API, with a connection of its own.
pub(crate) struct Docker {
    api: Api,
    containers: HashSet<Order>,
    _engine: Arc<Engine>,
}

impl Docker {
    pub(crate) fn workers(place: &Place, count: usize) -> Result<Vec<Box<dyn Worker>>> {
        let engine = Engine::start(place)?;
        engine.import_image(place)?;
        let socket = engine.socket.clone();
        let subnet = json!({"Config": [{"Subnet": "10.89.0.0/16"}]});
        let network = json!({"Name": NETWORK, "Driver": "bridge", "IPAM": subnet});
        Api::connect(&socket)?.post("/networks/create", network.to_string())?;
        let engine = Arc::new(engine);
        let worker = |_| {
            let (api, engine) = (Api::connect(&socket)?, Arc::clone(&engine));
            Ok(Box::new(Self { api, containers: HashSet::new(), _engine: engine }) as Box<dyn Worker>)
        };
        (0..count).map(worker).collect()
    }

    /// Starts the container of an order; it is in no network when this ends.
    fn start_container(&mut self, order: Order) -> Result<()> {
        let mut spec = json!({
            "Image": IMAGE, "Cmd": ["/bin/sleep", "1000000"], "HostConfig": {"NetworkMode": NETWORK},
        });
        if order.port == Port::Published {
            spec["ExposedPorts"] = json!({"80/tcp": {}});
            spec["HostConfig"]["PortBindings"] =
                json!({"80/tcp": [{"HostPort": order.host_port().to_string()}]});
        }
        let name = container(order);
        self.api.post(&format!("/containers/create?name={name}"), spec.to_string())?;
        self.api.post(&format!("/containers/{name}/start"), "")?;
        self.detach(order)
    }
}

fn container(order: Order) -> String {
    format!("{:?}-{}", order.port, order.slot).to_lowercase()
}

impl Worker for Docker {
    fn prepare(&mut self, orders: &[Order]) -> Result<()> {
        for &order in orders {
            if self.containers.insert(order) {
                self.start_container(order)?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, order: Order) -> Result<()> {
        let body = json!({"Container": container(order)});
        self.api.post(&format!("/networks/{NETWORK}/connect"), body.to_string())
    }

    fn detach(&mut self, order: Order) -> Result<()> {
        let body = json!({"Container": container(order), "Force": true});
        self.api.post(&format!("/networks/{NETWORK}/disconnect"), body.to_string())
    }

    fn create_network(&mut self, number: u8) -> Result<()> {
        let subnet = json!({"Config": [{"Subnet": format!("10.200.{number}.0/24")}]});
        let body = json!({"Name": format!("n{number}"), "Driver": "bridge", "IPAM": subnet});
        self.api.post("/networks/create", body.to_string())
    }

    fn remove_network(&mut self, number: u8) -> Result<()> {
        self.api.call(Method::DELETE, &format!("/networks/n{number}"), "")
    }
}

/// A connection to the API of the engine.
struct Api {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Api {
    fn connect(socket: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let sender = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the runtime, or when the engine hangs up: the next call tells.
            tokio::spawn(connection);
            anyhow::Ok(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<()> {
        self.call(Method::POST, path, body)
    }

    fn call(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<()> {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header("Host", "docker")
            .header("Content-Type", "application/json")
            .body(Full::new(body.into()))?;
        let (status, answer) = self.runtime.block_on(async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        })?;
        ensure!(status.is_success(), "{method} {path}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

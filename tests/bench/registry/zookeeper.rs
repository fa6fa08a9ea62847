//! `ZooKeeper`: an ephemeral node for each instance, below a node for each service.
//!
//! A client is one session on one connection and asks one thing at a time. Its protocol is length-prefixed records of
//! big-endian numbers and counted bytes (`zookeeper.jute` of version 3.8).

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use netloft_tests::bench::peers::Peers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::client::{Client, Instance, SERVICES, number, service_name};
use crate::contender::{Place, Syncing};
use crate::jute::{Reader, Request};

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const PING: i32 = 11;
const MULTI_READ: i32 = 22;
const ADD_WATCH: i32 = 106;
const CLOSE: i32 = -11;

const PERSISTENT: i32 = 0;
const EPHEMERAL: i32 = 1;
const RECURSIVE: i32 = 1;
const NODE_CREATED: i32 = 1;

/// Numbers of answers to nothing in particular.
const EVENT: i32 = -1;
const PONG: i32 = -2;
/// A node that is there already.
const NODE_EXISTS: i32 = -110;
/// Longer than anything here is silent.
const SESSION_MS: i32 = 600_000;
/// What it takes of memory, at most.
const HEAP: &str = "-Xmx2g";
/// Bytes of what is known of a node beside its data.
const STAT_LEN: usize = 68;

/// What it needs of what Debian has, some of which lists the others by the paths of an installation.
const JARS: [&str; 16] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "metrics-core",
    "snappy-java",
    "findbugs-annotations",
    "commons-cli",
    "commons-io",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "netty-buffer",
    "netty-common",
    "netty-handler",
    "netty-transport",
    "netty-transport-native-epoll",
];

pub(crate) fn server(syncing: Syncing, place: &Place, peers: &Peers) -> Result<Command> {
    let jars = JARS.iter().map(|name| peers.debian(&format!("usr/share/java/{name}.jar")));
    let classes = std::env::join_paths(jars.collect::<Result<Vec<_>>>()?)?;
    let java = peers.debian("usr/bin/java")?;
    let settings = place.data.join("zoo.cfg");
    fs::create_dir_all(&place.data)?;
    // By default it takes no more than 60 connections from one address.
    let text = format!(
        "tickTime=2000\ndataDir={}\nclientPortAddress={}\nclientPort={}\nmaxClientCnxns=0\n\
         maxSessionTimeout={SESSION_MS}\nadmin.enableServer=false\n",
        place.data.display(),
        place.address.ip(),
        place.address.port(),
    );
    fs::write(&settings, text)?;
    let mut command = peers.command(java);
    let force = if syncing == Syncing::Always { "yes" } else { "no" };
    command.arg(HEAP).arg(format!("-Dzookeeper.forceSync={force}")).arg("-cp").arg(classes);
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(settings);
    Ok(command)
}

pub(crate) struct Zookeeper {
    stream: BufReader<TcpStream>,
    /// The number of the last request.
    last: i32,
    /// Nodes that were created, and not told yet.
    created: VecDeque<String>,
}

impl Zookeeper {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut this = Self { stream: BufReader::new(stream), last: 0, created: VecDeque::new() };
        let (version, seen, no_session) = (0, 0, 0);
        let request = Request::new().int(version).long(seen).int(SESSION_MS).long(no_session);
        this.stream.write_all(&request.bytes(&[0; 16])?.bool(false).finish()?).await?;
        let answer = this.frame().await?;
        let mut answer = Reader::new(&answer);
        let (_, timeout) = (answer.int()?, answer.int()?);
        ensure!(timeout > 0, "there is no session");
        Ok(this)
    }

    /// Makes the nodes of all services.
    pub(crate) async fn prepare(&mut self) -> Result<()> {
        self.create("/services", b"", PERSISTENT).await?;
        for service in 0..SERVICES {
            self.create(&directory(service), b"", PERSISTENT).await?;
        }
        Ok(())
    }

    async fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Result<()> {
        // One entry: everybody may do everything.
        let access = |request: Request| request.int(1).int(31).text("world")?.text("anyone");
        let request = access(Request::new().text(path)?.bytes(data)?)?.int(flags);
        match self.ask(CREATE, request).await {
            Err(refused) if refused.downcast_ref() == Some(&Refused(NODE_EXISTS)) => Ok(()),
            asked => asked.map(drop),
        }
    }

    /// Asks for something; answers what follows the header of the answer.
    async fn ask(&mut self, kind: i32, request: Request) -> Result<Vec<u8>> {
        self.last += 1;
        let expected = if kind == PING { PONG } else { self.last };
        self.stream.write_all(&request.finish_with(expected, kind)?).await?;
        loop {
            let frame = self.frame().await?;
            let mut reader = Reader::new(&frame);
            let (answered, _, error) = (reader.int()?, reader.long()?, reader.int()?);
            if answered == EVENT {
                self.note(&mut reader)?;
            } else if answered == expected {
                return if error == 0 { Ok(reader.rest().to_vec()) } else { Err(Refused(error).into()) };
            } else {
                bail!("an answer to {answered} instead of {expected}");
            }
        }
    }

    fn note(&mut self, event: &mut Reader<'_>) -> Result<()> {
        let (kind, _) = (event.int()?, event.int()?);
        if kind == NODE_CREATED {
            self.created.push_back(event.text()?.to_owned());
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Vec<u8>> {
        let len = self.stream.read_u32().await?;
        let mut frame = vec![0; usize::try_from(len)?];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame)
    }
}

#[tonic::async_trait]
impl Client for Zookeeper {
    async fn register(&mut self, instance: Instance) -> Result<()> {
        let path = format!("{}/{}", directory(instance.service), instance.id());
        self.create(&path, &instance.json(), EPHEMERAL).await
    }

    /// Two round trips: the names, then all of their data at once.
    async fn lookup(&mut self, service: u32) -> Result<Vec<u32>> {
        let directory = directory(service);
        let listed = self.ask(GET_CHILDREN, Request::new().text(&directory)?.bool(false)).await?;
        let mut listed = Reader::new(&listed);
        let (mut reads, mut numbers) = (Request::new(), Vec::new());
        for _ in 0..listed.int()? {
            let name = listed.text()?;
            numbers.push(number(name)?);
            let is_last = false;
            reads = reads.int(GET_DATA).bool(is_last).int(-1);
            reads = reads.text(&format!("{directory}/{name}"))?.bool(false);
        }
        if numbers.is_empty() {
            return Ok(numbers);
        }
        let found = self.ask(MULTI_READ, reads.int(-1).bool(true).int(-1)).await?;
        let mut found = Reader::new(&found);
        for _ in &numbers {
            let (kind, _, error) = (found.int()?, found.bool()?, found.int()?);
            ensure!(kind == GET_DATA && error == 0, "a node could not be read: {error}");
            ensure!(!found.bytes()?.is_empty(), "there is nothing in it");
            found.skip(STAT_LEN)?;
        }
        Ok(numbers)
    }

    async fn heartbeat(&mut self) -> Result<()> {
        self.ask(PING, Request::new()).await.map(drop)
    }

    async fn watch(&mut self, service: u32) -> Result<()> {
        let request = Request::new().text(&directory(service))?.int(RECURSIVE);
        self.ask(ADD_WATCH, request).await.map(drop)
    }

    /// An event tells only that there is a node, so it is read.
    async fn changed(&mut self) -> Result<Vec<u32>> {
        while self.created.is_empty() {
            let frame = self.frame().await?;
            let mut reader = Reader::new(&frame);
            let (answered, _, _) = (reader.int()?, reader.long()?, reader.int()?);
            ensure!(answered == EVENT, "nothing was asked for");
            self.note(&mut reader)?;
        }
        let path = self.created.pop_front().context("one has just come")?;
        let data = self.ask(GET_DATA, Request::new().text(&path)?.bool(false)).await?;
        ensure!(!Reader::new(&data).bytes()?.is_empty(), "there is nothing in it");
        Ok(vec![number(&path)?])
    }

    async fn finish(&mut self) -> Result<()> {
        self.ask(CLOSE, Request::new()).await.map(drop)
    }
}

fn directory(service: u32) -> String {
    format!("/services/{}", service_name(service))
}

/// It said no, with one of its codes.
#[derive(Debug, PartialEq, Eq)]
struct Refused(i32);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused with code {}", self.0)
    }
}

impl std::error::Error for Refused {}

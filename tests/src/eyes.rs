//! What other programs see: `ip`, `ss`, `ping` and `curl`, here or in a sandbox.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::programs::tool;
use crate::running::{Finished, Running};

/// Where to look from.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// The host.
    Host,
    /// The network namespace at a path.
    Sandbox(&'a Path),
}

impl From<'_> {
    /// A tool that runs there.
    fn command(self, name: &str) -> Command {
        match self {
            Self::Host => Command::new(tool(name)),
            Self::Sandbox(netns) => {
                let mut command = Command::new(tool("nsenter"));
                command.arg(format!("--net={}", netns.display())).arg(tool(name));
                command
            }
        }
    }

    fn run(self, name: &str, arguments: &[&str]) -> Finished {
        let mut command = self.command(name);
        command.args(arguments);
        Running::spawn(command).wait()
    }

    /// What `ip -json -details` tells.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn ip(self, arguments: &[&str]) -> Vec<Value> {
        let text = self.run("ip", &[&["-json", "-details"], arguments].concat()).success();
        if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).expect("ip tells JSON") }
    }

    /// The names of the links.
    pub fn links(self) -> Vec<String> {
        self.ip(&["link"]).iter().filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect()
    }

    /// The listening TCP sockets, as `ss` prints them.
    ///
    /// # Panics
    ///
    /// If `ss` fails.
    pub fn listening(self) -> String {
        self.run("ss", &["-H", "-l", "-t", "-n"]).success()
    }

    /// Whether `ping` gets an answer.
    pub fn pings(self, address: IpAddr) -> bool {
        let address = address.to_string();
        self.run("ping", &["-n", "-q", "-c", "1", "-W", "1", &address]).status.success()
    }

    /// What `curl` gets; none if it fails.
    pub fn curl(self, address: SocketAddr) -> Option<String> {
        let url = format!("http://{address}/");
        // A proxy of the user's environment does not know our addresses.
        let got = self.run("curl", &["--silent", "--globoff", "--max-time", "5", "--noproxy", "*", &url]);
        got.status.success().then(|| got.stdout.trim_end().to_owned())
    }
}

//! The namespaces of sandboxes, and those that are to become some.

use std::path::Path;

use netloft_link::Conn;
use netloft_netns::Netns;
use netloft_types::{EndpointId, SandboxName};

use super::{LinuxKernel, missing};
use crate::kernel::{KernelError, SandboxNetns};

/// Connections that wait to be closed.
const RETIRED_LEN_MAX: usize = 8;

pub(super) struct Sandbox {
    pub(super) netns: SandboxNetns,
    /// A connection to the namespace, until the first interface is configured.
    pub(super) conn: Option<Conn>,
}

impl LinuxKernel {
    pub(super) fn create_netns(&mut self, sandbox: &SandboxName) -> Result<(), KernelError> {
        let conn = self.stock.pop().map_or_else(|| Conn::create_sandbox(&self.enterer), Ok)?;
        self.name_sandbox(sandbox, conn.netns().clone(), Some(conn))
    }

    pub(super) fn adopt_netns(&mut self, sandbox: &SandboxName, path: &Path) -> Result<(), KernelError> {
        // From here on by the handle: whatever is put at the path later does not matter.
        let handle = Netns::open(path)?;
        self.name_sandbox(sandbox, handle, None)
    }

    /// Leaves the stock alone: that is for those who cannot use what is made here.
    pub(super) fn create_unnamed(&mut self, endpoint: EndpointId) -> Result<(), KernelError> {
        let conn = Conn::create_sandbox(&self.enterer)?;
        let handle = conn.netns().clone();
        let netns = SandboxNetns { path: handle.path(), handle };
        self.unnamed.insert(endpoint, Sandbox { netns, conn: Some(conn) });
        Ok(())
    }

    /// If it fails the namespace is gone: nobody holds it any more.
    pub(super) fn name_netns(
        &mut self,
        endpoint: EndpointId,
        sandbox: &SandboxName,
    ) -> Result<(), KernelError> {
        let found = self.unnamed.remove(&endpoint);
        let found = found.ok_or_else(|| missing("network namespace of endpoint", &endpoint.to_string()))?;
        self.name_sandbox(sandbox, found.netns.handle, found.conn)
    }

    fn name_sandbox(
        &mut self,
        sandbox: &SandboxName,
        handle: Netns,
        conn: Option<Conn>,
    ) -> Result<(), KernelError> {
        let path = if let Some(dir) = &self.netns_dir {
            dir.bind(sandbox, &handle)?;
            dir.path_of(sandbox)
        } else {
            handle.path()
        };
        let netns = SandboxNetns { handle, path };
        self.sandboxes.insert(sandbox.clone(), Sandbox { netns, conn });
        Ok(())
    }

    /// Where the end of an endpoint is that is not in the host: in a namespace made for it, or else in its sandbox.
    pub(super) fn home(
        &mut self,
        endpoint: EndpointId,
        sandbox: &SandboxName,
    ) -> Result<&mut Sandbox, KernelError> {
        let found = self.unnamed.get_mut(&endpoint).or_else(|| self.sandboxes.get_mut(sandbox));
        found.ok_or_else(|| missing("sandbox", sandbox))
    }

    /// A connection to where the other end of an endpoint is: the one its namespace was made with, or another.
    pub(super) fn conn_inside(
        &mut self,
        endpoint: EndpointId,
        sandbox: &SandboxName,
    ) -> Result<Conn, KernelError> {
        let found = self.home(endpoint, sandbox)?;
        if let Some(conn) = found.conn.take() {
            return Ok(conn);
        }
        let handle = found.netns.handle.clone();
        Ok(Conn::open(&self.enterer, &handle)?)
    }

    /// Keeps a connection that is done with until there is time to close it.
    pub(super) fn retire(&mut self, conn: Conn) {
        if self.retired.len() >= RETIRED_LEN_MAX {
            self.retired.clear();
        }
        self.retired.push(conn);
    }

    pub(super) fn drop_netns(&mut self, sandbox: &SandboxName) -> Result<(), KernelError> {
        if self.sandboxes.contains_key(sandbox) {
            if let Some(dir) = &self.netns_dir {
                dir.delete(sandbox)?;
            }
            self.sandboxes.remove(sandbox);
        }
        Ok(())
    }
}

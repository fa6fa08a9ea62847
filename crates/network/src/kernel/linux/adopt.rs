//! What an earlier process made: found, taken over, or taken away.

use std::collections::BTreeMap;

use netloft_link::{LinkGroup, LinkIndex, LinkKind};
use netloft_netns::NetnsDir;
use netloft_types::{InterfaceAddr, InterfaceName, SandboxName};
use tracing::debug;

use super::{CORPSES, LinuxKernel, Sandbox, ifb_of};
use crate::driver::PROTOCOL;
use crate::error::chain;
use crate::kernel::{FoundLink, KernelError, SandboxNetns, Stray, Survey};
use crate::plan::{Macvlan, Step, Veth};

/// What everything of ours says of itself before anything else.
const MARK: &str = "netloft:";

impl LinuxKernel {
    pub(super) fn look_around(&mut self) -> Result<Survey, KernelError> {
        let all = self.conn.links()?;
        let mut addresses: BTreeMap<LinkIndex, Vec<InterfaceAddr>> = BTreeMap::new();
        for held in self.conn.addresses()? {
            addresses.entry(held.link).or_default().push(held.address);
        }
        let is_limited = |ifb: &str| {
            all.iter().any(|link| {
                let name: Result<InterfaceName, _> = link.name.parse();
                link.kind == LinkKind::Veth && name.is_ok_and(|name| ifb_of(&name).as_str() == ifb)
            })
        };
        let ours = all.iter().filter_map(|link| {
            let alias = link.alias.clone().filter(|alias| alias.starts_with(MARK))?;
            // That of a link belongs to the link, and goes when the link does.
            if link.kind == LinkKind::Ifb && is_limited(&link.name) {
                return None;
            }
            Some(FoundLink {
                name: link.name.parse().ok()?,
                mac: link.mac?,
                index: link.index.number(),
                bridge: link.master.map(LinkIndex::number),
                addresses: addresses.remove(&link.index).unwrap_or_default(),
                alias,
                is_cut: link.group == Some::<LinkGroup>(CORPSES),
            })
        });
        let links = ours.collect();
        let rules = self.conn.prohibitions()?;
        Ok(Survey {
            links,
            sandboxes: self.netns_dir.as_ref().map(NetnsDir::list).transpose()?.unwrap_or_default(),
            prohibitions: rules.into_iter().filter(|rule| rule.protocol == PROTOCOL).collect(),
        })
    }

    pub(super) fn take_over(&mut self, step: &Step, survey: &Survey) -> Result<bool, KernelError> {
        let link = |name, mac| survey.links.iter().find(|it| it.name == name && it.mac == mac && !it.is_cut);
        match step {
            Step::CreateBridge(spec) => {
                let found = link(spec.name.clone(), spec.mac).and_then(|it| LinkIndex::from_number(it.index));
                if let Some(index) = found {
                    self.bridges.insert(spec.name.clone(), index);
                }
                Ok(found.is_some())
            }
            Step::ProhibitForwarding(rule) => Ok(survey.prohibitions.contains(rule)),
            Step::CreateNetns { sandbox }
            | Step::AdoptNetns { sandbox, .. }
            | Step::NameNetns { sandbox, .. } => Ok(self.take_over_sandbox(sandbox)),
            // Gone with the process that made it.
            Step::CreateUnnamed { .. } => Ok(false),
            Step::CreateVeth(veth) => {
                Ok(self.take_over_veth(veth, link(veth.host_link.clone(), veth.host_mac)))
            }
            Step::CreateMacvlan(macvlan) => self.take_over_macvlan(macvlan),
            // The packet filter is established as a whole, and what came after the link was made with it.
            Step::Admit { .. } | Step::Limit { .. } | Step::ConfigureInside(_) | Step::OpenWayBack(_) => {
                Ok(true)
            }
        }
    }

    fn take_over_sandbox(&mut self, sandbox: &SandboxName) -> bool {
        if self.sandboxes.contains_key(sandbox) {
            return true;
        }
        let Some(dir) = &self.netns_dir else { return false };
        match dir.find(sandbox) {
            Ok(handle) => {
                let netns = SandboxNetns { handle, path: dir.path_of(sandbox) };
                self.sandboxes.insert(sandbox.clone(), Sandbox { netns, conn: None });
                true
            }
            Err(error) => {
                debug!(%sandbox, error = chain(&error), "its namespace is not there");
                false
            }
        }
    }

    fn take_over_veth(&mut self, veth: &Veth, found: Option<&FoundLink>) -> bool {
        let bridge = self.bridges.get(&veth.bridge).map(|index| index.number());
        let is_there = found.is_some_and(|found| found.bridge.is_some() && found.bridge == bridge);
        if is_there {
            self.links.entry(veth.endpoint).or_insert(None);
        }
        is_there
    }

    fn take_over_macvlan(&mut self, macvlan: &Macvlan) -> Result<bool, KernelError> {
        if !self.sandboxes.contains_key(&macvlan.sandbox) {
            return Ok(false);
        }
        let mut inside = self.conn_inside(macvlan.endpoint, &macvlan.sandbox)?;
        let found = inside.link(&macvlan.interface)?;
        let is_there = found.is_some_and(|link| link.mac == Some(macvlan.mac));
        if is_there {
            self.links.entry(macvlan.endpoint).or_insert(None);
        }
        Ok(is_there)
    }

    /// What others have taken from a bridge or from the inside of a sandbox.
    pub(super) fn look_closer(
        &mut self,
        step: &Step,
        survey: &Survey,
    ) -> Result<Option<String>, KernelError> {
        match step {
            Step::CreateBridge(spec) => {
                let found = survey.links.iter().find(|link| link.name == spec.name);
                let held = found.map(|link| &*link.addresses).unwrap_or_default();
                let missing = spec.addresses.iter().find(|wanted| !held.contains(wanted));
                Ok(missing.map(|address| format!("bridge {} has lost its address {address}", spec.name)))
            }
            Step::ConfigureInside(inside) if self.sandboxes.contains_key(&inside.sandbox) => {
                let mut conn = self.conn_inside(inside.endpoint, &inside.sandbox)?;
                let held: Vec<InterfaceAddr> = conn.addresses()?.iter().map(|it| it.address).collect();
                let missing = inside.addresses.iter().find(|wanted| !held.contains(wanted));
                if let Some(address) = missing {
                    return Ok(Some(format!("sandbox {} has lost its address {address}", inside.sandbox)));
                }
                let hops: Vec<_> = conn.routes()?.into_iter().filter_map(|route| route.gateway).collect();
                let missing = inside.gateways.iter().find(|wanted| !hops.contains(wanted));
                Ok(missing.map(|hop| format!("sandbox {} has lost its route by {hop}", inside.sandbox)))
            }
            Step::OpenWayBack(way) if self.sandboxes.contains_key(&way.sandbox) => {
                let lost = Self::lost_way_back(&mut self.conn_inside(way.endpoint, &way.sandbox)?, way)?;
                Ok(lost
                    .map(|address| format!("sandbox {} has lost its way back from {address}", way.sandbox)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn take_away(&mut self, stray: &Stray) -> Result<(), KernelError> {
        match stray {
            Stray::Link { name, mac } => match self.conn.link(name)?.filter(|link| link.mac == Some(*mac)) {
                Some(link) if link.kind == LinkKind::Bridge => Ok(self.conn.delete_link(name)?),
                Some(_) => {
                    self.conn.cut(&ifb_of(name), CORPSES)?;
                    Ok(self.conn.cut(name, CORPSES)?)
                }
                None => Ok(()),
            },
            Stray::Sandbox(sandbox) => match &self.netns_dir {
                Some(dir) => Ok(dir.delete(sandbox)?),
                None => Ok(()),
            },
            Stray::Prohibition(rule) => Ok(self.conn.delete_prohibition(rule)?),
        }
    }
}

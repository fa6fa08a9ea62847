//! What others do to what is ours, and what we do about it.

use netloft_types::{EndpointId, InterfaceName, Network, Segment, Subnet};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tracing::{info, warn};

use super::{Change, State};
use crate::driver;
use crate::error::{Error, chain};
use crate::kernel::{Incident, Watch};
use crate::record::EndpointRecord;

impl State {
    pub(crate) fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, Error> {
        self.kernel.watch().map_err(Error::Open)
    }

    /// The endpoints that are lost from now on.
    pub(crate) fn losses(&mut self) -> UnboundedReceiver<EndpointId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.mourners.push(sender);
        receiver
    }

    pub(crate) fn handle(&mut self, incident: &Incident) {
        match incident {
            Incident::Filter => self.put_filter_right(),
            Incident::LinkGone(name) if self.is_lost(name) => self.mourn(|link| link == name),
            Incident::LinkGone(_) => {}
            Incident::Route(route) => self.compare(*route),
            Incident::Overrun => {
                self.put_filter_right();
                self.look_for_losses();
            }
        }
    }

    /// Whether it is a link of an endpoint, and not there: the one that is gone may have been an earlier one of that name,
    /// from a try that failed.
    fn is_lost(&mut self, link: &InterfaceName) -> bool {
        let made = self.made_endpoints().map(|record| (self.network_of(record), record));
        let is_of = |(network, record): (&Network, &EndpointRecord)| {
            driver::of(network).host_link(record.id).is_some_and(|ours| ours == *link)
        };
        let is_ours = made.chain(self.ready()).any(is_of);
        is_ours && !self.kernel.is_link(link).unwrap_or(false)
    }

    fn put_filter_right(&mut self) {
        let is_disturbed = self.kernel.is_filter_disturbed().unwrap_or(true);
        if self.networks.is_empty() || !is_disturbed {
            return;
        }
        match self.establish() {
            Ok(()) => info!("somebody changed the packet filter: it is as it was"),
            Err(error) => warn!(error = chain(&error), "somebody changed the packet filter, and it stays so"),
        }
    }

    fn look_for_losses(&mut self) {
        match self.kernel.survey() {
            Ok(survey) => {
                self.mourn(|link| !survey.links.iter().any(|found| found.name == *link && !found.is_cut));
            }
            Err(error) => warn!(error = chain(&error), "cannot tell whether links are gone"),
        }
    }

    /// Detaches the endpoints whose link is gone, and has nobody get a ready one of that kind.
    fn mourn(&mut self, is_gone: impl Fn(&InterfaceName) -> bool) {
        self.dissolve_all(|network, record| {
            driver::of(network).host_link(record.id).is_some_and(|link| is_gone(&link))
        });
        let lost = self.made_endpoints().filter_map(|record| {
            let link = driver::of(self.network_of(record)).host_link(record.id)?;
            is_gone(&link).then_some(record.id)
        });
        let lost: Vec<EndpointId> = lost.collect();
        for id in lost {
            warn!(endpoint = %id, "its link is gone, and not by us: detaching what is left");
            let outcomes = self.carry_out(vec![Change::Detach(id)]);
            for error in outcomes.into_iter().filter_map(super::Outcome::into_error) {
                warn!(endpoint = %id, error = chain(&error), "cannot detach what is left");
            }
            self.mourners.retain(|mourner| mourner.send(id).is_ok());
        }
    }

    /// Warns of a route that leads elsewhere what is ours.
    fn compare(&self, route: Subnet) {
        for entry in self.networks.values().filter(|entry| entry.record.network.bridge().is_some()) {
            let subnets = entry.record.network.segments.iter().map(Segment::subnet);
            for subnet in subnets.filter(|subnet| *subnet != route && subnet.overlaps(&route)) {
                let network = &entry.record.network.name;
                warn!(%network, %subnet, %route, "a new route of the host overlaps a subnet of a network");
            }
        }
    }
}

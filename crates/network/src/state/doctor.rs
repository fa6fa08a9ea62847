//! Looking for what is wrong: what was decided against what there is.

use netloft_types::Segment;

use super::State;
use crate::doctor::Finding;
use crate::driver;
use crate::error::Error;
use crate::kernel::Survey;
use crate::plan::Plan;

impl State {
    /// Everything that is not as it should be. Changes nothing.
    pub(crate) fn examine(&mut self) -> Result<Vec<Finding>, Error> {
        let survey = self.kernel.survey().map_err(Error::ReadHost)?;
        let mut findings = self.examine_objects(&survey)?;
        findings.extend(self.strays_in(survey).into_iter().map(Finding::stray));
        let facts = self.facts();
        let audit = self.kernel.audit(&facts).map_err(Error::Filter)?;
        findings.extend(audit.into_iter().map(Finding::filter));
        findings.extend(self.examine_host()?);
        findings.extend(self.debris.iter().map(|debris| Finding::debris(debris.claimed.as_ref())));
        Ok(findings)
    }

    /// What was made and is not there any more.
    fn examine_objects(&mut self, survey: &Survey) -> Result<Vec<Finding>, Error> {
        let mut missing = Vec::new();
        for plan in self.plans() {
            for step in plan.steps() {
                if !self.kernel.adopt(step, survey).map_err(Error::ReadHost)? {
                    missing.push(Finding::missing(step));
                } else if let Some(difference) = self.kernel.differs(step, survey).map_err(Error::ReadHost)? {
                    missing.push(Finding::changed(&difference));
                }
            }
        }
        Ok(missing)
    }

    fn plans(&self) -> Vec<Plan> {
        let networks = self.made_networks().map(|network| driver::of(network).plan_network(network));
        let endpoints = self.made_endpoints().flat_map(|record| {
            let network = self.network_of(record);
            [driver::plan_sandbox(record), driver::of(network).plan_endpoint(network, record)]
        });
        networks.chain(endpoints).collect()
    }

    fn examine_host(&mut self) -> Result<Vec<Finding>, Error> {
        let host = self.kernel.host().map_err(Error::ReadHost)?;
        let mut findings = Vec::new();
        for entry in self.networks.values() {
            let network = &entry.record.network;
            if network.bridge().is_none() {
                continue;
            }
            for subnet in network.segments.iter().map(Segment::subnet) {
                let others = host.subnets.iter().filter(|used| **used != subnet && used.overlaps(&subnet));
                findings.extend(others.map(|used| Finding::overlap(network, subnet, *used)));
            }
        }
        for family in &self.forwarded {
            if !host.forwards.contains(family) {
                findings.push(Finding::not_forwarding(*family));
            }
        }
        Ok(findings)
    }
}

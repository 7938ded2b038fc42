//! A fault that stands.

use crate::fault::{Change, Fault};
use crate::service::{Running, Service};
use crate::site::{self, Place, Site};
use crate::traffic::Flowing;
use whydrop_host::act::Undo;
use whydrop_host::error::{Error, Result};
use whydrop_model::Action;
use whydrop_model::text;

/// Namespaces with services and traffic, well or broken. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: senders, servers, namespaces.
    flowing: Vec<Flowing>,
    services: Vec<Running>,
    site: Site,
    fault: Fault,
    name: String,
    back: Vec<Back>,
}

/// How a change is taken back.
#[derive(Debug)]
enum Back {
    Act(Place, Vec<Undo>),
    Tool(Place, &'static [&'static str]),
    Serve,
}

impl Lab {
    /// Builds what the fault needs, in good order, with its traffic flowing. Namespaces are called `NAME-client`,
    /// `NAME-server` …
    pub fn build(fault: Fault, name: &str) -> Result<Self> {
        let site = Site::build(fault.topology, name)?;
        let mut lab =
            Self { flowing: vec![], services: vec![], site, fault, name: name.to_owned(), back: vec![] };
        lab.serve(&lab.fault.services.clone())?;
        let client = lab.site.named(Place::Client)?.netns();
        lab.flowing = lab.fault.traffic.iter().map(|t| t.start(client)).collect::<Result<_>>()?;
        Ok(lab)
    }

    /// Makes the changes of the fault.
    pub fn break_it(&mut self) -> Result<()> {
        for change in self.fault.changes.clone() {
            match change {
                Change::Act(at, action) => {
                    let undo = self.site.apply(at, &action)?;
                    self.back.push(Back::Act(at, undo));
                }
                Change::Tool { at, argv, undo } => {
                    site::run(self.site.named(at)?.netns(), argv)?;
                    self.back.push(Back::Tool(at, undo));
                }
                Change::Serve(services) => {
                    self.serve(&services)?;
                    self.back.push(Back::Serve);
                }
                Change::Send(traffic, time) => {
                    let flowing = traffic.start(self.site.named(Place::Client)?.netns())?;
                    std::thread::sleep(time);
                    drop(flowing);
                }
            }
        }
        Ok(())
    }

    /// Takes the changes back, the last one first.
    pub fn mend(&mut self) -> Result<()> {
        while let Some(back) = self.back.pop() {
            match back {
                Back::Act(at, undo) => self.site.take_back(at, &undo)?,
                Back::Tool(at, undo) => site::run(self.site.named(at)?.netns(), undo)?,
                Back::Serve => self.serve(&self.fault.services.clone())?,
            }
        }
        Ok(())
    }

    /// The fault.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The namespaces.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What to diagnose, as `whydrop` names it.
    pub fn target(&self) -> String {
        self.target_of(self.fault.target)
    }

    /// Where its probes start, as `whydrop` names it.
    pub fn vantage(&self) -> String {
        self.target_of(Place::Client)
    }

    /// The words after `whydrop diagnose` that look at it: target, vantage, probes.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.target(), "--from".into(), self.vantage()];
        for url in &self.fault.probes {
            words.extend(["--probe".to_owned(), (*url).to_owned()]);
        }
        words
    }

    /// Makes a change in the namespace that `whydrop` calls `target`: a step of a fix.
    pub fn apply(&self, target: &str, action: &Action) -> Result<()> {
        let places = self.fault.topology.places();
        let place = places.iter().find(|place| self.target_of(**place) == target);
        let place = place.ok_or_else(|| {
            Error::new(
                text!("change {object}", "改动 {object}"),
                target,
                text!("it is not part of the lab", "它不属于该现场").phrase(),
            )
        })?;
        self.site.apply(*place, action).map(drop)
    }

    fn target_of(&self, place: Place) -> String {
        format!("netns:{}", Site::namespace(&self.name, place))
    }

    /// Serves these instead of what is served now.
    fn serve(&mut self, services: &[Service]) -> Result<()> {
        // The old ones first: they hold the ports.
        self.services.clear();
        let netns = self.site.named(Place::Server)?.netns();
        self.services = services.iter().map(|s| s.start(netns)).collect::<Result<_>>()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds at once: each waits up to a second until its links carry packets.
    const THREADS: usize = 8;

    /// Needs root, as all that a lab does; without it the first namespace is refused.
    #[test]
    fn every_fault_is_set_up_and_taken_back() {
        let name = format!("wd-lab-{}", std::process::id());
        if !rustix::process::geteuid().is_root() {
            assert!(Lab::build(crate::source_case(false), &name).is_err());
            return;
        }
        let mut faults = crate::list();
        faults.push(crate::source_case(false));
        std::thread::scope(|scope| {
            for (i, share) in faults.chunks(faults.len().div_ceil(THREADS)).enumerate() {
                let name = format!("{name}-{i}");
                scope.spawn(move || share.iter().for_each(|fault| there_and_back(fault.clone(), &name)));
            }
        });
    }

    fn there_and_back(fault: Fault, name: &str) {
        let id = fault.id;
        if fault.missing().is_some() {
            return;
        }
        let mut lab = Lab::build(fault, name).unwrap_or_else(|e| panic!("{id}: {e}"));
        lab.break_it().unwrap_or_else(|e| panic!("{id}: {e}"));
        lab.mend().unwrap_or_else(|e| panic!("{id}: {e}"));
        drop(lab);
        assert!(!std::path::Path::new(&format!("/run/netns/{name}-server")).exists(), "{id} left its name");
    }
}

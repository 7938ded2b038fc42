//! A fault that stands.

use crate::fault::{Change, Fault};
use crate::service::{Running, Service};
use crate::site::{self, Place, Site};
use crate::traffic::{Flowing, Traffic};
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
    other_services: Vec<Running>,
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
    Traffic,
}

impl Lab {
    /// Builds what the fault needs, in good order, with its traffic flowing. Namespaces are called `NAME-client`,
    /// `NAME-server` …
    pub fn build(fault: Fault, name: &str) -> Result<Self> {
        let site = Site::build(fault.topology, name)?;
        let mut lab = Self {
            flowing: vec![],
            services: vec![],
            other_services: vec![],
            site,
            fault,
            name: name.to_owned(),
            back: vec![],
        };
        lab.make(&lab.fault.prepared.clone())?;
        // What is prepared stays.
        lab.back.clear();
        lab.serve(&lab.fault.services.clone())?;
        let others = lab.fault.other_services.clone();
        let start = |service: &Service| service.start(lab.site.named(Place::Other)?.netns());
        lab.other_services = others.iter().map(start).collect::<Result<_>>()?;
        lab.send(&lab.fault.traffic.clone())?;
        Ok(lab)
    }

    /// Makes the changes of the fault.
    pub fn break_it(&mut self) -> Result<()> {
        self.make(&self.fault.changes.clone())
    }

    fn make(&mut self, changes: &[Change]) -> Result<()> {
        for change in changes.iter().cloned() {
            match change {
                Change::Act(at, action) => {
                    let undo = self.site.apply(at, &action)?;
                    self.back.push(Back::Act(at, undo));
                }
                Change::Tool { at, argv, undo } => {
                    self.tool(at, argv)?;
                    self.back.push(Back::Tool(at, undo));
                }
                Change::Serve(services) => {
                    self.serve(&services)?;
                    self.back.push(Back::Serve);
                }
                Change::Traffic(traffic) => {
                    self.send(&traffic)?;
                    self.back.push(Back::Traffic);
                }
                Change::Send(traffic, time) => {
                    let flowing = traffic.start(self.site.named(self.fault.sender)?.netns())?;
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
                Back::Tool(at, undo) => self.tool(at, undo)?,
                Back::Serve => self.serve(&self.fault.services.clone())?,
                Back::Traffic => self.send(&self.fault.traffic.clone())?,
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
        self.target_of(self.fault.sender)
    }

    /// The words after `whydrop diagnose` that look at it: target, vantage, probes.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.target()];
        if !self.fault.probes.is_empty() {
            words.extend(["--from".into(), self.vantage()]);
        }
        for url in &self.fault.probes {
            words.extend(["--probe".to_owned(), (*url).to_owned()]);
        }
        words
    }

    /// The targets to be asked about without a probe, as `whydrop` names them, one list for each asking.
    pub fn askings(&self) -> Vec<Vec<String>> {
        let name = |ends: &[Place]| ends.iter().map(|end| self.target_of(*end)).collect();
        self.fault.asked.iter().map(|ends| name(ends)).collect()
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

    /// A command in a namespace, with the names of the namespaces filled in.
    fn tool(&self, at: Place, argv: &[&str]) -> Result<()> {
        let fill = |word: &str| {
            self.fault.topology.places().iter().fold(word.to_owned(), |word, place| {
                word.replace(&format!("{{{}}}", place.word()), &Site::namespace(&self.name, *place))
            })
        };
        let argv: Vec<String> = argv.iter().map(|word| fill(word)).collect();
        site::run(self.site.named(at)?.netns(), &argv)
    }

    /// A namespace as `whydrop` names it.
    pub fn target_of(&self, place: Place) -> String {
        format!("netns:{}", Site::namespace(&self.name, place))
    }

    /// Sends this instead of what is sent now.
    fn send(&mut self, traffic: &[Traffic]) -> Result<()> {
        // The old ones first: a script may hold a device.
        self.flowing.clear();
        let sender = self.site.named(self.fault.sender)?.netns();
        self.flowing = traffic.iter().map(|t| t.start(sender)).collect::<Result<_>>()?;
        Ok(())
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

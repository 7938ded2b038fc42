//! Machines of systemd-nspawn: what machined registered, and nspawn's own command lines.

use super::processes::{Monitor, NSPAWN};
use super::{Container, Told, files};
use std::collections::HashMap;
use std::path::Path;
use whydrop_model::TargetKind;

/// A file for each registered machine (systemd, `src/machine/machine.c`, `machine_save`).
const REGISTERED: &str = "/run/systemd/machines";
/// Where machines are kept, running or not.
const KEPT: &str = "/var/lib/machines";
/// Bytes of such a file.
const STATE: usize = 64 << 10;

pub(super) fn told(monitors: &[Monitor]) -> Vec<Told> {
    let mut containers: Vec<Container> = registered(&files::on_machine(REGISTERED));
    let mut add = |container: Container| {
        if containers.iter().all(|known| known.id != container.id) {
            containers.push(container);
        }
    };
    let nspawns = monitors.iter().filter(|monitor| monitor.comm.starts_with(NSPAWN));
    nspawns.filter_map(running).for_each(&mut add);
    for name in files::names(&files::on_machine(KEPT)).into_iter().filter(|name| !name.starts_with('.')) {
        add(machine(name.trim_end_matches(".raw")));
    }
    vec![Told { source: "machines".to_owned(), containers: Ok(containers) }]
}

fn machine(name: &str) -> Container {
    Container { names: vec![name.to_owned()], ..Container::new(TargetKind::Machine, name) }
}

fn registered(directory: &Path) -> Vec<Container> {
    let named = files::names(directory).into_iter().filter_map(|name| {
        // `unit:NAME` is a link to the same file.
        let text = files::text(&directory.join(&name), STATE)?;
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        // A virtual machine's network is not the namespace of the program that runs it.
        if fields.get("CLASS") != Some(&"container") {
            return None;
        }
        let mut out = machine(&name);
        let leader = fields.get("LEADER").and_then(|pid| pid.parse::<u32>().ok());
        out.pid = leader.filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        out.running = out.pid.is_some();
        Some(out)
    });
    named.collect()
}

/// The machine that an nspawn runs; its payload is nspawn's child.
fn running(nspawn: &Monitor) -> Option<Container> {
    let directory = nspawn.option(&["-D", "--directory", "-i", "--image"]);
    let named = nspawn.option(&["-M", "--machine"]);
    let name = named.or_else(|| Path::new(directory?).file_name()?.to_str())?;
    let mut out = machine(name);
    out.uid = nspawn.uid;
    out.pid = nspawn.children().first().copied();
    out.running = out.pid.is_some();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_machined_registers() {
        let directory = std::env::temp_dir().join(format!("whydrop-machines-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let own = std::process::id();
        for (name, class, pid) in
            [("web", "container", own), ("vm", "vm", own), ("gone", "container", u32::MAX)]
        {
            let text =
                format!("# This is private data. Do not parse.\nNAME={name}\nCLASS={class}\nLEADER={pid}\n");
            std::fs::write(directory.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("web", directory.join("unit:machine-web.scope")).unwrap();
        let mut found = registered(&directory);
        std::fs::remove_dir_all(&directory).unwrap();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let [gone, web] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((web.name(), web.pid, gone.running), ("web", Some(own), false));
    }

    #[test]
    fn an_nspawn_that_is_not_registered() {
        let of = |line: &str| {
            let words = line.split(' ').map(str::to_owned).collect();
            running(&Monitor { pid: u32::MAX, uid: 0, comm: NSPAWN.into(), words }).map(|machine| machine.id)
        };
        assert_eq!(of("systemd-nspawn -D /srv/web --register=no").as_deref(), Some("web"));
        assert_eq!(of("systemd-nspawn --machine=shop -D /srv/web").as_deref(), Some("shop"));
        assert_eq!(of("systemd-nspawn"), None);
    }
}

//! `cargo xtask vm`: the whole-program tests in QEMU guests with Debian's kernels.
//!
//! Guests have what a container host's kernel may lack (netem, police, VLAN, bonding …), and the kernels that
//! whydrop promises to run on. The test programs are those of `cargo test`, copied with their libraries.

mod guest;
mod image;
mod kernel;
mod verifier;

use crate::process::{cache_directory, target_directory};
use crate::programs;
use crate::{apt, dist};
use anyhow::{Result, bail};
use kernel::Kind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Test programs that run in the guests, each with a flag and a filter: what is `#[ignore]`d where the kernel may lack
/// something runs here. Of the faults see [`FAULTS`].
const TESTS: [(&str, &str, &str); 5] = [
    ("whydrop_host", "--include-ignored --skip verifier", ""),
    ("trace_places", "", ""),
    // A storm is more than an emulated machine can make.
    ("flows_kernel", "--skip storm", ""),
    ("trace_ladder", "--include-ignored", ""),
    ("source_case", "--include-ignored", ""),
];

/// The tests of the ladder below BPF, where the kernel's types are hidden.
const WITHOUT_TYPES: [(&str, &str, &str); 1] = [("trace_ladder", "", "without_")];

/// What a locked kernel might refuse: the tracer, and what it reads of the kernel.
const LOCKED_DOWN: [(&str, &str, &str); 2] =
    [("trace_places", "", ""), ("trace_ladder", "--include-ignored", "")];

/// What each program costs the verifier.
const VERIFIER: &str = "/payload/whydrop_host --ignored --nocapture verifier";

/// The program without the tests' help, where those do not run or not all of them.
const BY_HAND: [(&str, &str); 2] = [
    // 1: a loss was found.
    ("fault", "/payload/whydrop lab run qdisc.netem_loss; test $? = 1"),
    ("demo", "/payload/whydrop demo"),
];

/// The best step of the ladder counts and names what a rule drops.
const TRACED: &str = "\
/payload/whydrop self-check | grep 'drop_events *seen *tp_btf' || exit 1
/payload/whydrop lab up netfilter.drop_rule > /dev/null
/payload/whydrop trace netns:lab-server --duration 8s > /tmp/traced
/payload/whydrop lab down > /dev/null
tail -n 12 /tmp/traced
grep -q NETFILTER_DROP /tmp/traced";

/// The live faults, and the one of those that need modules that shows that the program as a whole works: `--filter vlan`
/// runs others. All that need none run on the host, faster.
const FAULTS: &str = "live";
const FAULT: &str = "qdisc.netem_loss";

/// Guests at a time: each one keeps two cores busy.
const AT_ONCE: usize = 2;

/// Options of `cargo xtask vm`.
#[derive(clap::Parser)]
pub struct Options {
    /// Kernels to boot
    #[arg(long, value_delimiter = ',', default_values_t = kernel::KERNELS.map(|(name, ..)| name.to_owned()))]
    pub kernels: Vec<String>,
    /// Run only the tests whose name contains this
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Run this shell command in the guests instead of the tests; the program is /payload/whydrop
    #[arg(long)]
    pub exec: Option<String>,
    /// Only count what each program of the tracer costs the verifier of each kernel, and write the table
    #[arg(long, conflicts_with = "exec")]
    pub verifier: bool,
    /// QEMU accelerator; `kvm` is faster where it works
    #[arg(long, default_value = "tcg,thread=multi")]
    pub accelerator: String,
    /// Seconds that one guest may take
    #[arg(long, default_value_t = 1500)]
    pub deadline: u64,
}

/// Names of the guests that have nothing special: what CI has time for.
pub fn usual() -> Vec<&'static str> {
    kernel::KERNELS.iter().filter(|(.., kind)| *kind == Kind::Usual).map(|(name, ..)| *name).collect()
}

/// Runs the guests; an error names those that failed.
pub fn run(options: &Options) -> Result<()> {
    apt::install_missing(apt::TEST_TOOLS)?;
    apt::install_missing(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("strip", "binutils"),
        apt::DEBIAN_KEYS,
    ])?;
    let cache = cache_directory("kernels")?;
    let directory = target_directory()?.join("vm");
    std::fs::create_dir_all(&directory)?;
    let kernels =
        options.kernels.iter().map(|name| kernel::Kernel::fetch(name, &cache)).collect::<Result<Vec<_>>>()?;
    let (arm, others): (Vec<_>, Vec<_>) = kernels.iter().partition(|kernel| kernel.kind == Kind::Arm);
    let base =
        if others.is_empty() { None } else { Some(image::Base::build(&directory, &payload(options)?)?) };
    let arm = if arm.is_empty() { None } else { Some(foreign(&directory)?) };

    let counted = Mutex::new(verifier::Table::default());
    let waiting = Mutex::new(kernels.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().map(|mut kernels| kernels.next());
                    let Ok(Some(kernel)) = next else { break };
                    let base = if kernel.kind == Kind::Arm { &arm } else { &base };
                    let Some(base) = base else { break };
                    let script = script(kernel.kind, options);
                    let outcome = base.with_modules(kernel, &script, &directory).and_then(|image| {
                        let outcome = guest::run(
                            kernel,
                            &image,
                            &options.accelerator,
                            Duration::from_secs(options.deadline),
                        );
                        std::fs::remove_file(&image)?;
                        outcome
                    });
                    if let (Ok(lines), Ok(mut table)) = (&outcome, counted.lock()) {
                        table.add(kernel, lines);
                    }
                    if let Err(error) = outcome {
                        eprintln!("[{}] FAILED: {error:#}", kernel.name);
                        failed.lock().map(|mut names| names.push(kernel.name.clone())).ok();
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if options.verifier && failed.is_empty() {
        counted.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).write()?;
    }
    println!("{} passed, {} failed", kernels.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("guests failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The program and its whole-program tests. Emulated, a program without optimisation takes longer than the windows that it
/// observes.
fn payload(options: &Options) -> Result<Vec<(String, PathBuf)>> {
    if options.verifier {
        return programs::tests(&["whydrop_host"]);
    }
    let mut payload = vec![("whydrop".to_owned(), programs::whydrop_optimised()?)];
    if options.exec.is_none() {
        let names: Vec<&str> = TESTS.iter().map(|(name, ..)| *name).chain([FAULTS]).collect();
        payload.extend(programs::tests(&names)?);
    }
    Ok(payload)
}

/// A guest with another processor.
fn foreign(directory: &Path) -> Result<image::Base> {
    apt::install_missing(&[("qemu-system-aarch64", "qemu-system-arm")])?;
    let program = dist::program("aarch64")?;
    image::Base::foreign(directory, Kind::Arm.architecture(), &program)
}

/// What a guest runs.
fn script(kind: Kind, options: &Options) -> String {
    let prepare = match kind {
        Kind::WithoutTypes => "mount -t tmpfs none /sys/kernel/btf\n",
        Kind::LockedDown => {
            "mount -t securityfs none /sys/kernel/security; cat /sys/kernel/security/lockdown\n"
        }
        Kind::Usual | Kind::Arm => "",
    };
    let mut script = format!("export WHYDROP=/payload/whydrop\n{prepare}");
    if let Some(command) = &options.exec {
        return script + &step("exec", command);
    }
    if options.verifier || kind == Kind::Usual {
        script += &step("verifier", VERIFIER);
    }
    if options.verifier {
        return script;
    }
    let tests: &[(&str, &str, &str)] = match kind {
        Kind::Usual => &TESTS,
        Kind::WithoutTypes => &WITHOUT_TYPES,
        Kind::LockedDown => &LOCKED_DOWN,
        Kind::Arm => &[],
    };
    for (name, flag, own_filter) in tests {
        let filter = if options.filter.is_empty() { own_filter } else { options.filter.as_str() };
        script += &step(name, &format!("/payload/{name} {flag} {filter}"));
    }
    if kind != Kind::Arm {
        let filter = if options.filter.is_empty() { FAULT } else { options.filter.as_str() };
        script += &step(FAULTS, &format!("WHYDROP_MODULES=1 /payload/{FAULTS} {filter}"));
    }
    if kind != Kind::Usual {
        for (name, command) in BY_HAND {
            script += &step(name, command);
        }
    }
    if kind == Kind::Arm {
        script += &step("tracer", TRACED);
    }
    script
}

/// One step of the guest's script, in the words that [`guest`] understands. As on the host, what fails is tried once
/// more and shown as FLAKY: emulated machines on two busy cores are late now and then.
fn step(name: &str, command: &str) -> String {
    format!(
        "echo '@guest run {name}'\n( {command} ) || {{ echo '@guest again {name}'; ( {command} ); }}\n\
         echo \"@guest exit {name} $?\"\n"
    )
}

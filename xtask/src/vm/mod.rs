//! `cargo xtask vm`: the whole-program tests in QEMU guests with Debian's kernels.
//!
//! Guests have what a container host's kernel may lack (netem, police, VLAN, bonding …), and the kernels that
//! whydrop promises to run on. The test programs are those of `cargo test`, copied with their libraries.

mod guest;
mod image;
mod kernel;

use crate::apt;
use crate::process::target_directory;
use crate::programs;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// Test programs that run in the guests, each with a flag and a filter: what is `#[ignore]`d where the kernel may lack
/// something runs here, and of the faults those that need the modules of a guest. All others run on the host, faster.
const TESTS: [(&str, &str, &str); 5] = [
    ("whydrop_host", "--include-ignored", ""),
    ("trace_places", "", ""),
    ("trace_ladder", "--include-ignored", ""),
    ("source_case", "--include-ignored", ""),
    ("live", "", "qdisc"),
];

/// Guests at a time: each one keeps two cores busy.
const AT_ONCE: usize = 2;

/// Options of `cargo xtask vm`.
#[derive(clap::Parser)]
pub struct Options {
    /// Kernels to boot
    #[arg(long, value_delimiter = ',', default_values_t = kernel::KERNELS.map(|(name, _)| name.to_owned()))]
    pub kernels: Vec<String>,
    /// Run only the tests whose name contains this
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Run this shell command in the guests instead of the tests; the program is /payload/whydrop
    #[arg(long)]
    pub exec: Option<String>,
    /// QEMU accelerator; `kvm` is faster where it works
    #[arg(long, default_value = "tcg,thread=multi")]
    pub accelerator: String,
    /// Seconds that one guest may take
    #[arg(long, default_value_t = 900)]
    pub deadline: u64,
}

/// Runs the guests; an error names those that failed.
pub fn run(options: &Options) -> Result<()> {
    apt::install_missing(apt::TEST_TOOLS)?;
    apt::install_missing(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("depmod", "kmod"),
        ("strip", "binutils"),
        ("/etc/protocols", "netbase"),
        apt::DEBIAN_KEYS,
    ])?;
    let cache = cache_directory()?;
    let directory = target_directory()?.join("vm");
    std::fs::create_dir_all(&directory)?;
    let kernels =
        options.kernels.iter().map(|name| kernel::Kernel::fetch(name, &cache)).collect::<Result<Vec<_>>>()?;
    let (payload, script) = match &options.exec {
        Some(command) => {
            (vec![("whydrop".to_owned(), programs::whydrop_optimised()?)], step("exec", command))
        }
        None => tests(&options.filter)?,
    };
    let base = image::Base::build(&directory, &payload, &script)?;

    let waiting = Mutex::new(kernels.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().map(|mut kernels| kernels.next());
                    let Ok(Some(kernel)) = next else { break };
                    let outcome = base.with_modules(kernel, &directory).and_then(|image| {
                        let outcome = guest::run(
                            kernel,
                            &image,
                            &options.accelerator,
                            Duration::from_secs(options.deadline),
                        );
                        std::fs::remove_file(&image)?;
                        outcome
                    });
                    if let Err(error) = outcome {
                        eprintln!("[{}] FAILED: {error:#}", kernel.name);
                        failed.lock().map(|mut names| names.push(kernel.name.clone())).ok();
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{} passed, {} failed", kernels.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("guests failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The program and its whole-program tests, and the script that runs them in a guest.
fn tests(filter: &str) -> Result<(Vec<(String, PathBuf)>, String)> {
    // Emulated, a program without optimisation takes longer than the windows that it observes.
    let mut payload = vec![("whydrop".to_owned(), programs::whydrop_optimised()?)];
    let tests = programs::tests(&TESTS.map(|(name, ..)| name))?;
    let mut script = "export WHYDROP=/payload/whydrop\n".to_owned();
    for (name, flag, own_filter) in TESTS {
        let filter = if filter.is_empty() { own_filter } else { filter };
        script += &step(name, &format!("/payload/{name} {flag} {filter}"));
    }
    payload.extend(tests);
    Ok((payload, script))
}

/// One step of the guest's script, in the words that [`guest`] understands.
fn step(name: &str, command: &str) -> String {
    format!("echo '@guest run {name}'\n( {command} )\necho \"@guest exit {name} $?\"\n")
}

/// Kernels are kept here, outside of the target directory: they outlive `cargo clean` and are shared by clones.
fn cache_directory() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let directory = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("whydrop/kernels");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

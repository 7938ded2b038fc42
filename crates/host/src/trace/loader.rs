//! aya's loader without its own copy of the kernel's types.
#![allow(unsafe_code)] // unshare(2) is unsafe in rustix

use super::btf;
use aya::EbpfLoader;
use rustix::process::chroot;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::thread;

/// A loader that knows no types yet.
///
/// `EbpfLoader::new()` of aya 0.14 parses all of /sys/kernel/btf/vmlinux and cannot be asked not to: 20 MiB and 40 ms
/// for what is thrown away in the next line. So it is made where that file does not exist: on a thread that sees
/// another root. Without CAP_SYS_CHROOT it is made in the open, and only memory and time are lost.
pub fn without_types() -> EbpfLoader<'static> {
    let thread = thread::Builder::new().name("loader".into()).spawn(|| {
        // SAFETY: only this thread's root and working directory become its own, and it ends here; descriptors stay
        // shared. Unless they are its own, the root is left alone.
        if unsafe { unshare_unsafe(UnshareFlags::FS) }.is_ok() {
            let _ = chroot(btf::DIRECTORY);
        }
        EbpfLoader::new()
    });
    let mut loader = match thread.map(thread::JoinHandle::join) {
        Ok(Ok(loader)) => loader,
        _ => EbpfLoader::new(),
    };
    loader.btf(None);
    loader
}

//! What the kernel's verifier has to read of each program before it believes it, which is limited: 1,000,000 instructions.
//!
//! A kernel that reads more of a program than another one is a kernel that may refuse the next change. So each program has
//! a much lower limit here, on every kernel of `cargo xtask vm`. The loader is not aya's, which throws the verifier's
//! words away when it agrees.
#![allow(unsafe_code)] // bpf(2) with structures that the kernel reads
#![allow(clippy::print_stdout, reason = "the counts are for whoever runs the test")]

use super::bpf::{OBJECT, raise_memlock};
use super::calls;
use aya::maps::MapData;
use aya_obj::btf::{Btf, BtfKind};
use aya_obj::{Object, ProgramSection};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A tenth of what the kernel allows (BPF_COMPLEXITY_LIMIT_INSNS since 5.2).
const LIMIT: u64 = 100_000;

// enum bpf_cmd, bpf_prog_type, bpf_attach_type (include/uapi/linux/bpf.h).
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_BTF_LOAD: libc::c_long = 18;
const BPF_MAP_FREEZE: libc::c_long = 22;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_RAW_TP: u32 = 23;
/// BPF_LOG_STATS (include/linux/bpf_verifier.h): only the sums at the end.
const STATISTICS: u32 = 4;

/// The attribute of BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct Update {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The attribute of BPF_BTF_LOAD.
#[repr(C)]
#[derive(Default)]
struct Types {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    /// Older kernels want zeros behind what they know.
    pad: u32,
}

/// The attribute of BPF_PROG_LOAD, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    first: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach_type: u32,
    btf: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_size: u32,
    lines: u64,
    line_count: u32,
    attach_btf: u32,
}

/// # Safety
/// `attribute` is the one of this command, and what it points to lives and may be used by the kernel.
unsafe fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<i64> {
    // SAFETY: as the caller promises; the size is that of the structure.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What the verifier says of each program, all of its switches on.
fn processed() -> BTreeMap<String, String> {
    let kernel = Btf::from_sys_fs().expect("the kernel's types");
    let numbers: Vec<u8> = calls::numbers().iter().flat_map(|number| number.to_ne_bytes()).collect();
    let mut object = Object::parse(OBJECT).expect("our own object");
    let on = [1u8].as_slice();
    let settings =
        [("only_targets", (on, true)), ("with_stack", (on, true)), ("watched_calls", (&numbers[..], true))];
    object.patch_map_data(HashMap::from(settings)).expect("settings");
    let features = aya::features();
    let own = object.fixup_and_sanitize_btf(features.btf().expect("a kernel with types"));
    let own = types(&own.expect("our own types").expect("an object with types").to_bytes());
    object.relocate_btf(&kernel).expect("types that fit");
    let mut maps = HashMap::new();
    for (name, mut map) in object.maps.drain() {
        // Those that the loader sizes; how many entries there are is nothing to the verifier.
        if map.max_entries() == 0 {
            map.set_max_entries(1024);
        }
        let made = MapData::create(map.clone(), &name, Some(own.as_fd())).expect("a map");
        if name == ".rodata" {
            fill(&made, map.data());
        }
        maps.insert(name, (made, map));
    }
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let known = maps.iter().map(|(name, (made, map))| (name.as_str(), made.fd().as_fd().as_raw_fd(), map));
    object.relocate_maps(known, &sections).expect("maps that fit");
    object.relocate_calls(&sections).expect("calls that fit");
    let programs = object.programs.iter();
    programs
        .map(|(name, program)| {
            let code = &object.functions[&program.function_key()].instructions;
            let mut log = vec![0u8; 1 << 16];
            let mut load = Load {
                kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
                instructions: code.len() as u32,
                first: code.as_ptr() as u64,
                license: program.license.as_ptr() as u64,
                log_level: STATISTICS,
                log_size: log.len() as u32,
                log: log.as_mut_ptr() as u64,
                ..Load::default()
            };
            if matches!(program.section, ProgramSection::BtfTracePoint) {
                let traced = name_of_tracepoint(name);
                load.kind = BPF_PROG_TYPE_TRACING;
                load.attach_type = BPF_TRACE_RAW_TP;
                let id = kernel.id_by_type_name_kind(&format!("btf_trace_{traced}"), BtfKind::Typedef);
                load.attach_btf = id.expect("a tracepoint that the kernel has");
            }
            // SAFETY: code, licence and log live through the call, with the lengths that are given.
            let loaded = unsafe { bpf(BPF_PROG_LOAD, &mut load) };
            let said = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
            let descriptor = loaded.unwrap_or_else(|error| panic!("{name}: {error}: {said}"));
            // SAFETY: the descriptor is new, and nobody else has it.
            unsafe { libc::close(descriptor as libc::c_int) };
            (name.clone(), said)
        })
        .collect()
}

/// The two kinds of programs that know the types of their arguments.
fn name_of_tracepoint(program: &str) -> &str {
    if program.starts_with("flow_state") { "inet_sock_set_state" } else { "kfree_skb" }
}

/// Gives the kernel our types: some maps are made of them.
fn types(bytes: &[u8]) -> OwnedFd {
    let mut load = Types { types: bytes.as_ptr() as u64, size: bytes.len() as u32, ..Types::default() };
    // SAFETY: the bytes live through the call and are as many as is said.
    let descriptor = unsafe { bpf(BPF_BTF_LOAD, &mut load) }.expect("our types");
    // SAFETY: the descriptor is new, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) }
}

/// Gives a map of constants its content and closes it, so that the verifier may rely on it.
fn fill(map: &MapData, data: &[u8]) {
    let descriptor = map.fd().as_fd().as_raw_fd() as u32;
    let key = 0u32;
    let (first, value) = (std::ptr::from_ref(&key) as u64, data.as_ptr() as u64);
    let mut update = Update { map: descriptor, pad: 0, key: first, value, flags: 0 };
    // SAFETY: key and value live through the call and have the map's sizes.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut update) }.expect("constants");
    // SAFETY: the attribute begins with the map's descriptor.
    unsafe { bpf(BPF_MAP_FREEZE, &mut [descriptor, 0]) }.expect("a map that is closed");
}

#[test]
#[ignore = "needs root"]
fn no_program_comes_near_the_limit_of_the_verifier() {
    raise_memlock();
    for (name, said) in processed() {
        // Newer kernels have a line for each part of the program before the sum.
        let sum = said.lines().rev().find_map(|line| line.strip_prefix("processed "));
        let number = sum.and_then(|sum| sum.split(' ').next());
        let number: u64 = number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name}: {said}"));
        // `cargo xtask vm --verifier` reads these lines.
        println!("@verifier {name} {number}");
        assert!(number <= LIMIT, "{name} needs {number} of {LIMIT} instructions");
    }
}

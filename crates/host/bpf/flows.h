// SPDX-License-Identifier: MIT OR Apache-2.0
// What is counted of conversations. src/trace/flow_layout.rs reads the same bytes; model::flow says what it means.
#ifndef WHYDROP_FLOWS_H
#define WHYDROP_FLOWS_H

#include "ktypes.h"

enum flow_kind {
	FLOW_OUT = 0,
	FLOW_IN = 1,
	FLOW_ICMP = 2, // ICMP errors sent: `local` had sent the packet to `remote`
};

// Addresses are in network order, IPv4 in the first four bytes; all else is in host order. No padding.
struct flow_key {
	__u32 netns;
	__u32 uid; // FLOW_OUT only
	__u8 local[16];
	__u8 remote[16];
	__u16 port;   // the well-known one: remote if FLOW_OUT, local if FLOW_IN
	__u8 version; // of IP
	__u8 protocol;
	__u8 kind; // enum flow_kind
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 local_port_kept; // `port` is the local one though FLOW_OUT: a datagram socket without a peer
};

enum flow_count {
	FLOW_ATTEMPTS,
	FLOW_ESTABLISHED,
	FLOW_FAILED,
	FLOW_ABANDONED,
	FLOW_UNSENT,
	FLOW_RESET_RECEIVED,
	FLOW_RESET_SENT,
	FLOW_SYN_REPEATS,
	FLOW_SYNACK_REPEATS,
	FLOW_DATA_REPEATS,
	FLOW_TAIL_PROBES,
	FLOW_CLOSED,
	FLOW_SEGMENTS,
	FLOW_DATA_SEGMENTS,
	FLOW_REPEATED,
	FLOW_NEEDLESS,
	FLOW_UNANSWERED, // of FLOW_CLOSED, as the next one
	FLOW_WORDLESS,
	FLOW_ICMP_SENT,
	FLOW_COUNTS,
};

// Errors that are counted apart, in the order of `ERRORS` in src/trace/flow_layout.rs; the last is all others.
#define FLOW_ERRORS 12

struct flow {
	__u64 counts[FLOW_COUNTS];
	__u64 errors[FLOW_ERRORS];
	__u64 first_ns; // CLOCK_MONOTONIC
	__u64 last_ns;
	__u64 cgroup_id; // of who called connect() last, as the next two
	__u32 pid;
	__u32 reset_reason; // of the last RST sent
	char comm[16];
	__u32 other_error; // the last one of those without a place of their own
	__u32 unused;
};

enum repeat_kind {
	REPEAT_SYN = 0,
	REPEAT_SYNACK = 1,
	REPEAT_DATA = 2,
	REPEAT_TAIL = 3,
};

// One segment that was sent again.
struct repeat {
	__u64 monotonic_ns;
	__u32 netns;
	__u8 version;
	__u8 kind;	// enum repeat_kind
	__u8 direction; // enum flow_kind
	__u8 unused;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u32 seq;
	__u32 end_seq;
	__u32 unused_end;
};

// Calls of one kind that failed with one error. No padding.
// The address as in flow_key; all zero if the call named none and the socket has no peer.
struct call_key {
	__u64 cgroup_id;
	__u32 netns;
	__u32 pid;
	__u32 number; // of the system call
	__u32 error;
	char comm[16];
	__u8 remote[16];
	__u16 port;
	__u8 version; // of IP; 0 without an address
	__u8 protocol; // 0 if the socket is not known
	__u32 unused;
};

struct call {
	__u64 count;
	__u64 last_ns; // CLOCK_MONOTONIC
};

// System calls whose errors are counted.
#define WATCHED_CALLS 8

#endif

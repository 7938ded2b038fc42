// SPDX-License-Identifier: MIT OR Apache-2.0
// What the programs of the tracer have in common: whose events they take, how they read, what they lost.
#ifndef WHYDROP_COMMON_H
#define WHYDROP_COMMON_H

#include "ktypes.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "drops.h"

// Set by the loader before the program is verified; the verifier drops what is switched off.
volatile const __u8 only_targets = 0;

// Beside what is always sampled, so many per CPU and jiffy: 100 to 1000 a second, depending on CONFIG_HZ. A recording
// keeps some thousands, which are to last for its window.
#define SAMPLED_PER_JIFFY 1
// Inodes of namespaces are given from 0xF0000000 on (PROC_DYNAMIC_FIRST), one by one; that of the first network
// namespace lies below, from 0xEFFFFFF0 on, since 6.18. Anything else was no namespace: a union of struct sk_buff
// showed another member. (The upper half of a kernel pointer, 0xFFFFnnnn, is no namespace, either.)
#define LOWEST_NAMESPACE 0xEFFFFFF0u
#define HIGHEST_NAMESPACE 0xFEFFFFFFu
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define AF_INET 2
#define AF_INET6 10
// Socket states in which the rest of struct sock is not there: tcp_states.h.
#define TCP_TIME_WAIT 6
#define TCP_NEW_SYN_RECV 12
#define SKB_DST_PTRMASK (~1UL)

// The loader sets the size.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSSES);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

// Namespace of the last event on this CPU and whether it is watched: most events follow one of their own namespace.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last_asked SEC(".maps");

// What each kind of sample may still take in this jiffy.
enum allowance_of {
	ALLOWANCE_DROPS = 0,
	ALLOWANCE_REPEATS = 1,
	ALLOWANCE_TROUBLED = 2,
	ALLOWANCES = 3,
};

struct allowance {
	__u64 jiffy;
	__u64 left;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ALLOWANCES);
	__type(key, __u32);
	__type(value, struct allowance);
} allowances SEC(".maps");

// `direct` is a constant wherever this is inlined: one of the two arms remains.
#define GET(pointer, field)                                                                                \
	({                                                                                                 \
		typeof((pointer)->field) value_;                                                           \
		if (direct)                                                                                \
			value_ = (pointer)->field;                                                         \
		else                                                                                       \
			bpf_core_read((void *)&value_, sizeof(value_), &(pointer)->field);                 \
		value_;                                                                                    \
	})

static __always_inline int is_kernel_pointer(const void *pointer)
{
	return (__s64)pointer < 0;
}

static __always_inline void lose(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&losses, &what);
	if (n)
		*n += 1;
}

static __always_inline int is_watched(__u32 netns)
{
	if (!only_targets)
		return 1;
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&last_asked, &zero);
	// One word, so that an interrupt cannot leave half of it.
	__u64 known = last ? *last : 0;
	if (known >> 1 == netns)
		return known & 1;
	int watched = bpf_map_lookup_elem(&targets, &netns) != 0;
	if (last)
		*last = (__u64)netns << 1 | watched;
	return watched;
}

static __always_inline int may_sample(__u32 of_what, __u64 each_jiffy)
{
	struct allowance *allowance = bpf_map_lookup_elem(&allowances, &of_what);
	if (!allowance)
		return 0;
	__u64 jiffy = bpf_jiffies64();
	if (allowance->jiffy != jiffy) {
		allowance->jiffy = jiffy;
		allowance->left = each_jiffy;
	}
	if (!allowance->left)
		return 0;
	allowance->left -= 1;
	return 1;
}

static __always_inline __u32 device_netns(struct net_device *dev, const int direct)
{
	struct net *net = GET(dev, nd_net.net);
	if (!is_kernel_pointer(net))
		return 0;
	__u32 inum = GET(net, ns.inum);
	return inum >= LOWEST_NAMESPACE && inum <= HIGHEST_NAMESPACE ? inum : 0;
}

static __always_inline __u32 socket_netns(struct sock *sk, const int direct)
{
	struct net *net = GET(sk, __sk_common.skc_net.net);
	if (!is_kernel_pointer(net))
		return 0;
	__u32 inum = GET(net, ns.inum);
	return inum >= LOWEST_NAMESPACE && inum <= HIGHEST_NAMESPACE ? inum : 0;
}

#endif

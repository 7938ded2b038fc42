// SPDX-License-Identifier: MIT OR Apache-2.0
// The few kernel types that the tracer reads. Offsets are those of the running kernel: every access is relocated
// at load time (CO-RE), so only names and kinds must be right here. Types marked ___5_10 are older layouts.
#ifndef WHYDROP_KTYPES_H
#define WHYDROP_KTYPES_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_NOEXIST = 1,
	BPF_RB_NO_WAKEUP = 1,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	__u32 inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	__u32 flags;
	__s32 ifindex;
	possible_net_t nd_net;
	char name[16];
};

struct dst_entry {
	struct net_device *dev;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

// Up to 5.14: a tagged word; a cgroup v2 pointer only while its lowest bit is clear.
struct sock_cgroup_data___5_14 {
	__u64 val;
};

struct inode {
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
};

struct socket {
	struct file *file;
};

struct sock_common {
	__u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	__u32 len;
	__u32 data_len;
	__s32 skb_iif;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	unsigned char *head;
	unsigned char *data;
};

// Must be an enum: CO-RE finds no field `reason` if it is declared as an int here and as an enum in the kernel,
// and the tool would then load, run and report reason 0 everywhere.
enum skb_drop_reason {
	SKB_NOT_DROPPED_YET = 0,
};

// Arguments that the tracepoint has on this kernel: `reason` since 5.17, `rx_sk` since 6.11.
struct trace_event_raw_kfree_skb {
	enum skb_drop_reason reason;
	void *rx_sk;
};

#pragma clang attribute pop

#endif

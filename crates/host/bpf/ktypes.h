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
	void *private_data; // of a socket its struct socket
};

struct fdtable {
	__u32 max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct sock;

struct socket {
	struct file *file;
	struct sock *sk;
};

struct in6_addr {
	unsigned char bytes[16];
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

typedef struct {
	__u32 val;
} kuid_t;

struct sock {
	struct sock_common __sk_common;
	__u32 sk_max_ack_backlog;
	__s32 sk_err;
	kuid_t sk_uid;
	__u16 sk_protocol;
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	__u8 icsk_pending;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 segs_out;
	__u32 data_segs_in;
	__u32 data_segs_out;
	__u32 total_retrans;
	__u32 dsack_dups;
};

struct request_sock {
	struct sock_common __req_common;
};

struct tcp_request_sock {
	__u32 snt_isn;
};

// What TCP keeps in the `cb` of a packet in its queues.
struct tcp_skb_cb {
	__u32 seq;
	__u32 end_seq;
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
	char cb[48];
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

// `err` since 6.15: the tracepoint tells of repeats, too, that the machine itself did not let out.
struct trace_event_raw_tcp_retransmit_skb {
	__s32 err;
};

enum sk_rst_reason {
	SK_RST_REASON_NOT_SPECIFIED = 0,
};

// `reason` since 6.10; from then on the socket may be missing.
struct trace_event_raw_tcp_send_reset {
	enum sk_rst_reason reason;
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	struct nsproxy *nsproxy;
	struct files_struct *files;
};

// Where the number of a system call and its first, second and fifth argument stand: on x86, on arm64.
struct pt_regs___x86 {
	unsigned long r8;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};

struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};

#pragma clang attribute pop

#endif

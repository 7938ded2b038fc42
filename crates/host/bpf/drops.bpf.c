// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts every skb:kfree_skb by shape and samples some of the packets.
//
// The same body is attached as tp_btf (kernel pointers are followed directly) and as raw_tp (they are copied with
// bpf_probe_read_kernel), so that a kernel that refuses the first still runs the second.
#include "common.h"
#include "flows.bpf.h"
#include "calls.bpf.h"

// The helpers that the program calls ask for a GPL-compatible licence; "Dual MIT/GPL" is what the kernel knows.
char _license[] SEC("license") = "Dual MIT/GPL";

// Take the stack of sampled drops.
volatile const __u8 with_stack = 0;

// The first drops of a shape on a CPU are all sampled, so that a rare drop is seen beside a storm.
#define ALWAYS_SAMPLED 64
// Packets of conversations in trouble beside those, so many per CPU and jiffy.
#define TROUBLED_PER_JIFFY 8
// Offset of the destination address in an IPv6 header.
#define IPV6_DESTINATION 24
// FIN, SYN, RST, ACK.
#define COUNTED_FLAGS 0x17
#define IFF_LOOPBACK 8

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct shape);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct signal_key);
	__type(value, __u64);
} signals SEC(".maps");

static __always_inline void read_owner(struct sample *sample, struct sock *sk, const int direct)
{
	unsigned char state = GET(sk, __sk_common.skc_state);
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return;
	struct socket *socket = GET(sk, sk_socket);
	if (is_kernel_pointer(socket)) {
		struct file *file = GET(socket, file);
		if (is_kernel_pointer(file)) {
			struct inode *inode = GET(file, f_inode);
			if (is_kernel_pointer(inode))
				sample->socket_inode = GET(inode, i_ino);
		}
	}
	struct cgroup *cgroup = 0;
	if (bpf_core_field_exists(sk->sk_cgrp_data.cgroup)) {
		bpf_core_read(&cgroup, sizeof(cgroup), &sk->sk_cgrp_data.cgroup);
	} else {
		__u64 word = 0;
		struct sock_cgroup_data___5_14 *data = (void *)&sk->sk_cgrp_data;
		bpf_core_read(&word, sizeof(word), &data->val);
		if (!(word & 1))
			cgroup = (struct cgroup *)word;
	}
	if (is_kernel_pointer(cgroup))
		sample->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
}

// Only the linear part of a packet may be read: what lies behind it is other memory of the kernel.
static __always_inline __s64 readable(struct sk_buff *skb, const unsigned char *network, const int direct)
{
	return GET(skb, data) + (GET(skb, len) - GET(skb, data_len)) - network;
}

static __always_inline void read_protocol(struct shape *shape, __u16 ethertype, const unsigned char *network,
					  __s64 available)
{
	unsigned char head[20] = {};
	unsigned char group = 0;
	__s64 transport;
	if (available < 40 && !(ethertype == ETH_P_IP && available >= 20))
		return;
	if (bpf_probe_read_kernel(head, sizeof(head), network) < 0)
		return;
	if (ethertype == ETH_P_IP) {
		shape->protocol = head[9];
		// 224.0.0.0/4 and 255.255.255.255; the broadcast address of a network is not known here.
		if ((head[16] >= 224 && head[16] < 240) || (head[16] & head[17] & head[18] & head[19]) == 255)
			shape->flags |= SHAPE_MULTICAST;
		transport = (head[0] & 0xf) * 4;
		// A later fragment has no transport header.
		if ((head[6] & 0x1f) | head[7])
			transport = available;
	} else if (ethertype == ETH_P_IPV6) {
		shape->protocol = head[6];
		if (!bpf_probe_read_kernel(&group, 1, network + IPV6_DESTINATION) && group == 0xff)
			shape->flags |= SHAPE_MULTICAST;
		transport = 40;
	} else {
		return;
	}
	shape->flags |= SHAPE_PROTOCOL;
	__u8 flags = 0;
	if (shape->protocol == IPPROTO_TCP && transport + 13 < available &&
	    !bpf_probe_read_kernel(&flags, 1, network + transport + 13))
		shape->tcp_flags = flags & COUNTED_FLAGS;
}

static __always_inline void take_sample(void *ctx, struct sk_buff *skb, struct sock *sk, struct net_device *dev,
					const struct shape *shape, __u16 ethertype, const unsigned char *network,
					__s64 available, const int direct)
{
	struct sample *sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
	if (!sample) {
		lose(LOSS_RING);
		return;
	}
	sample->shape = *shape;
	sample->monotonic_ns = bpf_ktime_get_ns();
	sample->socket_inode = 0;
	sample->cgroup_id = 0;
	sample->ethertype = ethertype;
	sample->length = GET(skb, len);
	__builtin_memset(sample->interface, 0, sizeof(sample->interface));
	if (dev)
		bpf_core_read(sample->interface, sizeof(sample->interface), &dev->name);
	if (sk)
		read_owner(sample, sk, direct);

	__u64 captured = 0;
	if (available > 0)
		captured = available > PACKET_BYTES ? PACKET_BYTES : available;
	asm volatile("" : "+r"(captured));
	if (captured > PACKET_BYTES)
		captured = PACKET_BYTES;
	if (bpf_probe_read_kernel(sample->packet, captured, network) < 0)
		captured = 0;
	sample->captured = captured;

	__builtin_memset(sample->stack, 0, sizeof(sample->stack));
	if (with_stack)
		bpf_get_stack(ctx, sample->stack, sizeof(sample->stack), 0);
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
}

static __always_inline int on_drop(void *ctx, struct sk_buff *skb, __u64 location, __u32 reason, struct sock *rx_sk,
				   const int direct)
{
	struct shape shape = { .location = location, .reason = reason };

	// The device tells where the packet is now: until the IP layer takes it, a packet that crossed a veth still
	// belongs to the socket that sent it, in the other namespace. But skb->dev shares its place with a red-black
	// tree node and with UDP's notes, so that only a device with a namespace is believed.
	struct net_device *dev = GET(skb, dev);
	__u32 dev_netns = is_kernel_pointer(dev) ? device_netns(dev, direct) : 0;
	if (!dev_netns)
		dev = 0;
	struct sock *sk = rx_sk;
	if (!sk)
		sk = GET(skb, sk);
	if (rx_sk || !dev_netns)
		shape.netns = sk ? socket_netns(sk, direct) : 0;
	if (!shape.netns)
		shape.netns = dev_netns;

	struct dst_entry *dst = (struct dst_entry *)(GET(skb, _skb_refdst) & SKB_DST_PTRMASK);
	__u32 iif = GET(skb, skb_iif);
	struct net_device *dst_dev = 0;
	if (is_kernel_pointer(dst) && (iif || !shape.netns))
		dst_dev = BPF_CORE_READ(dst, dev);
	if (!shape.netns && dst_dev)
		shape.netns = device_netns(dst_dev, 0);

	if (shape.netns && !is_watched(shape.netns))
		return 0;

	// skb_iif is 0 until a packet is received; a route to the loopback device is one to this machine.
	if (!iif)
		shape.direction = DIRECTION_TRANSMIT;
	else if (dst_dev && !(BPF_CORE_READ(dst_dev, flags) & IFF_LOOPBACK))
		shape.direction = DIRECTION_FORWARD;
	else
		shape.direction = DIRECTION_RECEIVE;
	shape.ifindex = dev ? GET(dev, ifindex) : iif;

	__u16 ethertype = __builtin_bswap16(GET(skb, protocol));
	__u16 offset = GET(skb, network_header);
	const unsigned char *network =
		offset && offset != 0xffff ? GET(skb, head) + offset : GET(skb, data);
	__s64 available = readable(skb, network, direct);
	read_protocol(&shape, ethertype, network, available);

	__u64 *count = bpf_map_lookup_elem(&counts, &shape);
	if (!count) {
		__u64 none = 0;
		bpf_map_update_elem(&counts, &shape, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&counts, &shape);
	}
	if (count)
		*count += 1;
	else
		lose(LOSS_SHAPE);

	int sampled = (count && *count <= ALWAYS_SAMPLED) || may_sample(ALLOWANCE_DROPS, SAMPLED_PER_JIFFY);
	if (!sampled && shape.protocol == IPPROTO_TCP && available > 0)
		sampled = is_troubled(network, available) && may_sample(ALLOWANCE_TROUBLED, TROUBLED_PER_JIFFY);
	if (sampled)
		take_sample(ctx, skb, sk, dev, &shape, ethertype, network, available, direct);
	return 0;
}

// The field's presence is a constant after relocation: the verifier never sees a read of an argument that this
// kernel's tracepoint does not have.
#define HAS_REASON bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->reason)
#define HAS_SOCKET bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->rx_sk)

// True while the program of drops runs on this CPU.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8);
} counting SEC(".maps");

static __always_inline int drop(__u64 *ctx, const int direct)
{
	__u32 reason = 0;
	struct sock *rx_sk = 0;
	if (HAS_REASON)
		reason = ctx[2];
	if (HAS_SOCKET)
		rx_sk = (struct sock *)ctx[3];
	return on_drop(ctx, (struct sk_buff *)ctx[0], ctx[1], reason, rx_sk, direct);
}

static __always_inline int outer_drop(__u64 *ctx, const int direct)
{
	__u32 zero = 0;
	__u8 *busy = bpf_map_lookup_elem(&counting, &zero);
	if (!busy || *(volatile __u8 *)busy)
		return 0;
	*(volatile __u8 *)busy = 1;
	drop(ctx, direct);
	*(volatile __u8 *)busy = 0;
	return 0;
}

// An interrupt may drop a packet while a drop is being counted. Kernels since 6.2 do not run a program inside itself
// (__bpf_trace_run in kernel/trace/bpf_trace.c): a second one, attached before it, counts those and passes over all else.
static __always_inline int inner_drop(__u64 *ctx, const int direct)
{
	__u32 zero = 0;
	__u8 *busy = bpf_map_lookup_elem(&counting, &zero);
	if (!busy || !*(volatile __u8 *)busy)
		return 0;
	lose(KEPT_INNER);
	return drop(ctx, direct);
}

SEC("tp_btf/kfree_skb")
int drop_tp_btf(__u64 *ctx)
{
	return outer_drop(ctx, 1);
}

SEC("raw_tp/kfree_skb")
int drop_raw_tp(__u64 *ctx)
{
	return outer_drop(ctx, 0);
}

SEC("tp_btf/kfree_skb")
int inner_tp_btf(__u64 *ctx)
{
	return inner_drop(ctx, 1);
}

SEC("raw_tp/kfree_skb")
int inner_raw_tp(__u64 *ctx)
{
	return inner_drop(ctx, 0);
}

// Each of these is attached by itself, if the kernel has the tracepoint.
static __always_inline int on_signal(__u32 signal, __u32 netns, __u32 ifindex)
{
	struct signal_key key = { .signal = signal, .netns = netns, .ifindex = ifindex };
	if (netns && !is_watched(netns))
		return 0;
	__u64 *count = bpf_map_lookup_elem(&signals, &key);
	if (!count) {
		__u64 none = 0;
		bpf_map_update_elem(&signals, &key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&signals, &key);
	}
	if (count)
		*count += 1;
	else
		lose(LOSS_SIGNAL);
	return 0;
}

static __always_inline int on_device_signal(__u32 signal, struct net_device *dev)
{
	__u32 netns = is_kernel_pointer(dev) ? device_netns(dev, 0) : 0;
	return on_signal(signal, netns, netns ? BPF_CORE_READ(dev, ifindex) : 0);
}

#define HAS_RETRANSMIT_ERROR bpf_core_field_exists(((struct trace_event_raw_tcp_retransmit_skb *)0)->err)

SEC("raw_tp/tcp_retransmit_skb")
int tcp_retransmit_skb(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	__u32 netns = socket_netns(sk, 0);
	if (HAS_RETRANSMIT_ERROR && (__s32)ctx[2])
		return 0;
	if (netns && is_watched(netns))
		on_repeat(sk, (struct sk_buff *)ctx[1], netns);
	return on_signal(SIGNAL_RETRANSMIT, netns, 0);
}

SEC("raw_tp/sock_rcvqueue_full")
int sock_rcvqueue_full(__u64 *ctx)
{
	return on_signal(SIGNAL_RECEIVE_QUEUE_FULL, socket_netns((struct sock *)ctx[0], 0), 0);
}

SEC("raw_tp/sock_exceed_buf_limit")
int sock_exceed_buf_limit(__u64 *ctx)
{
	return on_signal(SIGNAL_BUFFER_LIMIT, socket_netns((struct sock *)ctx[0], 0), 0);
}

SEC("raw_tp/xdp_exception")
int xdp_exception(__u64 *ctx)
{
	return on_device_signal(SIGNAL_XDP_EXCEPTION, (struct net_device *)ctx[0]);
}

SEC("raw_tp/devlink_trap_report")
int devlink_trap_report(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	return on_device_signal(SIGNAL_DEVLINK_TRAP, BPF_CORE_READ(skb, dev));
}

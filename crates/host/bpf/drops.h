// SPDX-License-Identifier: MIT OR Apache-2.0
// What passes from the tracer to user space. src/trace/layout.rs reads the same bytes.
#ifndef WHYDROP_DROPS_H
#define WHYDROP_DROPS_H

// Bytes kept of a sampled packet, from its network header: IPv6, an extension header and TCP with options.
#define PACKET_BYTES 128
// Frames kept of a stack; about five of them are the tracepoint's own.
#define STACK_FRAMES 20

enum direction {
	DIRECTION_UNKNOWN = 0,
	DIRECTION_RECEIVE = 1,
	DIRECTION_TRANSMIT = 2,
	DIRECTION_FORWARD = 3,
};

enum shape_flag {
	SHAPE_PROTOCOL = 1,  // `protocol` is known
	SHAPE_MULTICAST = 2, // to many: multicast or the limited broadcast
};

// One shape of drop; drops of a shape are counted together. No padding: the map compares bytes.
struct shape {
	__u64 location;
	__u32 reason;
	__u32 netns;
	__u32 ifindex;
	__u8 protocol;
	__u8 flags; // enum shape_flag
	__u8 direction;
	__u8 tcp_flags; // FIN, SYN, RST and ACK; the others would only multiply shapes
};

// One sampled packet.
struct sample {
	struct shape shape;
	__u64 monotonic_ns;
	__u64 socket_inode;
	__u64 cgroup_id;
	__u32 length;
	__u16 ethertype;
	__u16 captured;
	char interface[16];
	__u8 packet[PACKET_BYTES];
	__u64 stack[STACK_FRAMES];
};

// Indices of `losses`: what the tracer itself could not keep.
enum loss {
	LOSS_SHAPE = 0, // drops whose shape found the count map full
	LOSS_RING = 1,	// samples that found the ring full; the drop itself was counted
	LOSS_SIGNAL = 2, // signals that found their map full
	LOSS_FOLDED = 3, // events of conversations that were counted without their addresses
	LOSS_FLOW = 4,	// events of conversations that were not counted at all
	LOSS_REPEAT = 5, // repeated segments that were counted and not sampled
	LOSS_CALL = 6,	// failed system calls that found their map full
	KEPT_INNER = 7, // no loss: drops inside the counting of another one, which only the second program counted
	LOSSES = 8,
};

// What else is counted: events that are no drops, or drops of packets that never became an skb.
enum signal {
	SIGNAL_RETRANSMIT = 0,
	SIGNAL_RECEIVE_QUEUE_FULL = 1,
	SIGNAL_BUFFER_LIMIT = 2,
	SIGNAL_XDP_EXCEPTION = 3,
	SIGNAL_DEVLINK_TRAP = 4,
};

struct signal_key {
	__u32 signal;
	__u32 netns;
	__u32 ifindex;
};

#endif

// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts what becomes of conversations, and samples the segments that TCP sends again.
//
// Each program is attached by itself, if the kernel has its tracepoint. The one of states runs several times for each
// connection, also where all is well: it ends early, copies little and looks up one entry.
#include "common.h"
#include "flows.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define ECONNRESET 104
// inet_connection_sock.h.
#define ICSK_TIME_LOSS_PROBE 5
#define TROUBLED_BITS 14
// So many samples for each of them, so that one that never rests leaves room for the others.
#define MOST_OF_TROUBLED 65
// The first repeats of a conversation are all sampled.
#define REPEATS_ALWAYS_SAMPLED 64

// The loader sets the sizes of both.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

// What found no room there, without its addresses.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow_key);
	__type(value, struct flow);
} folded_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10);
} repeats SEC(".maps");

// What conversations that met trouble may still take, by a hash: their dropped packets are sampled where others are not.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << TROUBLED_BITS);
	__type(key, __u32);
	__type(value, __u8);
} troubled SEC(".maps");

static const struct flow no_flow;

// Some sender has an entry of its own; before that none needs to be looked for.
__u8 arrivals_kept_apart;

static __always_inline void add(__u64 *count, __u64 n)
{
	__sync_fetch_and_add(count, n);
}

static __always_inline struct flow *new_flow(void *map, const struct flow_key *key)
{
	bpf_map_update_elem(map, key, &no_flow, BPF_NOEXIST);
	struct flow *flow = bpf_map_lookup_elem(map, key);
	if (flow && !flow->first_ns)
		flow->first_ns = bpf_ktime_get_ns();
	return flow;
}

// The conversation, made if it is new. Without room it is one of many, without addresses.
static __noinline struct flow *make_flow(struct flow_key *key)
{
	struct flow *flow = new_flow(&flows, key);
	if (flow)
		return flow;
	__builtin_memset(key->local, 0, sizeof(key->local));
	__builtin_memset(key->remote, 0, sizeof(key->remote));
	key->uid = 0;
	flow = bpf_map_lookup_elem(&folded_flows, key);
	if (!flow)
		flow = new_flow(&folded_flows, key);
	lose(flow ? LOSS_FOLDED : LOSS_FLOW);
	return flow;
}

static __always_inline struct flow *find_flow(struct flow_key *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);
	return flow ? flow : make_flow(key);
}

// Where a conversation stands in `troubled`: its addresses either way, and its well-known port.
static __always_inline __u32 trouble_of(const __u8 *one, const __u8 *other, __u16 port)
{
	const __u32 *a = (const __u32 *)one, *b = (const __u32 *)other;
	__u32 mixed = a[0] ^ b[0] ^ a[1] ^ b[1] ^ a[2] ^ b[2] ^ a[3] ^ b[3] ^ port;
	return mixed * 0x9E3779B1u >> (32 - TROUBLED_BITS);
}

static __always_inline struct flow *find_timed(struct flow_key *key)
{
	struct flow *flow = find_flow(key);
	if (flow)
		flow->last_ns = bpf_ktime_get_ns();
	return flow;
}

static __always_inline struct flow *find_troubled(struct flow_key *key)
{
	__u32 place = trouble_of(key->local, key->remote, key->port);
	__u8 *mark = bpf_map_lookup_elem(&troubled, &place);
	if (mark && !*mark)
		*mark = MOST_OF_TROUBLED;
	if (key->kind == FLOW_IN)
		arrivals_kept_apart = 1;
	return find_timed(key);
}

// Arrivals that went well are counted by the port alone, unless their sender has an entry.
static __always_inline struct flow *find_arrival(struct flow_key *key)
{
	struct flow *flow = arrivals_kept_apart ? bpf_map_lookup_elem(&flows, key) : 0;
	if (flow)
		return flow;
	__builtin_memset(key->remote, 0, sizeof(key->remote));
	return find_flow(key);
}

static __always_inline void count_error(struct flow *flow, __s32 error)
{
	__u32 slot;
	switch (error) {
	case 111: slot = 0; break;  // ECONNREFUSED
	case 110: slot = 1; break;  // ETIMEDOUT
	case 113: slot = 2; break;  // EHOSTUNREACH
	case 101: slot = 3; break;  // ENETUNREACH
	case 104: slot = 4; break;  // ECONNRESET
	case 32: slot = 5; break;   // EPIPE
	case 90: slot = 6; break;   // EMSGSIZE
	case 13: slot = 7; break;   // EACCES
	case 92: slot = 8; break;   // ENOPROTOOPT
	case 103: slot = 9; break;  // ECONNABORTED
	case 112: slot = 10; break; // EHOSTDOWN
	default:
		slot = FLOW_ERRORS - 1;
		flow->other_error = error;
	}
	add(&flow->errors[slot], 1);
}

// Addresses of a socket, or of a request for one. An IPv6 socket that speaks IPv4 has both kinds.
static __always_inline void read_addresses(struct sock_common *common, __u8 *version, __u8 *local, __u8 *remote,
					   const int direct)
{
	__u16 family = GET(common, skc_family);
	if (family == AF_INET6) {
		bpf_core_read(remote, 16, &common->skc_v6_daddr);
		bpf_core_read(local, 16, &common->skc_v6_rcv_saddr);
		__u32 *words = (__u32 *)remote;
		if (words[0] || words[1] || words[2] != __builtin_bswap32(0xffff)) {
			*version = 6;
			return;
		}
		__builtin_memset(remote, 0, 16);
		__builtin_memset(local, 0, 16);
	}
	*version = 4;
	*(__be32 *)remote = GET(common, skc_daddr);
	*(__be32 *)local = GET(common, skc_rcv_saddr);
}

static __always_inline struct tcp_sock *tcp_of(struct sock *sk, const int direct)
{
	return direct ? bpf_skc_to_tcp_sock(sk) : (struct tcp_sock *)sk;
}

// A closed socket has given its port back (skc_num is 0), but still knows it here.
static __always_inline __u16 local_port(struct tcp_sock *tcp, const int direct)
{
	return __builtin_bswap16(GET(tcp, inet_conn.icsk_inet.inet_sport));
}

// Who began is not kept; but a connection that was accepted inherits the backlog of its listener.
static __always_inline __u8 direction_of(struct sock *sk, __u8 state, const int direct)
{
	if (state == TCP_SYN_SENT)
		return FLOW_OUT;
	if (state == TCP_SYN_RECV)
		return FLOW_IN;
	return GET(sk, sk_max_ack_backlog) ? FLOW_IN : FLOW_OUT;
}

static __always_inline void read_key(struct flow_key *key, struct sock *sk, struct tcp_sock *tcp, __u32 netns,
				     __u8 direction, const int direct)
{
	key->netns = netns;
	key->kind = direction;
	key->protocol = IPPROTO_TCP;
	read_addresses(&sk->__sk_common, &key->version, key->local, key->remote, direct);
	if (direction == FLOW_IN) {
		key->port = local_port(tcp, direct);
	} else {
		key->port = __builtin_bswap16(GET(sk, __sk_common.skc_dport));
		key->uid = GET(sk, sk_uid.val);
	}
}

// True if the side that was asked ended the connection: told by the state from which it closed, and by a reset.
static __always_inline int ended_by_asked(__u8 direction, int before, __s32 error)
{
	if (direction == FLOW_OUT)
		return before == TCP_CLOSE_WAIT || before == TCP_LAST_ACK ||
		       (before == TCP_ESTABLISHED && error == ECONNRESET);
	return before == TCP_FIN_WAIT1 || before == TCP_FIN_WAIT2 || before == TCP_CLOSING ||
	       (before == TCP_ESTABLISHED && !error);
}

// Which count a connection belongs to that the asked side ended without having sent a byte; none for all others.
static __always_inline int kind_of_silence(__u8 direction, struct tcp_sock *tcp, int before, __s32 error, const int direct)
{
	if (!ended_by_asked(direction, before, error))
		return -1;
	__u32 sent = GET(tcp, data_segs_out), received = GET(tcp, data_segs_in);
	if (direction == FLOW_OUT ? received : sent)
		return -1;
	return (direction == FLOW_OUT ? sent : received) ? FLOW_UNANSWERED : FLOW_WORDLESS;
}

static __always_inline void count_end(struct flow *flow, struct tcp_sock *tcp, const int direct)
{
	add(&flow->counts[FLOW_CLOSED], 1);
	add(&flow->counts[FLOW_SEGMENTS], GET(tcp, segs_out));
	add(&flow->counts[FLOW_DATA_SEGMENTS], GET(tcp, data_segs_out));
	__u32 repeated = GET(tcp, total_retrans);
	if (!repeated)
		return;
	add(&flow->counts[FLOW_REPEATED], repeated);
	add(&flow->counts[FLOW_NEEDLESS], GET(tcp, dsack_dups));
}

static __always_inline int on_state(struct sock *sk, int before, int after, const int direct)
{
	int is_attempt = after == TCP_SYN_SENT;
	int is_success = after == TCP_ESTABLISHED && (before == TCP_SYN_SENT || before == TCP_SYN_RECV);
	int is_end = after == TCP_CLOSE && before != TCP_LISTEN && before != TCP_CLOSE;
	if (!is_attempt && !is_success && !is_end)
		return 0;
	__u32 netns = socket_netns(sk, direct);
	if (!netns || !is_watched(netns) || GET(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	struct tcp_sock *tcp = tcp_of(sk, direct);
	if (!tcp)
		return 0;

	struct flow_key key = {};
	read_key(&key, sk, tcp, netns, is_attempt ? FLOW_OUT : direction_of(sk, before, direct), direct);
	__s32 error = is_end ? GET(sk, sk_err) : 0;
	int is_failure = is_end && (before == TCP_SYN_SENT || before == TCP_SYN_RECV);
	int silence = is_end && !is_failure ? kind_of_silence(key.kind, tcp, before, error, direct) : -1;
	struct flow *flow;
	if (is_attempt)
		flow = find_timed(&key);
	else if (is_failure || error || silence == FLOW_UNANSWERED)
		flow = find_troubled(&key);
	else
		flow = key.kind == FLOW_IN ? find_arrival(&key) : find_flow(&key);
	if (!flow)
		return 0;
	if (is_attempt) {
		add(&flow->counts[FLOW_ATTEMPTS], 1);
		flow->pid = bpf_get_current_pid_tgid() >> 32;
		flow->cgroup_id = bpf_get_current_cgroup_id();
		bpf_get_current_comm(flow->comm, sizeof(flow->comm));
		return 0;
	}
	if (is_success) {
		add(&flow->counts[FLOW_ESTABLISHED], 1);
		return 0;
	}
	if (error)
		count_error(flow, error);
	if (!is_failure) {
		count_end(flow, tcp, direct);
		if (silence == FLOW_UNANSWERED)
			add(&flow->counts[FLOW_UNANSWERED], 1);
		else if (silence == FLOW_WORDLESS)
			add(&flow->counts[FLOW_WORDLESS], 1);
		return 0;
	}
	add(&flow->counts[FLOW_FAILED], 1);
	if (!error)
		add(&flow->counts[GET(tcp, segs_out) ? FLOW_ABANDONED : FLOW_UNSENT], 1);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int flow_state_tp_btf(__u64 *ctx)
{
	return on_state((struct sock *)ctx[0], ctx[1], ctx[2], 1);
}

SEC("raw_tp/inet_sock_set_state")
int flow_state_raw_tp(__u64 *ctx)
{
	return on_state((struct sock *)ctx[0], ctx[1], ctx[2], 0);
}

static __always_inline void sample_repeat(struct flow *flow, __u64 so_far, const struct flow_key *key, __u8 kind,
					  __u16 local, __u16 remote, __u32 seq, __u32 end_seq)
{
	if (so_far >= REPEATS_ALWAYS_SAMPLED && !may_sample(ALLOWANCE_REPEATS, SAMPLED_PER_JIFFY)) {
		lose(LOSS_REPEAT);
		return;
	}
	struct repeat *repeat = bpf_ringbuf_reserve(&repeats, sizeof(*repeat), 0);
	if (!repeat) {
		lose(LOSS_REPEAT);
		return;
	}
	repeat->monotonic_ns = bpf_ktime_get_ns();
	repeat->netns = key->netns;
	repeat->version = key->version;
	repeat->kind = kind;
	repeat->direction = key->kind;
	repeat->unused = 0;
	__builtin_memcpy(repeat->local, key->local, sizeof(repeat->local));
	__builtin_memcpy(repeat->remote, key->remote, sizeof(repeat->remote));
	repeat->local_port = local;
	repeat->remote_port = remote;
	repeat->seq = seq;
	repeat->end_seq = end_seq;
	repeat->unused_end = 0;
	bpf_ringbuf_submit(repeat, BPF_RB_NO_WAKEUP);
}

static __always_inline void on_repeat(struct sock *sk, struct sk_buff *skb, __u32 netns)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	struct flow_key key = {};
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	read_key(&key, sk, tcp, netns, direction_of(sk, state, 0), 0);
	__u32 count = FLOW_DATA_REPEATS;
	__u8 kind = REPEAT_DATA;
	if (state == TCP_SYN_SENT) {
		count = FLOW_SYN_REPEATS;
		kind = REPEAT_SYN;
	} else if (state == TCP_SYN_RECV) {
		count = FLOW_SYNACK_REPEATS;
		kind = REPEAT_SYNACK;
	} else if (BPF_CORE_READ(tcp, inet_conn.icsk_pending) == ICSK_TIME_LOSS_PROBE) {
		count = FLOW_TAIL_PROBES;
		kind = REPEAT_TAIL;
	}
	// The key loses its addresses where there is no room.
	struct flow_key asked = key;
	struct flow *flow = find_troubled(&asked);
	if (!flow)
		return;
	__u64 so_far = flow->counts[count];
	add(&flow->counts[count], 1);
	struct tcp_skb_cb *cb = (void *)__builtin_preserve_access_index(&skb->cb);
	sample_repeat(flow, so_far, &key, kind, local_port(tcp, 0),
		      __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport)), BPF_CORE_READ(cb, seq),
		      BPF_CORE_READ(cb, end_seq));
}

SEC("raw_tp/tcp_retransmit_synack")
int flow_synack(__u64 *ctx)
{
	struct sock_common *request = (void *)ctx[1];
	__u32 netns = socket_netns((struct sock *)ctx[0], 0);
	if (!netns || !is_watched(netns))
		return 0;
	struct flow_key key = { .netns = netns, .kind = FLOW_IN, .protocol = IPPROTO_TCP };
	read_addresses(request, &key.version, key.local, key.remote, 0);
	key.port = BPF_CORE_READ(request, skc_num);
	struct flow_key asked = key;
	struct flow *flow = find_troubled(&asked);
	if (!flow)
		return 0;
	__u64 so_far = flow->counts[FLOW_SYNACK_REPEATS];
	add(&flow->counts[FLOW_SYNACK_REPEATS], 1);
	__u32 seq = BPF_CORE_READ((struct tcp_request_sock *)request, snt_isn);
	sample_repeat(flow, so_far, &key, REPEAT_SYNACK, key.port,
		      __builtin_bswap16(BPF_CORE_READ(request, skc_dport)), seq, seq + 1);
	return 0;
}

static __always_inline struct flow *flow_of(struct sock *sk)
{
	__u32 netns = socket_netns(sk, 0);
	if (!netns || !is_watched(netns))
		return 0;
	struct flow_key key = {};
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	read_key(&key, sk, (struct tcp_sock *)sk, netns, direction_of(sk, state, 0), 0);
	return find_troubled(&key);
}

SEC("raw_tp/tcp_receive_reset")
int flow_receive_reset(__u64 *ctx)
{
	struct flow *flow = flow_of((struct sock *)ctx[0]);
	if (flow)
		add(&flow->counts[FLOW_RESET_RECEIVED], 1);
	return 0;
}

// True if the packet may belong to a TCP conversation that met trouble, which then has one sample less to take.
static __noinline int is_troubled(const unsigned char *network, __u64 available)
{
	unsigned char head[40] = {};
	__u8 one[16] = {}, other[16] = {};
	__u32 transport;
	if (available < 40 || bpf_probe_read_kernel(head, sizeof(head), network) < 0)
		return 0;
	if (head[0] >> 4 == 4) {
		__builtin_memcpy(one, head + 12, 4);
		__builtin_memcpy(other, head + 16, 4);
		transport = (head[0] & 0xf) * 4;
	} else {
		__builtin_memcpy(one, head + 8, 16);
		__builtin_memcpy(other, head + 24, 16);
		transport = 40;
	}
	__be16 ports[2] = {};
	if (transport + sizeof(ports) > available || bpf_probe_read_kernel(ports, sizeof(ports), network + transport) < 0)
		return 0;
	__u32 place = trouble_of(one, other, __builtin_bswap16(ports[0]));
	__u8 *mark = bpf_map_lookup_elem(&troubled, &place);
	if (!mark || !*mark) {
		place = trouble_of(one, other, __builtin_bswap16(ports[1]));
		mark = bpf_map_lookup_elem(&troubled, &place);
	}
	// The last of the samples that it may still take is never used up: it says that the mark was set.
	if (!mark || *mark < 2)
		return 0;
	*mark -= 1;
	return 1;
}

// Key of the packet that is answered: who sent it knocks at a port here (FLOW_IN), or is told of an ICMP error.
static __always_inline int read_packet(struct flow_key *key, struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	__u32 netns = is_kernel_pointer(dev) ? device_netns(dev, 0) : 0;
	if (!netns) {
		struct dst_entry *dst = (struct dst_entry *)(BPF_CORE_READ(skb, _skb_refdst) & SKB_DST_PTRMASK);
		dev = is_kernel_pointer(dst) ? BPF_CORE_READ(dst, dev) : 0;
		netns = is_kernel_pointer(dev) ? device_netns(dev, 0) : 0;
	}
	if (!netns || !is_watched(netns))
		return 0;
	key->netns = netns;
	unsigned char head[40] = {};
	const unsigned char *network = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	if (bpf_probe_read_kernel(head, 20, network) < 0)
		return 0;
	__u8 *source = key->kind == FLOW_IN ? key->remote : key->local;
	__u8 *destination = key->kind == FLOW_IN ? key->local : key->remote;
	__u32 transport = (head[0] & 0xf) * 4;
	key->version = head[0] >> 4;
	if (key->version == 4) {
		key->protocol = head[9];
		__builtin_memcpy(source, head + 12, 4);
		__builtin_memcpy(destination, head + 16, 4);
		// A later fragment has no ports.
		if ((head[6] & 0x1f) | head[7])
			return 1;
	} else if (key->version == 6 && !bpf_probe_read_kernel(head, 40, network)) {
		key->protocol = head[6];
		transport = 40;
		__builtin_memcpy(source, head + 8, 16);
		__builtin_memcpy(destination, head + 24, 16);
	} else {
		return 0;
	}
	__be16 port = 0;
	if (key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP)
		bpf_probe_read_kernel(&port, sizeof(port), network + transport + 2);
	key->port = __builtin_bswap16(port);
	return 1;
}

#define HAS_RESET_REASON bpf_core_field_exists(((struct trace_event_raw_tcp_send_reset *)0)->reason)

SEC("raw_tp/tcp_send_reset")
int flow_send_reset(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	__u8 state = is_kernel_pointer(sk) ? BPF_CORE_READ(sk, __sk_common.skc_state) : TCP_CLOSE;
	int is_connection = state != TCP_CLOSE && state != TCP_LISTEN && state != TCP_TIME_WAIT &&
			    state != TCP_NEW_SYN_RECV;
	struct flow *flow = 0;
	if (is_connection || !is_kernel_pointer(skb)) {
		if (is_kernel_pointer(sk))
			flow = flow_of(sk);
	} else {
		struct flow_key key = { .kind = FLOW_IN };
		if (read_packet(&key, skb))
			flow = find_troubled(&key);
	}
	if (!flow)
		return 0;
	add(&flow->counts[FLOW_RESET_SENT], 1);
	if (HAS_RESET_REASON)
		flow->reset_reason = ctx[2];
	return 0;
}

// TCP's errors are counted where a connection ends.
SEC("raw_tp/inet_sk_error_report")
int flow_error(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);
	__s32 error = BPF_CORE_READ(sk, sk_err);
	__u32 netns = protocol != IPPROTO_TCP && error ? socket_netns(sk, 0) : 0;
	if (!netns || !is_watched(netns))
		return 0;
	struct flow_key key = {};
	read_key(&key, sk, (struct tcp_sock *)sk, netns, FLOW_OUT, 0);
	key.protocol = protocol;
	if (!key.port) {
		key.port = local_port((struct tcp_sock *)sk, 0);
		key.local_port_kept = 1;
	}
	struct flow *flow = find_troubled(&key);
	if (flow)
		count_error(flow, error);
	return 0;
}

SEC("raw_tp/icmp_send")
int flow_icmp(__u64 *ctx)
{
	struct flow_key key = { .kind = FLOW_ICMP, .icmp_type = ctx[1], .icmp_code = ctx[2] };
	if (!read_packet(&key, (struct sk_buff *)ctx[0]))
		return 0;
	struct flow *flow = find_troubled(&key);
	if (flow)
		add(&flow->counts[FLOW_ICMP_SENT], 1);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts system calls about sockets that fail: what never becomes a packet moves no counter of the network.
//
// Attached only if asked for: while it is, every system call of the machine takes the slow way out of the kernel.
#include "common.h"
#include "flows.h"

// Errors of waiting, not of failing.
#define EINTR 4
#define EAGAIN 11
#define EISCONN 106
#define EALREADY 114
#define EINPROGRESS 115
// From here on the number means "call again" inside the kernel: linux/errno.h.
#define ERESTARTSYS 512

// The order of `watched_calls`.
#define CALL_CONNECT 0
#define CALL_SENDTO 1
#define CALL_SENDMSG 2
#define CALL_SENDMMSG 3
#define CALL_SOCKET 6

// Numbers of the calls, which differ between architectures; set by the loader.
volatile const __u32 watched_calls[WATCHED_CALLS] = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct call_key);
	__type(value, struct call);
} calls SEC(".maps");

// What a call was given: its number, the socket's descriptor and the two arguments in which an address may stand.
struct called {
	__s64 number;
	__u32 descriptor;
	__u64 second;
	__u64 fifth;
};

static __always_inline struct called what_was_called(void *registers)
{
	struct pt_regs___x86 *x86 = registers;
	struct pt_regs___arm64 *arm64 = registers;
	struct called called = { .number = -1 };
	if (bpf_core_field_exists(x86->orig_ax)) {
		called.number = BPF_CORE_READ(x86, orig_ax);
		called.descriptor = BPF_CORE_READ(x86, di);
		called.second = BPF_CORE_READ(x86, si);
		called.fifth = BPF_CORE_READ(x86, r8);
	} else if (bpf_core_field_exists(arm64->syscallno)) {
		called.number = BPF_CORE_READ(arm64, syscallno);
		// The result stands in the first register by now.
		called.descriptor = BPF_CORE_READ(arm64, orig_x0);
		called.second = BPF_CORE_READ(arm64, regs[1]);
		called.fifth = BPF_CORE_READ(arm64, regs[4]);
	}
	return called;
}

// The socket behind a descriptor of the running task.
static __always_inline struct sock *socket_of(struct task_struct *task, __u32 descriptor)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (!is_kernel_pointer(table) || descriptor >= BPF_CORE_READ(table, max_fds))
		return 0;
	struct file **files = BPF_CORE_READ(table, fd), *file = 0;
	if (!is_kernel_pointer(files) || bpf_probe_read_kernel(&file, sizeof(file), files + descriptor))
		return 0;
	struct socket *socket = is_kernel_pointer(file) ? BPF_CORE_READ(file, private_data) : 0;
	// Other files keep other things there: a socket knows its file.
	if (!is_kernel_pointer(socket) || BPF_CORE_READ(socket, file) != file)
		return 0;
	struct sock *sk = BPF_CORE_READ(socket, sk);
	return is_kernel_pointer(sk) ? sk : 0;
}

// The address at this place of the caller's memory.
static __always_inline int read_address(struct call_key *key, __u64 place)
{
	struct {
		__u16 family;
		__be16 port;
		__u8 rest[24]; // IPv4: the address; IPv6: four bytes of flow label, the address
	} given = {};
	if (!place || bpf_probe_read_user(&given, 8, (void *)place))
		return 0;
	if (given.family == AF_INET) {
		key->version = 4;
		__builtin_memcpy(key->remote, given.rest, 4);
	} else if (given.family == AF_INET6) {
		if (bpf_probe_read_user(&given, 24, (void *)place))
			return 0;
		key->version = 6;
		__builtin_memcpy(key->remote, given.rest + 4, 16);
	} else {
		return 0;
	}
	key->port = __builtin_bswap16(given.port);
	return 1;
}

// The peer that the socket has.
static __always_inline void read_peer(struct call_key *key, struct sock *sk, __u16 family)
{
	key->port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (!key->port)
		return;
	key->version = family == AF_INET ? 4 : 6;
	if (family == AF_INET)
		bpf_core_read(key->remote, 4, &sk->__sk_common.skc_daddr);
	else
		bpf_core_read(key->remote, 16, &sk->__sk_common.skc_v6_daddr);
}

SEC("raw_tp/sys_exit")
int failed_call(__u64 *ctx)
{
	__s64 result = ctx[1];
	if (result >= 0 || result <= -ERESTARTSYS)
		return 0;
	__u32 error = -result;
	if (error == EINTR || error == EAGAIN || error == EISCONN || error == EALREADY || error == EINPROGRESS)
		return 0;
	struct called called = what_was_called((void *)ctx[0]);
	int which = -1;
	for (int i = 0; i < WATCHED_CALLS; i++)
		if (watched_calls[i] == called.number)
			which = i;
	if (which < 0)
		return 0;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);
	__u32 netns = is_kernel_pointer(net) ? BPF_CORE_READ(net, ns.inum) : 0;
	if (!netns || !is_watched(netns))
		return 0;
	struct call_key key = { .netns = netns, .number = called.number, .error = error };
	// socket() has no descriptor yet, in place of it stands the family.
	if (which == CALL_SOCKET && called.descriptor != AF_INET && called.descriptor != AF_INET6)
		return 0;
	struct sock *sk = which == CALL_SOCKET ? 0 : socket_of(task, called.descriptor);
	if (sk) {
		__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
		// Sockets of the file system and the like concern no packets.
		if (family != AF_INET && family != AF_INET6)
			return 0;
		key.protocol = BPF_CORE_READ(sk, sk_protocol);
		__u64 place = 0;
		if (which == CALL_CONNECT)
			place = called.second;
		else if (which == CALL_SENDTO)
			place = called.fifth;
		else if ((which == CALL_SENDMSG || which == CALL_SENDMMSG) &&
			 bpf_probe_read_user(&place, sizeof(place), (void *)called.second))
			place = 0; // the first word of a msghdr
		if (!read_address(&key, place) && which <= CALL_SENDMMSG)
			read_peer(&key, sk, family);
	}
	key.cgroup_id = bpf_get_current_cgroup_id();
	key.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	struct call *call = bpf_map_lookup_elem(&calls, &key);
	if (!call) {
		struct call none = {};
		bpf_map_update_elem(&calls, &key, &none, BPF_NOEXIST);
		call = bpf_map_lookup_elem(&calls, &key);
	}
	if (!call) {
		lose(LOSS_CALL);
		return 0;
	}
	__sync_fetch_and_add(&call->count, 1);
	call->last_ns = bpf_ktime_get_ns();
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
// Drops everything, at XDP or at tc. The object beside it is attached with ip and tc, as a person would:
//   clang -O2 -target bpf -c drop_all.bpf.c -o drop_all.bpf.o && llvm-strip -g drop_all.bpf.o
#define SEC(name) __attribute__((section(name), used))

SEC("xdp") int drop_xdp(void *ctx)
{
	return 1; // XDP_DROP
}

SEC("tc") int drop_tc(void *ctx)
{
	return 2; // TC_ACT_SHOT
}

char _license[] SEC("license") = "Dual MIT/GPL";

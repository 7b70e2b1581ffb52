// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Which packets go to Strowger's AF_XDP sockets, and which to the kernel.
//
// A UDP packet to one of our (address, port) pairs goes to the socket of the queue that it came by. Everything else is the
// kernel's, as if this program were not there: so a mistake here costs speed and never a packet. Each packet is counted
// once, under the verdict that it got.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The verdicts; `Verdict` in src/net/xdp/program.rs has the same order.
enum verdict {
	REDIRECTED, // to the AF_XDP socket
	NOT_IP,     // neither IPv4 nor IPv6, or behind more than two tags
	NOT_PLAIN,  // IPv4 options, a fragment, or an IPv6 extension header: the kernel puts it together
	NOT_UDP,    // another protocol: TCP goes to the kernel's sockets
	OTHER_PORT, // not to one of our (address, port) pairs
	NO_SOCKET,  // ours, but no AF_XDP socket serves the queue: the kernel's UDP socket does
	TRUNCATED,  // a header ends after the packet's linear part does
	TOO_LONG,   // ours, but longer than a frame of the UMEM holds: the kernel's UDP socket takes it
	VERDICTS,
};

// `ListenerKey` in src/net/xdp/program.rs. An IPv4 address is written as an IPv4-mapped one.
struct listener {
	__u8 address[16];
	__be16 port;
	__u16 family; // 4 or 6, in the machine's order
};

struct vlan_tag {
	__be16 control;
	__be16 protocol;
};

// Our (address, port) pairs. 64 is LISTENERS_MAX with room.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct listener);
	__type(value, __u32);
} listeners SEC(".maps");

// The AF_XDP socket of each queue. The server sets the size to the interface's queues before it loads the program.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

// The longest packet that one frame of the UMEM holds; set before the program is loaded.
const volatile __u32 packet_len_max = 3840;

static __always_inline int count(__u32 verdict)
{
	__u64 *counter = bpf_map_lookup_elem(&verdicts, &verdict);

	if (counter)
		*counter += 1;
	return XDP_PASS;
}

// What stands where UDP should: an extension header, or another protocol.
static __always_inline int count_next_header(__u8 next)
{
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_ESP:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
	case 135: // Mobility
	case 139: // Host Identity Protocol
	case 140: // Shim6
		return count(NOT_PLAIN);
	default:
		return count(NOT_UDP);
	}
}

SEC("xdp.frags")
int strowger(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct listener key = {};
	__u32 queue = ctx->rx_queue_index;
	struct ethhdr *ethernet = data;
	void *next = ethernet + 1;
	struct udphdr *udp;
	__be16 protocol;

	if (next > end)
		return count(TRUNCATED);
	protocol = ethernet->h_proto;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag = next;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		next = tag + 1;
		if (next > end)
			return count(TRUNCATED);
		protocol = tag->protocol;
	}

	if (protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = next;

		next = ip + 1;
		if (next > end)
			return count(TRUNCATED);
		if (ip->version != 4 || ip->ihl != 5)
			return count(NOT_PLAIN);
		// More Fragments, or an offset.
		if (ip->frag_off & bpf_htons(0x3FFF))
			return count(NOT_PLAIN);
		if (ip->protocol != IPPROTO_UDP)
			return count(NOT_UDP);
		key.family = 4;
		key.address[10] = 0xFF;
		key.address[11] = 0xFF;
		__builtin_memcpy(&key.address[12], &ip->daddr, sizeof(ip->daddr));
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = next;

		next = ip + 1;
		if (next > end)
			return count(TRUNCATED);
		if (ip->version != 6)
			return count(NOT_PLAIN);
		if (ip->nexthdr != IPPROTO_UDP)
			return count_next_header(ip->nexthdr);
		key.family = 6;
		__builtin_memcpy(key.address, &ip->daddr, sizeof(key.address));
	} else {
		return count(NOT_IP);
	}

	udp = next;
	if ((void *)(udp + 1) > end)
		return count(TRUNCATED);
	key.port = udp->dest;
	if (!bpf_map_lookup_elem(&listeners, &key))
		return count(OTHER_PORT);
	if (bpf_xdp_get_buff_len(ctx) > packet_len_max)
		return count(TOO_LONG);
	// bpf_redirect_map falls back to XDP_PASS where no socket is registered, and does not say so: look first.
	if (!bpf_map_lookup_elem(&xsks, &queue))
		return count(NO_SOCKET);
	count(REDIRECTED);
	return bpf_redirect_map(&xsks, queue, XDP_PASS);
}

// No helper that this program calls asks for a GPL-compatible licence.
char _license[] SEC("license") = "MIT";

// Loses a share of the SIP packets that pass: a tc classifier for both directions of the phones' interface.
// Built by the test with -DLOSS_PERCENT=n. ARP, neighbour discovery and everything else pass.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#define SECTION(name) __attribute__((section(name), used))
#define SIP_PORT_FIRST 5060
#define SIP_PORT_LAST 5099

static unsigned int (*random_number)(void) = (void *)BPF_FUNC_get_prandom_u32;

static int is_sip(const struct udphdr *udp)
{
	__u16 source = __builtin_bswap16(udp->source);
	__u16 destination = __builtin_bswap16(udp->dest);

	return (source >= SIP_PORT_FIRST && source <= SIP_PORT_LAST) ||
	       (destination >= SIP_PORT_FIRST && destination <= SIP_PORT_LAST);
}

static int is_lost(void)
{
	return random_number() % 100 < LOSS_PERCENT;
}

SECTION("classifier") int lose(struct __sk_buff *packet)
{
	void *data = (void *)(long)packet->data;
	void *end = (void *)(long)packet->data_end;
	struct ethhdr *ethernet = data;
	struct udphdr *udp;

	if ((void *)(ethernet + 1) > end)
		return TC_ACT_OK;
	if (ethernet->h_proto == __builtin_bswap16(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
			return TC_ACT_OK;
		udp = (void *)(ip + 1);
	} else if (ethernet->h_proto == __builtin_bswap16(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_UDP)
			return TC_ACT_OK;
		udp = (void *)(ip + 1);
	} else {
		return TC_ACT_OK;
	}
	if ((void *)(udp + 1) > end || !is_sip(udp))
		return TC_ACT_OK;
	return is_lost() ? TC_ACT_SHOT : TC_ACT_OK;
}

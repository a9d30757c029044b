/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What decided a drop: states of the kernel that may be others when user space asks. No maps here.
 */
#ifndef SKBTRACE_DROP_H
#define SKBTRACE_DROP_H

/* forwarding and, in the upper half, rp_filter: of enum in include/uapi/linux/ip.h, less one. */
#define DEVCONF_FORWARDING 0
#define DEVCONF_RP_FILTER 7

static __always_inline __u64 devconf(__u64 conf)
{
	__u64 values = conf + OFF_IPV4_DEVCONF_DATA;
	return read_u32(values + 4 * DEVCONF_FORWARDING) |
	       (__u64)read_u32(values + 4 * DEVCONF_RP_FILTER) << 32;
}

/* What decided a drop may be gone when user space asks: it is read here, where it can be read. */
static __always_inline void note_circumstances(struct live *p)
{
	__u64 dev = p->dev;

#ifdef SKBTRACE_SOFTNET_DATA
	if (p->last == SKBTRACE_ENQUEUE) {
		__u64 base = read_u64(SKBTRACE_PER_CPU_OFFSET + 8 * (__u64)p->arg);
		__u32 known = 0, most = 0;
#ifdef SKBTRACE_MAX_BACKLOG
		known = 1;
		most = read_u32(SKBTRACE_MAX_BACKLOG);
#endif
		note(p, SKBTRACE_NOTE_BACKLOG, known, 0,
		     read_u32(base + SKBTRACE_SOFTNET_DATA + OFF_SOFTNET_DATA_INPUT_PKT_QUEUE +
			      OFF_SK_BUFF_HEAD_QLEN),
		     most);
	}
#endif
	if (p->sk) {
		__u64 sk = p->sk;
		note(p, SKBTRACE_NOTE_SOCK, read_u32(sk + OFF_SOCK_SK_RCVBUF), 0,
		     read_u32(sk + OFF_SOCK_SK_BACKLOG),
		     read_u32(sk + OFF_SOCK_SK_ACK_BACKLOG) |
			     (__u64)read_u32(sk + OFF_SOCK_SK_MAX_ACK_BACKLOG) << 32);
	}
	if (!dev)
		return;
#if defined(OFF_NET_BRIDGE_PORT_STATE) && defined(SKBTRACE_BR_HANDLE_FRAME)
	if (read_u64(dev + OFF_NET_DEVICE_RX_HANDLER) == SKBTRACE_BR_HANDLE_FRAME) {
		__u64 port = read_u64(dev + OFF_NET_DEVICE_RX_HANDLER_DATA);
		note(p, SKBTRACE_NOTE_PORT, read_u32(port + OFF_NET_BRIDGE_PORT_STATE) & 0xff, 0,
		     read_u64(port + OFF_NET_BRIDGE_PORT_FLAGS), 0);
	}
#endif
#ifdef OFF_NET_BRIDGE_PORT_DEV
	if (p->last == SKBTRACE_EGRESS && p->port) {
		__u64 to = read_u64(p->port + OFF_NET_BRIDGE_PORT_DEV);
		note(p, SKBTRACE_NOTE_EGRESS, read_u32(p->port + OFF_NET_BRIDGE_PORT_STATE) & 0xff,
		     0, read_u64(p->port + OFF_NET_BRIDGE_PORT_FLAGS),
		     dev_ifindex(to) | (__u64)dev_netns(to) << 32);
	}
#endif
	__u64 in = read_u64(dev + OFF_NET_DEVICE_IP_PTR);
	if (in) {
		__u64 net = read_u64(dev + OFF_NET_DEVICE_ND_NET);
		__u64 all = read_u64(net + OFF_NET_IPV4 + OFF_NETNS_IPV4_DEVCONF_ALL);
		note(p, SKBTRACE_NOTE_INET, read_u32(dev + OFF_NET_DEVICE_MTU), 0,
		     devconf(in + OFF_IN_DEVICE_CNF), devconf(all));
	}
}

/*
 * tcp_conn_request() frees a SYN that it refuses (accept queue or queue of SYNs full) like one that
 * it has answered. But it counts the drop first, in this very call.
 */
static __always_inline void note_listener(struct live *p)
{
	__u64 sk = p->sk;
	__u32 drops = read_u32(sk + OFF_SOCK_SK_DROPS) - p->count;
	if (!drops)
		return;
	p->dropped = 1;
	note(p, SKBTRACE_NOTE_LISTENER, drops, 0,
	     read_u32(sk + OFF_SOCK_SK_ACK_BACKLOG) |
		     (__u64)read_u32(sk + OFF_SOCK_SK_MAX_ACK_BACKLOG) << 32,
	     read_u32(sk + OFF_INET_CONNECTION_SOCK_ICSK_ACCEPT_QUEUE +
		      OFF_REQUEST_SOCK_QUEUE_QLEN));
}

#endif

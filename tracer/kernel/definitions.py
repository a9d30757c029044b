# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel program is told about the kernel it is compiled for, and what was asked of it.

Offsets come from BTF, addresses from kallsyms, the probe table from PROBES. Presence decides,
never a version: what a kernel does not have is not defined, and bpf/*.h do without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tracer.asked import Asked
from tracer.errors import PrerequisiteError
from tracer.kernel.btf import Btf
from tracer.limits import Limits
from tracer.model import Layer, Outcome
from tracer.probes import PROBES, Attach, Handler, chosen
from tracer.trigger import Trigger
from tracer.wanted import Wanted

LIVE_MAX = 16384
"""Packets followed at once. Bounds the kernel's memory: 1.4 kB each, and ``Asked.snaplen``."""
RING_PAGES = 4096
"""Ring buffer, in pages of 4 KiB: 16 MiB hold some 25,000 journeys that nobody has read yet."""
STEPS_MAX = 256
"""Rows of struct skbtrace_step, 8 kB each and for each CPU: 2 MiB. There is one for each two
functions that follow one another: 17 in a ping with the usual layers, 45 in tests/data/nat.json.
0: steps are not counted."""
STEPS_LEAST, STEPS_OF_ALL = 64, 8192
"""Where there are many CPUs, there are fewer for each: 64 MiB altogether, but no less than that."""

# What every kernel we know has.
_NEEDED = {
    "sk_buff": (
        *("dev", "len", "data_len", "next", "protocol", "mac_header", "network_header"),
        *("tail", "end", "head", "data"),
    ),
    "skb_shared_info": ("nr_frags", "frags"),
    "net_device": ("ifindex", "nd_net", "netdev_ops", "ip_ptr", "mtu", "rx_handler"),
    "dst_entry": ("dev",),
    "sock_common": ("skc_net", "skc_family"),
    "sock": ("sk_type", "sk_protocol", "sk_rcvbuf", "sk_backlog", "sk_drops"),
    "inet_connection_sock": ("icsk_accept_queue",),
    "request_sock_queue": ("qlen",),
    "nf_hook_state": ("hook", "pf"),
    "packet_type": ("af_packet_priv",),
    "net": ("ipv4",),
    "netns_ipv4": ("devconf_all",),
    "in_device": ("cnf",),
    "ipv4_devconf": ("data",),
    "softnet_data": ("input_pkt_queue", "backlog"),
    "sk_buff_head": ("qlen",),
    "task_struct": ("flags", "nsproxy"),
    "nsproxy": ("net_ns",),
}
_NEEDED_MORE = (
    ("sk_buff", "_skb_refdst"),
    ("sk_buff", "destructor"),
    ("sk_buff", "sk"),
    ("sk_buff", "mark"),
    ("sk_buff", "vlan_tci"),
    ("sk_buff", "vlan_proto"),
    ("net_device", "rx_handler_data"),
    ("sock", "sk_ack_backlog"),
    ("sock", "sk_max_ack_backlog"),
)
_OPTIONAL = (
    ("sk_buff", "vlan_all"),
    ("sk_buff", "_nfct"),
    ("sock", "sk_cgrp_data"),
    ("sock_cgroup_data", "classid"),
    ("packet_sock", "stats"),
)
_WINDOW = ("sk", "mark", "priority", "hash", "tc_index", "_nfct", "ip_summed")
"""What is looked at of struct sk_buff for changes, besides what is needed anyway."""

_PER_CPU = ("__per_cpu_offset", "__preempt_count", "pcpu_hot", "softnet_data")
_OPS = ("veth_netdev_ops", "br_netdev_ops", "loopback_ops")
_BACKLOG_LIMIT = ("netdev_max_backlog", "net_hotdata")
_FUNCTIONS = ("br_handle_frame", "sock_rfree")
_PAGES = ("vmemmap_base", "page_offset_base")
SYMBOLS = (*_PER_CPU, *_OPS, *_BACKLOG_LIMIT, *_FUNCTIONS, *_PAGES)
"""What ``definitions`` wants the addresses of."""

MODULES = Path("/sys/module")
"""A folder for each module that is loaded."""


def needed(layers: Collection[Layer], typed: Collection[int]) -> list[int]:
    """Return the positions in PROBES of what is attached: no entry of what fexit tells all of."""
    told = {i - 1 for i in typed if PROBES[i].typed is Attach.FEXIT}
    return [i for i in chosen(layers) if i not in told]


def definitions(
    btf: Btf,
    addresses: Mapping[str, int],
    asked: Asked,
    *,
    cpus: int,
    scoped: bool,
    typed: Collection[int] = (),
) -> list[str]:
    """Return compiler flags; ``typed``: positions in PROBES of what is attached by ``Probe.typed``.

    PrerequisiteError if this kernel's types are not of those we know.
    """
    values: dict[str, int | str] = {
        "SKBTRACE_CPUS": cpus,
        "SKBTRACE_LIVE": LIVE_MAX,
        "SKBTRACE_RING_PAGES": RING_PAGES,
        "SKBTRACE_STEPS": min(STEPS_MAX, max(STEPS_LEAST, STEPS_OF_ALL // cpus)),
        "SKBTRACE_KFREE_ARGS": btf.tracepoint_args("kfree_skb") or 2,
        "OFF_NET_NS_INUM": _offset(btf, "net", "ns") + _offset(btf, "ns_common", "inum"),
    }
    values |= {"SKBTRACE_SCOPED": 1} if scoped else {}
    values |= {"SKBTRACE_TYPED": 1} if typed else {}
    for name in ("get_func_arg", "get_current_task_btf"):
        number = helper(btf, name)
        values |= {} if number is None else {f"SKBTRACE_{name.upper()}": number}
    for struct, member in (
        *((struct, member) for struct, members in _NEEDED.items() for member in members),
        *_NEEDED_MORE,
    ):
        values[_name(struct, member)] = _offset(btf, struct, member)
    for struct, member in _OPTIONAL:
        found = btf.offset(struct, member)
        if found is not None:
            values[_name(struct, member)] = found
    values |= _vlan(btf) | _is_data(btf) | _places(btf, addresses) | _bridge_port(btf)
    _neighbours(btf)
    if asked.changes:
        values |= _window(btf)
    if asked.filter is not None:
        values["SKBTRACE_FILTER"] = asked.filter.in_c()
        if asked.filter.needs_addresses:
            values["SKBTRACE_FILTER_ADDRESSES"] = 1
    values |= _wanted(asked.wanted, values)
    values |= {} if asked.snaplen is None else {"SKBTRACE_SNAPLEN": asked.snaplen}
    if asked.passes_over:
        values["SKBTRACE_PASSES_OVER"] = 1
    values |= _handlers(asked.layers) | _limits(asked.limits) | _trigger(asked.trigger)
    if Layer.NETFILTER in asked.layers:
        values |= _netfilter(btf)
    rows = " ".join(
        f"X({i},{probe.typed if i in typed else probe.attach},"
        f"{probe.handler},{probe.skb},{int(probe.final)})"
        for i in needed(asked.layers, typed)
        for probe in (PROBES[i],)
    )
    ops = "||".join(f"(o)=={addresses[name]:#x}ULL" for name in _OPS if name in addresses)
    return [
        *(f"-D{name}={value}" for name, value in values.items()),
        f"-DSKBTRACE_PROBED_OPS(o)=({ops or 0})",
        f"-DSKBTRACE_PROBES(X)={rows}",
    ]


def _neighbours(btf: Btf) -> None:
    """PrerequisiteError if what read_layout() reads in one go does not lie together."""
    for member in ("network_header", "mac_header"):
        if not 0 <= _offset(btf, "sk_buff", member) - _offset(btf, "sk_buff", "protocol") <= 6:
            raise PrerequisiteError(f"this kernel's sk_buff keeps {member} far from protocol")
    tail, end, head, data, length, data_len = (
        _offset(btf, "sk_buff", m) for m in ("tail", "end", "head", "data", "len", "data_len")
    )
    if not (data - head == 8 and {head - tail, head - end} <= {4, 8, 12, 16}):
        raise PrerequisiteError("this kernel's sk_buff keeps tail far from head")
    if data_len - length != 4:
        raise PrerequisiteError("this kernel's sk_buff keeps data_len far from len")


def helper(btf: Btf, name: str) -> int | None:
    """Return the number by which programs call one of the kernel's functions, if it has it."""
    functions = btf.enum("bpf_func_id").items()
    return next((number for number, found in functions if found == f"BPF_FUNC_{name}"), None)


def _name(struct: str, member: str) -> str:
    return f"OFF_{struct}_{member}".upper()


def _offset(btf: Btf, struct: str, member: str) -> int:
    found = btf.offset(struct, member)
    if found is None:
        raise PrerequisiteError(f"this kernel's struct {struct} has no member {member}")
    return found


def _limits(limits: Limits) -> dict[str, int | str]:
    values: dict[str, int | str] = {}
    if limits.samples:
        values["SKBTRACE_SAMPLE"] = 1
    for name, a_second in (("MAX_RATE", limits.max_rate), ("PER_FLOW", limits.per_flow)):
        if a_second is not None:
            values[f"SKBTRACE_{name}_NS"] = f"{1_000_000_000 // a_second}ULL"
    return values


def _wanted(wanted: Wanted, known: Mapping[str, int | str]) -> dict[str, int | str]:
    values: dict[str, int | str] = {}
    if wanted.direction is not None:
        values["SKBTRACE_ARRIVES"] = int(wanted.direction == "in")
    if wanted.mark is not None:
        values["SKBTRACE_MARK"], values["SKBTRACE_MARK_MASK"] = map("{:#x}u".format, wanted.mark)
    if wanted.pid is not None:
        values["SKBTRACE_PID"] = wanted.pid
    if wanted.comm is not None:
        padded = wanted.comm.ljust(16, b"\0")
        front, back = (int.from_bytes(half, "little") for half in (padded[:8], padded[8:]))
        values |= {"SKBTRACE_COMM": f"{front}ULL", "SKBTRACE_COMM_MORE": f"{back}ULL"}
    if (wanted.pid, wanted.comm) != (None, None) and "SKBTRACE_PREEMPT_COUNT" not in known:
        raise PrerequisiteError("this kernel does not tell whether a process is at work")
    return values


def _trigger(trigger: Trigger | None) -> dict[str, int | str]:
    if trigger is None or not trigger.of_the_kernel:
        return {}
    slower = "(~0ULL >> 1)" if trigger.slower_ns is None else f"{trigger.slower_ns}ULL"
    drop = {"SKBTRACE_TRIGGER_DROP": 1} if Outcome.DROPPED in trigger.outcomes else {}
    return {"SKBTRACE_TRIGGER_NS": slower, **drop}


def _vlan(btf: Btf) -> dict[str, int | str]:
    present = btf.bit_field("sk_buff", "vlan_present")
    if present is None:
        return {}
    return {
        "OFF_SK_BUFF_VLAN_PRESENT": present.byte,
        "MASK_SK_BUFF_VLAN_PRESENT": present.mask,
    }


def _is_data(btf: Btf) -> dict[str, int | str]:
    found = btf.bit_field("sock_cgroup_data", "is_data")
    return {} if found is None else {"OFF_SOCK_CGROUP_DATA_IS_DATA": found.byte}


def _window(btf: Btf) -> dict[str, int | str]:
    """Where the fields of struct sk_buff lie that may change, and the bytes that span them."""
    summed = btf.bit_field("sk_buff", "ip_summed")
    if summed is None:
        raise PrerequisiteError("this kernel's struct sk_buff has no member ip_summed")
    values: dict[str, int | str] = {
        "SKBTRACE_CHANGES": 1,
        "OFF_SK_BUFF_IP_SUMMED": summed.byte,
        "SHIFT_SK_BUFF_IP_SUMMED": (summed.mask & -summed.mask).bit_length() - 1,
    }
    for member in _WINDOW:
        if member != "ip_summed":
            values[_name("sk_buff", member)] = _offset(btf, "sk_buff", member)
    members = (*_NEEDED["sk_buff"], "_skb_refdst", *_WINDOW)
    apart = {"next", "data", "data_len", "end", "ip_summed"}
    offsets = [_offset(btf, "sk_buff", m) for m in members if m not in apart]
    first = min(offsets) & ~7
    values["SKB_FIRST"] = first
    values["SKB_WINDOW"] = (max(offsets) & ~7) + 8 - first
    return values


def _places(btf: Btf, addresses: Mapping[str, int]) -> dict[str, int | str]:
    """Per-CPU variables and functions the program compares with, where kallsyms tells them."""
    values: dict[str, int | str] = {}
    hot = btf.offset("pcpu_hot", "preempt_count")
    count = addresses.get("__preempt_count")
    if "pcpu_hot" in addresses and hot is not None:  # 6.2 to 6.14 (commit 64701838bf05)
        count = addresses["pcpu_hot"] + hot
    if "__per_cpu_offset" in addresses:
        values["SKBTRACE_PER_CPU_OFFSET"] = f"{addresses['__per_cpu_offset']:#x}ULL"
        if count is not None:
            values["SKBTRACE_PREEMPT_COUNT"] = f"{count:#x}ULL"
        if "softnet_data" in addresses:
            values["SKBTRACE_SOFTNET_DATA"] = f"{addresses['softnet_data']:#x}ULL"
    limit = addresses.get("netdev_max_backlog")
    hotdata = btf.offset("net_hotdata", "max_backlog")
    if "net_hotdata" in addresses and hotdata is not None:  # 6.9 (commit edbc666cdcbf)
        limit = addresses["net_hotdata"] + hotdata
    if limit is not None:
        values["SKBTRACE_MAX_BACKLOG"] = f"{limit:#x}ULL"
    page = btf.size("page")
    if page is not None and all(name in addresses for name in _PAGES):
        values["SIZE_PAGE"] = page
        values |= {f"SKBTRACE_{name.upper()}": f"{addresses[name]:#x}ULL" for name in _PAGES}
    for function in _FUNCTIONS:
        if function in addresses:
            values[f"SKBTRACE_{function.upper()}"] = f"{addresses[function]:#x}ULL"
    return values


def _bridge_port(btf: Btf) -> dict[str, int | str]:
    """Where a bridge port keeps its state, if there is a bridge."""
    types = btf if btf.size("net_bridge_port") else btf.module("bridge")
    found = (
        {m: types.offset("net_bridge_port", m) for m in ("dev", "state", "flags")} if types else {}
    )
    return {_name("net_bridge_port", m): at for m, at in found.items() if at is not None}


_NFT = {
    "nft_chain": ("name", "table", "handle"),
    "nft_table": ("name", "family", "handle"),
    "nft_base_chain": ("chain", "policy"),
    "nft_expr": ("data",),
    "nft_immediate_expr": ("dreg",),
    "nft_verdict": ("chain",),
    "nf_hook_ops": ("hooknum",),
}
_NFT_BLOB = (
    ("nft_chain", "blob_gen_0"),
    ("nft_chain", "blob_gen_1"),
    ("nft_rule_blob", "data"),
)


def _netfilter(btf: Btf) -> dict[str, int | str]:
    """Where nftables and iptables, if they are loaded, keep the names of their tables."""
    values: dict[str, int | str] = {}
    tables = btf.module("x_tables") or btf
    for member in ("name", "af"):
        found = tables.offset("xt_table", member)
        if found is not None:
            values[_name("xt_table", member)] = found
    module = btf.module("nf_tables")
    if module is None:
        return values | (_nft_without_types(btf) if (MODULES / "nf_tables").exists() else {})
    for struct, members in _NFT.items():
        for member in members:
            values[_name(struct, member)] = _offset(module, struct, member)
    for struct, member in _NFT_BLOB:
        found = module.offset(struct, member)
        if found is not None:
            values[_name(struct, member)] = found
    return values


def _nft_without_types(btf: Btf) -> dict[str, int | str]:
    """The same for 5.10, whose modules have no BTF: include/net/netfilter/nf_tables.h there."""
    ops, chains = btf.size("nf_hook_ops"), btf.size("rhltable")
    if ops is None or chains is None:
        return {}
    handle = 16 + chains + 4 * 16 + 8  # nft_table: list, chains_ht, four lists, hgenerator
    base = ops + 16  # nft_base_chain: ops, hook_list; then type, policy, flags, stats, chain
    return {
        "OFF_NFT_CHAIN_NAME": 88,
        "OFF_NFT_CHAIN_TABLE": 64,
        "OFF_NFT_CHAIN_HANDLE": 72,
        "OFF_NFT_TABLE_HANDLE": handle,
        "OFF_NFT_TABLE_NAME": handle + 16,
        "OFF_NFT_TABLE_FAMILY": handle + 12,
        "OFF_NFT_BASE_CHAIN_POLICY": base + 8,
        "OFF_NFT_BASE_CHAIN_CHAIN": base + 24,
        "OFF_NFT_EXPR_DATA": 8,
        "OFF_NFT_IMMEDIATE_EXPR_DREG": 16,
        "OFF_NFT_VERDICT_CHAIN": 8,
        "OFF_NF_HOOK_OPS_HOOKNUM": _offset(btf, "nf_hook_ops", "hooknum"),
    }


_KNOWN = {
    *(Handler.XMIT, Handler.ENQUEUE, Handler.NFT, Handler.EGRESS),
    *(Handler.DRIVER, Handler.GRO, Handler.MERGE, Handler.SERVE),
}
"""Handlers whose only probe the program knows by number."""


def _handlers(layers: Collection[Layer]) -> dict[str, int | str]:
    values: dict[str, int | str] = {}
    makers = [i for i, p in enumerate(PROBES) if p.handler is Handler.CLONE]
    values["SKBTRACE_MAKERS"] = len(makers)
    values["SKBTRACE_CLONE"] = makers[0]
    values["SKBTRACE_REQUEST"] = next(
        i for i, p in enumerate(PROBES) if p.handler is Handler.REQUEST
    )
    values["SKBTRACE_SEGMENT"] = next(
        i for i in makers if PROBES[i].function == "__skb_gso_segment"
    )
    for i in chosen(layers):
        probe = PROBES[i]
        if probe.handler in _KNOWN:
            values[f"SKBTRACE_{probe.handler.upper()}"] = i
        if probe.attach is Attach.RAW_TRACEPOINT and probe.handler is Handler.DRIVER:
            values["SKBTRACE_RAW_BEGIN"] = 1
    if Layer.NETFILTER in layers:
        values["SKBTRACE_NETFILTER"] = 1
    else:
        values["SKBTRACE_NFT"] = 0xFF
    for handler in (Handler.DRIVER, Handler.MERGE):
        values.setdefault(f"SKBTRACE_{handler.upper()}", 0xFF)
    return values

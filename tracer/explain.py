# SPDX-License-Identifier: GPL-2.0-only
"""Why a packet was dropped: the kernel's word -> what it means for this packet, and what to type.

Facts in, words out. The facts are the drop (reason, function, state read at that moment) and the
journey's last hops; nothing is looked up, so this also explains a trace from another host.

``RULES``, at the end, is the table of all that is known. A rule is found by the reason. Where the
kernel gives none (before 5.17 never, and long after that often NOT_SPECIFIED) it is found by the
function that dropped the packet. A function may drop for several reasons: then the sentence names
all of them, unless the state or the journey tells them apart. What no rule knows is said to be
unknown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import NamedTuple

from tracer.model import Device, Drop, Hop, Journey, Netns, Outcome, Verdict
from tracer.probes import FREES
from tracer.text import printable

PathOf = Callable[[Netns], str | None]
"""Netns → the file it can be entered by, or None. ``topology`` knows (``Names.places``)."""


class Explanation(NamedTuple):
    """Three lines, all printable."""

    sentence: str
    """What happened to this packet and where."""
    state: str | None
    """The values that decided it, as they were read at that moment."""
    command: str | None
    """What shows (or, after a ``#``, where to change) what decided it. Ready to paste."""


def _by_name(_netns: Netns) -> str | None:
    return None


def explain(journey: Journey, path_of: PathOf = _by_name) -> Explanation | None:
    """Say why it was dropped; None if it was not.

    A namespace's name is for people: a lab's is shorter than its file in /run/netns. ``path_of``
    says how to enter it; without, a name is taken for the one that ``ip netns`` knows.
    """
    drop = journey.drop
    if journey.outcome is not Outcome.DROPPED or drop is None:
        return None
    case = Case(journey, drop)
    rule = None if case.vague else _BY_REASON.get(drop.reason or "")
    if rule is None and case.vague:
        rule = _BY_FUNCTION.get(drop.function or "")
    said = (rule.say if rule is not None else _unknown)(case)
    command = said.command and inside(said.netns or case.netns, said.command, path_of)
    return Explanation(
        printable(said.sentence),
        printable(case.told(said.decided_by)) if said.decided_by else None,
        printable(command) if command else None,
    )


_OF_PROCESS = re.compile(r".*:(\d+)")
_NEED_ROOT = frozenset(
    {
        "nft",
        "bpftool",
        "iptables-legacy",
        "ip6tables-legacy",
        "arptables-legacy",
        "ebtables-legacy",
    }
)


def inside(netns: Netns | None, command: str, path_of: PathOf = _by_name) -> str:
    """Return the shell command that runs ``command`` in a namespace.

    As its file says, if ``path_of`` knows one; else as its name says (``model.Netns``): ``host``,
    ``<comm>:<pid>`` for a process's, ``ns:<inum>`` for one that nobody has a name for, which
    cannot be entered by what is known here and is left to the reader, else one of ``ip netns``.
    """
    if netns is None or netns.name == "host":
        return f"sudo {command}" if command.split(" ", 1)[0] in _NEED_ROOT else command
    path = path_of(netns)
    if path is None and netns.name == f"ns:{netns.inum}":
        return f"{command}   # in that network namespace, {netns.name}"
    if path is None and (process := _OF_PROCESS.fullmatch(netns.name)) is not None:
        path = f"/proc/{process[1]}/ns/net"
    if path is None:
        path = f"/run/netns/{netns.name}"
    name = path.removeprefix("/run/netns/")
    if name != path and "/" not in name:
        return f"sudo ip netns exec {shlex.quote(name)} {command}"
    return f"sudo nsenter --net={shlex.quote(path)} {command}"


def _is_number(reason: str | None) -> bool:
    """Whether it is what the kernel package calls a number outside enum skb_drop_reason."""
    return re.fullmatch(r"(reason )?\d+", reason or "") is not None


class Case:
    """A dropped journey. What it has no brackets for stands in the table as ``{name}``."""

    def __init__(self, journey: Journey, drop: Drop) -> None:
        self.journey = journey
        self.drop = drop
        self.flow = journey.flow
        self.values = dict(drop.state)
        self.vague: bool = drop.reason in _NO_REASON or _is_number(drop.reason)
        """The kernel gave no reason, or one whose name is not known: what is said rests on the
        function alone."""
        self.hops = [h for h in journey.hops if h.function not in FREES]
        self.hop: Hop | None = self.hops[-1] if self.hops else None
        """The last good hop."""
        self.device: Device | None = next(
            (h.device for h in reversed(self.hops) if h.device is not None), None
        )
        self.netns = self.device.netns if self.device else None
        self.proto: str = self.flow.proto
        self.PROTO = self.proto.upper()
        self.family, self.icmp, self.ask = ("ipv4", "ICMP", "ARP")
        if self.v6:
            self.family, self.icmp, self.ask = ("ipv6", "ICMPv6", "neighbour solicitation")

    # where

    @property
    def at(self) -> str:
        """`` at host/docker0``, or nothing where no device is known."""
        return f" at {self.place}" if self.device else ""

    @property
    def place(self) -> str:
        """``host/docker0``: the device of the last good hop."""
        if self.device is None:
            return "a device that is not known"
        return self.device.place

    @property
    def within(self) -> str:
        """The namespace of the last good hop."""
        return self.netns.name if self.netns else "a namespace that is not known"

    @property
    def on_dev(self) -> str:
        """`` dev docker0``, as a shell takes it, or nothing."""
        return f" dev {shlex.quote(self.device.ifname)}" if self.device else ""

    @property
    def dev(self) -> str:
        """`` docker0``, as a shell takes it, or nothing."""
        return self.on_dev.removeprefix(" dev")

    @property
    def link(self) -> str:
        """The command that shows the device with all its counters."""
        return f"ip -s -s -d link{' show' if self.device else ''}{self.on_dev}"

    @property
    def queue(self) -> str:
        """The input queue it was to be put on."""
        cpu = None if self.hop is None else self.hop.to_cpu
        if cpu is None and self.hop is not None:
            cpu = self.hop.cpu
        return f"The input queue of CPU {cpu}" if cpu is not None else "A CPU's input queue"

    # who

    @property
    def v6(self) -> bool:
        """Whether it is IPv6, as far as its addresses say."""
        to = self.flow.dst or ""
        return ":" in to and not re.fullmatch(r"(?:..:){5}..", to)

    @property
    def target(self) -> str:
        """``172.17.0.3:8080``; the address it has now, if NAT has changed it on its way."""
        dst, dport = self.now("dst", self.flow.dst), self.now("dport", self.flow.dport)
        if dst is None:
            return "its destination"
        if dport is None:
            return str(dst)
        return f"[{dst}]:{dport}" if self.v6 else f"{dst}:{dport}"

    @property
    def src(self) -> str:
        """Its source, if that is an IP address."""
        return self.address("src", self.flow.src) or "its source"

    @property
    def dst(self) -> str:
        """Its destination, if that is an IP address."""
        return self.address("dst", self.flow.dst) or "its destination"

    @property
    def eth_dst(self) -> str:
        """Its Ethernet destination."""
        return self.mac.strip() or "its destination"

    @property
    def mac(self) -> str:
        """The same in the middle of a sentence, or nothing."""
        found = self.now("eth_dst", self.flow.eth_dst)
        return f" {found}" if found else ""

    @property
    def vlan(self) -> str:
        """Its VLAN."""
        tag = self.flow.vlan
        return f"VLAN {tag}" if tag is not None else "its VLAN (it has no tag)"

    def now(self, field: str, first: str | int | None) -> str | int | bool | None:
        """Value of a field when it was last seen, given what it was at first."""
        for hop in reversed(self.hops):
            for change in reversed(hop.changes):
                if change.field == field:
                    return change.new
        return first

    def address(self, field: str, first: str | None) -> str | None:
        """What ``src`` or ``dst`` is now, as a shell takes it, if it is an IP address."""
        value = self.now(field, first)
        looks = re.fullmatch(r"[0-9a-fA-F.:]+", str(value)) if value is not None else None
        return None if looks is None or self.proto.startswith("0x") else str(value)

    # how

    @property
    def size(self) -> str:
        """Its bytes, and that they are too many."""
        return f"Its {self.hop.len} bytes are" if self.hop and self.hop.len else "It is"

    @property
    def of_size(self) -> str:
        """`` of 60 bytes``."""
        return f" of {self.hop.len} bytes" if self.hop else ""

    @property
    def port_words(self) -> str:
        """The state of the bridge port it is at."""
        return _state_words(self.values["port_state"])

    @property
    def egress(self) -> str:
        """``host/vethc2``: the bridge port it was to leave by."""
        to = self.drop.egress
        return to.place if to is not None else "a port that is not known"

    @property
    def on_egress(self) -> str:
        """`` dev vethc2``, as a shell takes it, or nothing."""
        to = self.drop.egress
        return f" dev {shlex.quote(to.ifname)}" if to is not None else ""

    @property
    def egress_words(self) -> str:
        """The state of that port."""
        return _state_words(self.values["egress_state"])

    @property
    def rp_mode(self) -> int:
        """The reverse path filter: the larger of the device's and of all."""
        return max(self.values.get("rp_filter", 0), self.values.get("all_rp_filter", 0))

    @property
    def or_else(self) -> str:
        """What else the function may have dropped it for, if the kernel does not say."""
        return " (or its checksum is wrong, or policy forbids it)" if self.vague else ""

    @property
    def or_ended(self) -> str:
        """The same, for TCP where a connection is expected."""
        return "; or the connection has just ended (TIME_WAIT)" if self.vague else ""

    @property
    def or_not_cut(self) -> str:
        """The same, where packets are cut into fragments."""
        return " (or it could not be cut into fragments)" if self.vague else ""

    @property
    def next_hop(self) -> str:
        """Who was to be asked for a link-layer address."""
        to = self.address("dst", self.flow.dst)
        return f"the next hop towards {to}" if to else "the next hop"

    # what to type

    @property
    def route_get(self) -> str:
        """The command that shows the way it would take."""
        to = self.address("dst", self.flow.dst)
        return f"ip route get {to}" if to else "ip route"

    @property
    def routes(self) -> str:
        """The command that shows the routes for it; no error if there are none."""
        to = self.address("dst", self.flow.dst)
        return f"ip{' -6' if self.v6 else ''} route show table all" + (f" match {to}" if to else "")

    @property
    def sockets(self) -> str:
        """The command that shows who listens where it wanted to go."""
        kind = {"tcp": "t", "udp": "u"}.get(self.proto, "w")
        port = self.now("dport", self.flow.dport)
        return f"ss -{kind}lnp" + (f" 'sport = :{port}'" if isinstance(port, int) else "")

    @property
    def memory(self) -> str:
        """The command that shows the buffers of sockets."""
        return f"ss -{ {'tcp': 't', 'udp': 'u'}.get(self.proto, 'w') }amnp"

    def conf(self, name: str) -> str:
        """Return the sysctl call for a setting of the device and of ``all``."""
        where = ["all"] + ([self.device.ifname.replace(".", "/")] if self.device else [])
        return "sysctl " + " ".join(
            shlex.quote(f"net.{self.family}.conf.{w}.{name}") for w in where
        )

    # what was read

    def has(self, *names: str) -> bool:
        """Whether all of these were read when it was dropped."""
        return all(name in self.values for name in names)

    def reaches(self, name: str, limit: str, more: int = 0) -> bool:
        """Whether both were read, and the one is at the other, or that much above."""
        return self.has(name, limit) and self.values[name] >= self.values[limit] + more

    def last_was(self, *functions: str) -> bool:
        """Whether it was dropped in one of these, or in what followed it without a hop."""
        return self.drop.function in functions or (
            self.hop is not None and self.hop.function in functions
        )

    def told(self, names: tuple[str, ...]) -> str:
        """``forwarding = 0, all_forwarding = 1 at host/br0``."""
        units = {
            name: f" ({_state_words(self.values[name])})"
            for name in ("port_state", "egress_state")
            if self.has(name)
        }
        units |= dict.fromkeys(("rmem_alloc", "rcvbuf", "mtu"), " bytes")
        words = [f"{n} = {self.values[n]}{units.get(n, '')}" for n in names]
        return ", ".join(words) + self.at


def _state_words(state: int) -> str:
    return _PORT_STATES[state] if 0 <= state < len(_PORT_STATES) else "unknown"


class Said(NamedTuple):
    """What a rule says. ``decided_by``: names in ``Drop.state``; ``netns``: where to run it."""

    sentence: str
    command: str | None = None
    decided_by: tuple[str, ...] = ()
    netns: Netns | None = None


Say = Callable[[Case], Said]


class Line(NamedTuple):
    """What may be said. ``{name}`` is a member of ``Case``, or a value that was read."""

    sentence: str
    command: str | None = None
    decided_by: str = ""
    """What was read and decided it; what was not read is left out."""
    when: Callable[[Case], bool] = lambda _: True
    netns: Netns | None = None


class _Words(dict[str, object]):
    def __init__(self, case: Case) -> None:
        super().__init__(case.values)
        self._case = case

    def __missing__(self, name: str) -> object:
        if name.startswith("conf_"):
            return self._case.conf(name.removeprefix("conf_"))
        return getattr(self._case, name)


def first_of(*lines: Line) -> Say:
    """Return the rule that says the first of these that holds. The last one always does."""

    def say(case: Case) -> Said:
        line = next((line for line in lines if line.when(case)), lines[-1])
        words = _Words(case)
        return Said(
            line.sentence.format_map(words),
            line.command.format_map(words) if line.command else None,
            tuple(name for name in line.decided_by.split() if name in case.values),
            line.netns,
        )

    return say


_NO_REASON = frozenset({None, "NOT_SPECIFIED", "SKB_NOT_DROPPED_YET", "SKB_CONSUMED"})
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_FORWARDING = 3  # BR_STATE_FORWARDING
_HOST = Netns(0, "host")


def _vague(case: Case) -> bool:
    return case.vague


def _known(case: Case) -> bool:
    return not case.vague


def _unknown(case: Case) -> Said:
    drop = case.drop
    where = f"{drop.function}+{drop.offset:#x}" if drop.function else "a place that has no name"
    reason = " and gives no reason"
    if not case.vague and drop.reason:
        words = drop.reason.lower().replace("_", " ").strip()
        reason = f", with the reason {drop.reason} ({words})" if words else ""
    elif drop.reason not in _NO_REASON:
        reason = f", with {drop.reason}, a number that has no name here"
    last = f" after {case.hop.function}" if case.hop is not None else ""
    return Said(f"The kernel dropped it in {where}{last}{case.at}{reason}; skbtrace knows no more.")


# Netfilter --------------------------------------------------------------------------------------

_NFT_FAMILIES = {"ipv4": "ip", "ipv6": "ip6"}
# The functions of the tables that are not nftables. `iptables` may speak to nftables; what passes
# these functions is only seen by the -legacy ones.
_XTABLES = {
    "ipt_do_table": "iptables-legacy -t {table} -vnL {chain}",
    "ip6t_do_table": "ip6tables-legacy -t {table} -vnL {chain}",
    "arpt_do_table": "arptables-legacy -t {table} -vnL {chain}",
    "ebt_do_table": "ebtables-legacy -t {table} -L {chain} --Lc --Ln",
}


def _netfilter(case: Case) -> Said:
    judged = [h for h in case.hops if h.verdict is not None]
    dropped = [h for h in judged if h.verdict is not None and h.verdict.verdict == "drop"]
    if not judged:
        return Said(
            f"A netfilter rule dropped it{case.at}; which one was not seen.",
            "nft -a list ruleset",
        )
    # The table's own word is more precise than the hook's around it.
    hop = next((h for h in reversed(dropped) if h.verdict and h.verdict.table), None)
    hop = hop or (dropped or judged)[-1]
    verdict = hop.verdict
    assert verdict is not None
    where = hop.device.place if hop.device else case.place
    hook = f"({verdict.family} hook {verdict.hook})"
    if verdict.table is None:
        by = f"Netfilter {hook}"
    else:
        # As nft calls it: the family belongs to the table, and names its own hooks.
        nft = hop.function not in _XTABLES
        family = f"{_NFT_FAMILIES.get(verdict.family, verdict.family)} " if nft else ""
        by = f"able {family}{verdict.table} (hook {verdict.hook})"
        by = f"Chain {verdict.chain} of t{by}" if verdict.chain is not None else f"T{by}"
    if verdict.rule == 0:
        by = f"No rule accepted it, so the policy of c{by.removeprefix('C')}"
    elif verdict.rule is not None:
        by += f", rule handle {verdict.rule},"
    return Said(
        f"{by} dropped it at {where}.",
        _rules_of(hop.function, verdict),
        netns=hop.device.netns if hop.device else None,
    )


def _rules_of(function: str, verdict: Verdict) -> str:
    xtables = _XTABLES.get(function)
    if xtables is not None and verdict.table is not None:
        chain = verdict.chain or verdict.hook
        return xtables.format(table=shlex.quote(verdict.table), chain=shlex.quote(chain))
    family = _NFT_FAMILIES.get(verdict.family, verdict.family)
    if verdict.table is None:
        return "nft -a list ruleset"
    words = ["nft", "-a", "list", "table", family, verdict.table]
    if verdict.chain is not None:
        words = ["nft", "-a", "list", "chain", family, verdict.table, verdict.chain]
    return shlex.join(words)


# What is said in more than one place -------------------------------------------------------------


def _is(proto: str, flags: str = "") -> Callable[[Case], bool]:
    return lambda case: case.proto == proto and flags in (case.flow.tcp_flags or "")


def _because(*reasons: str) -> Callable[[Case], bool]:
    return lambda case: case.drop.reason in reasons


def _is_pong(case: Case) -> bool:
    return case.proto in ("icmp", "icmpv6") and case.flow.icmp_type in (0, 129)


def _accept_queue_is_full(case: Case) -> bool:
    return case.proto == "tcp" and case.reaches("ack_backlog", "max_ack_backlog", more=1)


def _port_is_shut(case: Case) -> bool:
    return case.has("port_state") and case.values["port_state"] != _FORWARDING


def _forwards(case: Case) -> int | None:
    """What the device's setting was; for IPv6 it is not read."""
    return None if case.v6 else case.values.get("forwarding")


_PORT, _PORTS = "bridge -d link show{on_dev}", "bridge -d link show"
_SHUT = "the port is in state {port_words} ({port_state}), not forwarding (3)."
_REFUSED = (
    "locked, the frame's source address or multicast message is not valid, or br_netfilter finds "
    "its IP header wrong."
)
_WAY_OUT = "   # and: bridge fdb show; bridge vlan show"

_BRIDGE_IN = (
    Line(
        "The bridge takes nothing from its port {place}: " + _SHUT,
        _PORT, "port_state", _port_is_shut,
    ),
    Line(
        "The bridge takes nothing from its port {place}: the port's state is not forwarding.",
        _PORT, when=_known,
    ),
    Line(
        "The bridge refused it on its port {place}: the port is " + _REFUSED,
        _PORT, "port_state", lambda case: case.has("port_state"),
    ),
    Line(
        "The bridge refused it on its port {place}: the port is not forwarding or is " + _REFUSED,
        _PORT,
    ),
)  # fmt: skip

# The state is that of the port it was at, which is the one it came in by.
_BRIDGE_OUT = (
    Line(
        "The VXLAN device {place} knows no remote to send it to.",
        "bridge fdb show{on_dev}",
        when=lambda case: case.last_was("vxlan_xmit", "vxlan_xmit_one"),
    ),
    Line(
        "The bridge did not send it out of {egress}: the port is in state {egress_words} "
        "({egress_state}), not forwarding (3).",
        "bridge -d link show{on_egress}", "egress_state",
        lambda case: case.has("egress_state") and case.values["egress_state"] != _FORWARDING,
    ),
    Line(
        "The bridge did not send it out of {egress}: that port is isolated, and so is {place}, by "
        "which it came in.",
        _PORTS + "   # isolated on", "port_isolated egress_isolated",
        lambda case: bool(case.values.get("egress_isolated") and case.values.get("port_isolated")),
    ),
    Line(
        "The bridge did not send it out of {egress}: that is where it came in, and the port is not "
        "in hairpin mode.",
        "bridge -d link show{on_egress}   # hairpin off", "egress_hairpin",
        lambda case: (
            case.drop.egress is not None
            and case.drop.egress == case.device
            and not case.values.get("egress_hairpin")
        ),
    ),
    Line(
        "The bridge did not send it out of {egress}: that port is forwarding, so it must be its "
        "VLAN that the port does not allow.",
        "bridge vlan show{on_egress}", "egress_state",
        lambda case: case.drop.egress is not None,
    ),
    Line(
        "The bridge found no port to send it out of: it came in by {place}, which is isolated, "
        "and may not go out of another isolated port.",
        _PORTS + "   # isolated on", "port_state port_isolated",
        lambda case: bool(case.values.get("port_isolated")),
    ),
    Line(
        "The bridge did not send it out of the port of {eth_dst}: that port is not forwarding "
        "(down or blocked), does not allow its VLAN, or is {place}, by which it came in.",
        _PORTS + _WAY_OUT, "port_state port_isolated",
        lambda case: case.last_was("br_forward", "__br_forward"),
    ),
    Line(
        "The bridge found no port to send it out of: a port that is forwarding, allows its VLAN "
        "and is not {place}, by which it came in, was wanted for {eth_dst}.",
        _PORTS + _WAY_OUT, "port_state port_isolated",
    ),
)  # fmt: skip


def _bridge(case: Case) -> Said:
    """br_handle_frame_finish has br_forward and br_flood in it, as the compiler likes."""
    out = case.hop is not None and case.hop.function in ("br_forward", "br_flood", "br_dev_xmit")
    return first_of(*(_BRIDGE_OUT if out else _BRIDGE_IN))(case)


_MAX_BACKLOG = "sysctl net.core.netdev_max_backlog   # then: sudo sysctl -w ...=10000"
_QUEUE = "backlog_len netdev_max_backlog"

# Some kernels have them in skb_drop_reason, newer ones in an enum of their own.
_QDISC = {
    "QDISC_OVERLIMIT QDISC_DROP_OVERLIMIT": "its queue is full",
    "QDISC_CONGESTED QDISC_DROP_CONGESTED QDISC_DROP_L4S_STEP_NON_ECN": "it sees congestion",
    "QDISC_BURST_DROP": "it gives up a burst",
    "QDISC_DROP_MAXFLOWS": "it keeps too many flows already",
    "CAKE_FLOOD QDISC_DROP_FLOOD_PROTECTION": "its flood protection chose it",
    "FQ_BAND_LIMIT QDISC_DROP_BAND_LIMIT": "the band's limit is reached",
    "FQ_FLOW_LIMIT QDISC_DROP_FLOW_LIMIT": "the flow's limit is reached",
    "FQ_HORIZON_LIMIT QDISC_DROP_HORIZON_LIMIT": "its departure time is too far in the future",
}
_QDISC_SAYS = "The queueing discipline of {place} dropped it: "
_QDISC_SHOW = "tc -s qdisc show{on_dev}"

_ROUTING = "The routing code of {within} refused it at {place}: "
_LOG_MARTIANS = "{conf_log_martians}   # 1 logs them; addresses: ip -br address"
_TURN_ON = "{conf_forwarding}   # to forward: sysctl -w net.{family}.conf.all.forwarding=1"
_NO_ROUTE = "{within} has no route to {dst} for what is at {place}"

_NO_ROUTES = (
    Line(
        _NO_ROUTE + ", or it does not forward (net.{family}.conf.all.forwarding).",
        "{routes}", when=lambda case: case.vague and _forwards(case) is None,
    ),
    Line(_NO_ROUTE + ".", "{routes}", when=lambda case: case.v6),
    Line(_NO_ROUTE + ".", "{routes}", "forwarding"),
)  # fmt: skip

_TTL = Line(
    "Its TTL was used up at {place}: {within} does not forward it and tells the sender (ICMP time "
    "exceeded).",
    "{route_get}   # does the way lead in a circle?",
    when=lambda case: case.now("ttl", None) in (0, 1),
)

_NEIGHBOURS = "ip -s neigh show{on_dev}   # and: {route_get}"
_NOT_SENT = "{within} could not send it after {place}: "

_LISTENER = "The listener on {target} in {within} "
_LISTENERS = "{sockets}   # Recv-Q: waiting to be accepted, Send-Q: the limit"
_ACCEPT = "ack_backlog max_ack_backlog"
_ACCEPT_QUEUE = (
    Line(
        _LISTENER + "is full: its accept queue holds {ack_backlog} of {max_ack_backlog} "
        "connections, the process does not accept them fast enough.",
        _LISTENERS, _ACCEPT, _accept_queue_is_full,
    ),
    Line(
        _LISTENER + "is full: the process does not accept fast enough.",
        _LISTENERS, _ACCEPT, _known,
    ),
    Line(
        _LISTENER + "refused it: its SYN queue holds {syn_backlog} connections that are not yet "
        "established, of {max_ack_backlog}, and SYN cookies are off.",
        "sysctl net.ipv4.tcp_syncookies   # and: nstat -asz TcpExtTCPReqQFullDrop",
        "syn_backlog max_ack_backlog",
        lambda case: case.reaches("syn_backlog", "max_ack_backlog"),
    ),
    Line(
        _LISTENER + "refused it, though its accept queue is not full ({ack_backlog} of "
        "{max_ack_backlog}): its SYN queue is full, or it has no route back.",
        "nstat -asz TcpExtTCPReqQFullDrop TcpExtListenDrops", _ACCEPT,
        lambda case: case.has("ack_backlog", "max_ack_backlog"),
    ),
    Line(
        _LISTENER + "refused it: its accept queue or its SYN queue is full, or it has no route "
        "back.",
        _LISTENERS, _ACCEPT,
    ),
)  # fmt: skip

_NO_SOCKET = (
    _ACCEPT_QUEUE[0],
    Line(
        "No socket in {within} has a connection for {target}{or_else}{or_ended}.",
        "{sockets}", when=_is("tcp", "R"),
    ),
    Line(
        "No socket in {within} has a connection for {target}, so TCP answers with a reset"
        "{or_else}{or_ended}.",
        "{sockets}", when=lambda case: case.proto == "tcp" and case.flow.tcp_flags != "S",
    ),
    Line(
        "No socket in {within} listens on {target}, so TCP answers with a reset{or_else}.",
        "{sockets}", when=_is("tcp"),
    ),
    Line(
        "No socket in {within} is bound to UDP {target}, so the answer is {icmp} port unreachable"
        "{or_else}.",
        "{sockets}", when=_is("udp"),
    ),
    Line(
        "No process in {within} waits for this echo reply (any more): it came after its ping had "
        "ended, or answers another one{or_else}.",
        "ss -wanp", when=_is_pong,
    ),
    Line("No socket in {within} takes this {proto} packet{or_else}.", "ss -wanp"),
)  # fmt: skip

_BUFFER = "The receive buffer of the socket for {target} in {within} is full: "
_SOCKET = "The socket for {target} in {within} "
_MEMORY = "{memory}   # skmem: r is waiting, rb the limit (net.core.rmem_max bounds SO_RCVBUF)"
_BYTES = "rmem_alloc rcvbuf"

_CSUMS = "nstat -asz IpExtInCsumErrors TcpInCsumErrors UdpInCsumErrors IcmpInCsumErrors"
_CSUM = (
    "checksum is wrong, says {place}: it was damaged, rewritten without mending the checksum, or "
    "an offload was undone."
)
_OUT_OF_WINDOW = "nstat -asz TcpExtTCPACKSkippedSeq TcpExtTCPChallengeACK"


class Rule(NamedTuple):
    """What is said for these reasons, and for these functions where there is no reason."""

    say: Say
    reasons: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


def _rule(reasons: str, functions: str, *said: Line | str, say: Say | None = None) -> Rule:
    """``said``: lines, of which the first that holds is said; or what one line is made of."""
    words = [each for each in said if isinstance(each, str)]
    lines = [each for each in said if isinstance(each, Line)]
    if words:
        sentence, command, decided_by = (*words, "", "")[:3]
        lines = [Line(sentence, command or None, decided_by)]
    return Rule(say or first_of(*lines), tuple(reasons.split()), tuple(functions.split()))


# The names are those of enum skb_drop_reason of kernels 5.17 to 7.x without their prefix (6.0
# and newer; before, a few are spelt otherwise), the functions those of 5.10 to 7.x. Functions
# that the compiler may or may not inline stand beside those they would be inlined into.
# A reason that speaks for itself and says nothing about this host is left to its name.
RULES: tuple[Rule, ...] = (
    _rule(
        "NETFILTER_DROP", f"nf_hook_slow nf_hook_slow_list nft_do_chain {' '.join(_XTABLES)}",
        say=_netfilter,
    ),
    # The bridge
    _rule("BRIDGE_INGRESS_STP_STATE", "br_handle_frame", *_BRIDGE_IN),
    _rule("", "br_handle_frame_finish", say=_bridge),
    _rule(
        "NO_TX_TARGET", "br_forward br_flood maybe_deliver br_multicast_flood __br_forward",
        *_BRIDGE_OUT,
    ),
    _rule(
        "", "br_allowed_ingress __allowed_ingress br_handle_vlan br_pass_frame_up",
        "The bridge filters VLANs, and {vlan} is not allowed at {place}.", "bridge vlan show"
    ),
    _rule(
        "", "br_dev_queue_push_xmit",
        "The frame did not fit out of {place}, or that device is down.", "{link}", "mtu",
    ),
    # Devices and queues
    _rule(
        "CPU_BACKLOG", "enqueue_to_backlog netif_rx_internal",
        Line(
            "{queue} was full when {place} was to receive it: it held {backlog_len} packets, "
            "netdev_max_backlog is {netdev_max_backlog}.",
            _MAX_BACKLOG, _QUEUE,
            lambda case: case.reaches("backlog_len", "netdev_max_backlog", more=1), _HOST,
        ),
        Line(
            "{queue} did not take it for {place}, though it was not full (it held {backlog_len} "
            "packets, netdev_max_backlog is {netdev_max_backlog}): the device is down, or the "
            "flow limit holds back a flow that fills half of the queue.",
            "ip link show{on_dev}", _QUEUE,
            lambda case: case.has("backlog_len", "netdev_max_backlog"),
        ),
        Line(
            "{queue} was full when {place} was to receive it (netdev_max_backlog, or the flow "
            "limit).",
            _MAX_BACKLOG, when=_known, netns=_HOST,
        ),
        Line(
            "{queue} did not take it for {place}: the queue is full (netdev_max_backlog), or the "
            "device is down.",
            _MAX_BACKLOG, netns=_HOST,
        ),
    ),
    _rule(
        "MACVLAN_BROADCAST_BACKLOG IPVLAN_MULTICAST_BACKLOG", "",
        "Too many broadcasts wait at {place}; this one was dropped.", "{link}",
    ),
    _rule(
        "",
        "__dev_forward_skb __dev_forward_skb2 ____dev_forward_skb dev_forward_skb "
        "is_skb_forwardable veth_xmit",
        "It left {place}, but the device at the other end is down, or its MTU is too small "
        "for this frame{of_size}.",
        "{link}   # and the same for its peer, shown after the @",
    ),
    _rule("DEV_READY", "flush_backlog", "The device {place} is down or not ready.", "{link}"),
    _rule(
        "UNHANDLED_PROTO", "__netif_receive_skb_core",
        Line(
            "{place} received it, but nobody in {within} takes {proto} packets, or a "
            "traffic-control filter at the entry dropped it.",
            "tc -s filter show{on_dev} ingress", when=_vague,
        ),
        Line(
            "Nobody in {within} takes {proto} packets of {vlan} from {place}: no device for that "
            "VLAN, no bridge or tap.",
            "{link}", when=lambda case: case.flow.vlan is not None,
        ),
        Line(
            "Nobody in {within} takes {proto} packets from {place}: no protocol handler, bridge "
            "or tap.",
            "{link}",
        ),
    ),
    *(
        _rule(reasons, "", _QDISC_SAYS + f"{why}.", _QDISC_SHOW)
        for reasons, why in _QDISC.items()
    ),
    _rule(
        "QDISC_DROP QDISC_DROP_UNSPEC QDISC_DROP_GENERIC",
        "__dev_xmit_skb __qdisc_drop_all __dev_queue_xmit dev_qdisc_enqueue kfree_skb_list "
        "kfree_skb_list_reason __tcf_kfree_skb_list",
        Line(_QDISC_SAYS + "its queue is full or its policy says so.", _QDISC_SHOW, when=_known),
        Line(
            _QDISC_SAYS + "its queue is full or its policy says so, or the device was going down.",
            _QDISC_SHOW,
        ),
    ),
    _rule(
        "TC_INGRESS", "sch_handle_ingress",
        "A traffic-control filter at the entry of {place} dropped it.",
        "tc -s filter show{on_dev} ingress",
    ),
    _rule(
        "TC_EGRESS", "sch_handle_egress",
        "A traffic-control filter at the exit of {place} dropped it.",
        "tc -s filter show{on_dev} egress",
    ),
    _rule(
        "XDP", "do_xdp_generic netif_receive_generic_xdp veth_xdp_rcv_skb",
        "An XDP program at {place} dropped it.", "{link}",
    ),
    _rule(
        "RECURSION_LIMIT", "",
        "It passed too many stacked devices at {place}: they send to one another in a circle.",
        "{link}",
    ),
    # IP
    _rule(
        "IP_RPFILTER", "ip_rcv_finish_core ip_rcv_finish fib_validate_source",
        Line(
            "The reverse path filter of {place} (rp_filter is {rp_mode}) dropped it: an answer to "
            "{src} would not leave by that device.",
            "{conf_rp_filter}   # and: ip route get {src}", "rp_filter all_rp_filter",
            lambda case: not case.vague and case.rp_mode > 0,
        ),
        Line(
            "The reverse path filter of {place} dropped it: an answer to {src} would not leave by "
            "that device.",
            "{conf_rp_filter}   # and: ip route get {src}", "rp_filter all_rp_filter", _known,
        ),
        Line(
            _ROUTING + "{src} may not come in there, or {dst} is no address to go to (rp_filter "
            "is off).",
            "ip route show table local   # its own and the broadcast addresses",
            "rp_filter all_rp_filter",
            lambda case: case.has("rp_filter", "all_rp_filter") and not case.rp_mode,
        ),
        Line(
            _ROUTING + "by the reverse path filter an answer to {src} would not leave by that "
            "device, or {src} is no address to come from there (a martian).",
            "{conf_rp_filter}   # and: ip route get {src}", "rp_filter all_rp_filter",
        ),
    ),
    _rule(
        "IP_LOCAL_SOURCE IP_INVALID_SOURCE IP_LOCALNET IP_INVALID_DEST", "",
        Line(
            "A martian at {place}: its source {src} is an address of {within} itself.",
            _LOG_MARTIANS, when=_because("IP_LOCAL_SOURCE"),
        ),
        Line(
            "A martian at {place}: {src} cannot be a source address.",
            _LOG_MARTIANS, when=_because("IP_INVALID_SOURCE"),
        ),
        Line(
            "A martian at {place}: a loopback address ({src} to {dst}) came in from outside.",
            _LOG_MARTIANS, when=_because("IP_LOCALNET"),
        ),
        Line("A martian at {place}: {dst} cannot be a destination.", _LOG_MARTIANS),
    ),
    _rule(
        "IP_INADDRERRORS", "ip_error",
        Line(
            "forwarding is 0 on {place}, so packets for others, like this one to {dst}, are "
            "dropped.",
            _TURN_ON, "forwarding all_forwarding", lambda case: _forwards(case) == 0,
        ),
        Line(
            "{target} is no address of {within}, and {place} does not forward.",
            _TURN_ON,
            when=lambda case: not case.vague and not case.v6 and _forwards(case) is None,
        ),
        *_NO_ROUTES,
    ),
    _rule(
        "IP_INNOROUTES IP_OUTNOROUTES",
        "ip6_pkt_drop ip6_pkt_discard ip6_pkt_discard_out __ip_queue_xmit",
        *_NO_ROUTES,
    ),
    _rule(
        "", "ip_forward ip6_forward",
        Line(
            "{within} does not forward it from {place}: forwarding is off, its hop limit is used "
            "up, or it is larger than the MTU of the way on.",
            "{conf_forwarding}", when=lambda case: case.v6,
        ),
        _TTL,
        Line(
            "{within} does not forward it from {place}: its TTL is used up, or it is larger than "
            "the MTU of the way on and may not be fragmented, or IPsec policy forbids it.",
            "{route_get}",
        ),
    ),
    _rule(
        "IP_INHDR", "",
        _TTL._replace(when=lambda case: case.drop.function in ("ip_forward", "ip6_forward")),
        Line(
            "Its IP header is not valid (length, version, checksum or options), says {place}.",
            "nstat -asz IpInHdrErrors Ip6InHdrErrors IpExtInTruncatedPkts",
        ),
    ),
    _rule(
        "", "ip_rcv_core ip6_rcv_core ip_rcv ipv6_rcv",
        "IP refused it on arrival at {place}: its Ethernet destination{mac} is another host's, "
        "or its IP header is not valid.",
        "{link}",
    ),
    _rule(
        "OTHERHOST", "",
        "It is for another host: {place} received it although its Ethernet destination{mac} "
        "is not its own (flooded, or the device is promiscuous).",
        "{link}",
    ),
    _rule(
        "UNICAST_IN_L2_MULTICAST UNICAST_IPV4_IN_L2_MULTICAST", "",
        "Its Ethernet destination is a multicast or broadcast address, its IP destination "
        "{target} is not: {place} has drop_unicast_in_l2_multicast on.",
        "sysctl net.ipv4.conf.all.drop_unicast_in_l2_multicast",
    ),
    _rule(
        "PKT_TOO_BIG",
        "ip_fragment ip_do_fragment ip6_fragment ip_exceeds_mtu ip_finish_output ip6_finish_output",
        Line(
            "{size} more than the MTU of {place}, {mtu}, and it may not be fragmented.",
            "{link}", "mtu",
            lambda case: (
                case.has("mtu")
                and case.drop.function not in ("ip_forward", "ip6_forward", "ip_exceeds_mtu")
                and case.hop is not None
                and case.hop.len > case.values["mtu"]
            ),
        ),
        Line(
            "{size} more than the MTU of the way on from {place} allows, and it may not be "
            "fragmented{or_not_cut}.",
            "{route_get}   # then: ip link show dev ..., its mtu",
        ),
    ),
    _rule(
        "NEIGH_QUEUEFULL", "",
        _NOT_SENT + "too many packets wait for the link-layer address of {next_hop}.",
        _NEIGHBOURS,
    ),
    _rule(
        "NEIGH_CREATEFAIL NEIGH_DEAD NEIGH_HH_FILLFAIL", "",
        _NOT_SENT + "there is no usable neighbour entry for {next_hop} (the table may be "
        "full).",
        "ip -s neigh show   # its limit: sysctl net.ipv4.neigh.default.gc_thresh3",
    ),
    _rule(
        "NEIGH_FAILED",
        "arp_error_report ndisc_error_report neigh_invalidate neigh_resolve_output "
        "ip_finish_output2 ip6_finish_output2",
        _NOT_SENT + "{next_hop} did not answer {ask}, its link-layer address is not known.",
        _NEIGHBOURS,
    ),
    _rule(
        "", "__neigh_event_send",
        _NOT_SENT + "{next_hop} did not answer {ask}, its link-layer address is not known (or "
        "too many packets wait for it).",
        _NEIGHBOURS,
    ),
    _rule(
        "IP_NOPROTO",
        "ip_protocol_deliver_rcu ip6_protocol_deliver_rcu ip_local_deliver_finish",
        "No protocol handler in {within} takes {proto}; the sender is told (ICMP protocol "
        "unreachable).",
        "ss -wanp",
    ),
    _rule("XFRM_POLICY", "", "IPsec policy in {within} forbids it.", "ip xfrm policy"),
    _rule(
        "IPV6DISABLED", "",
        "IPv6 is switched off on {place}.", "sysctl net.ipv6.conf.all.disable_ipv6",
    ),
    _rule(
        "DUP_FRAG FRAG_REASM_TIMEOUT FRAG_TOO_FAR",
        "ip_expire ip_frag_queue inet_frag_rbtree_purge",
        "This fragment could not be joined with the others of its packet in {within}: one of "
        "them never came in time, was there twice, or was too far away.",
        "nstat -asz IpReasmFails IpReasmTimeout Ip6ReasmFails Ip6ReasmTimeout",
    ),
    _rule("IP_CSUM", "", "Its IP header's " + _CSUM, _CSUMS),
    _rule("TCP_CSUM UDP_CSUM ICMP_CSUM", "", "Its {PROTO} " + _CSUM, _CSUMS),
    # Sockets
    _rule(
        "NO_SOCKET",
        "tcp_v4_rcv tcp_v6_rcv __udp4_lib_rcv __udp6_lib_rcv udp_rcv udpv6_rcv ping_rcv "
        "raw_local_deliver",
        *_NO_SOCKET,
    ),
    _rule(
        "", "icmp_rcv icmpv6_rcv",
        next(line for line in _NO_SOCKET if line.when is _is_pong),
        Line(
            "ICMP in {within} ignored it: a kind it does not answer (broadcast echo, or switched "
            "off), or its checksum is wrong.",
            "sysctl net.ipv6.icmp.echo_ignore_all", when=lambda case: case.v6,
        ),
        Line(
            "ICMP in {within} ignored it: a kind it does not answer (broadcast echo, or switched "
            "off), or its checksum is wrong.",
            "sysctl net.ipv4.icmp_echo_ignore_all net.ipv4.icmp_echo_ignore_broadcasts",
        ),
    ),
    _rule(
        "INVALID_PROTO", "",
        "ICMP in {within} does not answer a message of that kind sent to a broadcast address.",
        "sysctl net.ipv4.icmp_echo_ignore_broadcasts",
    ),
    _rule(
        "TCP_LISTEN_OVERFLOW",
        "tcp_conn_request tcp_v4_conn_request tcp_v6_conn_request tcp_v4_syn_recv_sock "
        "tcp_v6_syn_recv_sock tcp_check_req",
        *_ACCEPT_QUEUE,
    ),
    _rule(
        "SOCKET_RCVBUFF",
        "__udp_enqueue_schedule_skb udp_queue_rcv_one_skb __udp_queue_rcv_skb udp_queue_rcv_skb "
        "udpv6_queue_rcv_one_skb sock_queue_rcv_skb sock_queue_rcv_skb_reason raw_rcv "
        "raw_rcv_skb rawv6_rcv",
        Line(
            _BUFFER + "{rmem_alloc} bytes wait in it, its limit is {rcvbuf}, the process does not "
            "read fast enough.",
            _MEMORY, _BYTES,
            lambda case: (
                case.has("rmem_alloc", "rcvbuf")
                and (not case.vague or case.reaches("rmem_alloc", "rcvbuf"))
            ),
        ),
        Line(
            _SOCKET + "refused it, with {rmem_alloc} of {rcvbuf} bytes waiting: this packet may "
            "not have fitted, or its filter, policy or checksum said no.",
            _MEMORY, _BYTES, lambda case: case.has("rmem_alloc", "rcvbuf"),
        ),
        Line(_BUFFER + "the process does not read fast enough.", _MEMORY, when=_known),
        Line(
            _SOCKET + "refused it: its receive buffer is full, or its filter, policy or checksum "
            "said no.",
            _MEMORY,
        ),
    ),
    _rule(
        "PROTO_MEM", "",
        Line(
            "The memory for all {proto} sockets of the machine together is used up, or this one "
            "may have no more of it.",
            "sysctl net.ipv4.tcp_mem net.ipv4.udp_mem   # and: cat /proc/net/sockstat",
            _BYTES, netns=_HOST,
        ),
    ),
    _rule(
        "SOCKET_BACKLOG", "tcp_add_backlog",
        _SOCKET + "is busy, and the queue of what waits for it is full.",
        "nstat -asz TcpExtTCPBacklogDrop", _BYTES,
    ),
    _rule(
        "SOCKET_FILTER", "tcp_filter packet_rcv tpacket_rcv",
        "A filter on the socket for {target} in {within} did not want it.", "ss -anpe",
    ),
    _rule(
        "SOCKET_CLOSE QUEUE_PURGE",
        "inet_sock_destruct sk_stream_kill_queues __sk_destruct tcp_disconnect "
        "udp_destruct_common udp_destruct_sock skb_queue_purge skb_queue_purge_reason",
        "It waited in a queue{at} that was emptied: its socket was closed before it was read, "
        "or its device went away."
    ),
    _rule(
        "BPF_CGROUP_EGRESS", "",
        "A BPF program of the sender's cgroup dropped it.", "bpftool cgroup tree",
    ),
    _rule(
        "SECURITY_HOOK", "",
        "A security module forbids it{at}.", "journalctl -k -g 'avc|apparmor'",
    ),
    # TCP, where it knows the connection and refuses the segment
    _rule(
        "",
        "tcp_drop tcp_drop_reason tcp_rcv_state_process tcp_rcv_established tcp_v4_do_rcv "
        "tcp_v6_do_rcv tcp_data_queue tcp_data_queue_ofo tcp_validate_incoming tcp_child_process",
        _ACCEPT_QUEUE[0],
        Line(
            "TCP in {within} looked at it and threw it away{at}; the kernel does not say why "
            "(received before, outside the window, or not allowed in the connection's state).",
            "nstat -asz | grep -i -e Drop -e Reject -e Prune",
        ),
    ),
    _rule(
        "TCP_OLD_DATA TCP_OLD_SEQUENCE TCP_OFOMERGE TCP_OFO_DROP", "",
        "TCP has received these bytes before; the duplicate is dropped in {within}, nothing "
        "is lost.",
        "nstat -asz TcpExtTCPDSACKOldSent TcpExtDelayedACKLost",
    ),
    _rule(
        "TCP_OLD_ACK TCP_TOO_OLD_ACK TCP_ACK_UNSENT_DATA TCP_INVALID_ACK_SEQUENCE", "",
        "It acknowledges what was acknowledged before or was never sent, says TCP in {within}.",
        _OUT_OF_WINDOW,
    ),
    _rule(
        "TCP_OVERWINDOW TCP_INVALID_SEQUENCE TCP_INVALID_END_SEQUENCE", "",
        "Its sequence number is outside the receiver's window, says TCP in {within}.",
        _OUT_OF_WINDOW,
    ),
    _rule(
        "TCP_ZEROWINDOW", "",
        "The receiver in {within} has announced a window of zero: its process does not read.",
        "ss -tanmp   # Recv-Q: bytes not yet read", _BYTES,
    ),
    _rule(
        "TCP_RFC7323_PAWS TCP_RFC7323_PAWS_ACK TCP_RFC7323_TW_PAWS TCP_RFC7323_TSECR", "",
        "Its TCP timestamp is older than what the connection has seen (PAWS), in {within}.",
        "nstat -asz TcpExtPAWSEstab TcpExtPAWSActive TcpExtPAWSOldAck",
    ),
    _rule("TCP_RESET", "", "It resets the TCP connection to {target} in {within}."),
    _rule(
        "TCP_INVALID_SYN", "",
        "A SYN came for a TCP connection that exists already, in {within}.", _OUT_OF_WINDOW,
    ),
    _rule(
        "TCP_FLAGS", "",
        "Its TCP flags do not fit the connection's state in {within}.", "ss -tanp",
    ),
    _rule(
        "TCP_CLOSE TCP_ABORT_ON_DATA", "",
        "The TCP socket for {target} in {within} is closed, nobody will read this.", "ss -tanp"
    ),
    _rule(
        "TCP_OFO_QUEUE_PRUNE", "tcp_prune_ofo_queue",
        "The receive buffer in {within} ran full, so TCP gave up segments that came out of "
        "order; they will be sent again.",
        "nstat -asz TcpExtOfoPruned", _BYTES,
    ),
    # What is wrong with the packet itself, or the machine
    _rule(
        "PKT_TOO_SMALL HDR_TRUNC", "",
        "It is too short for its own headers, says {place}.", "{link}",
    ),
    _rule(
        "SKB_GSO_SEG SKB_BAD_GSO SKB_CSUM", "validate_xmit_skb",
        "It could not be cut into segments or given its checksum for {place}.",
        "ethtool -k{dev}"
    ),
    _rule("NOMEM PFMEMALLOC", "", "The kernel had no memory for it{at}.", "free -m"),
)  # fmt: skip

_BY_REASON = {reason: rule for rule in RULES for reason in rule.reasons}
_BY_FUNCTION = {function: rule for rule in RULES for function in rule.functions}

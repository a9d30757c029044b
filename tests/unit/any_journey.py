# SPDX-License-Identifier: GPL-2.0-only
"""Hypothesis strategies: captures, journeys and summaries of every shape the model allows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tracer.model import (
    Backlog,
    Branch,
    Capture,
    Change,
    Counted,
    Device,
    Drop,
    Ended,
    Flow,
    Forwarding,
    Frame,
    Hop,
    Journey,
    Netns,
    Outcome,
    Port,
    ProbePlace,
    Reference,
    Rewrite,
    Route,
    Sampling,
    Segment,
    Socket,
    State,
    Stepped,
    Summary,
    Task,
    Topology,
    Verdict,
)
from tracer.text import printable

# Names as they are once they are in the house: printable, of any script and width.
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=24).map(printable)
counts = st.integers(0, 2**32)
moments = st.integers(0, 2**62)
functions = st.sampled_from(
    ["veth_xmit", "__netif_receive_skb_core", "enqueue_to_backlog", "skb_clone", "icmp_rcv"]
)
netnses = st.builds(Netns, inum=counts, name=st.sampled_from(["host", "c1"]) | names)
devices = st.builds(Device, netns=netnses, ifindex=counts, ifname=names)
_flow_members: Any = dict(  # noqa: C408 (names, not strings)
    proto=st.sampled_from(["icmp", "icmpv6", "tcp", "udp", "arp", "ipv4-89", "0x88cc"]) | names,
    src=st.none() | st.just("2001:db8::1") | names,
    dst=st.none() | names,
    sport=st.none() | counts,
    dport=st.none() | counts,
    eth_src=st.none() | names,
    eth_dst=st.none() | names,
    vlan=st.none() | counts,
    ip_id=st.none() | counts,
    fragment=st.none() | st.booleans(),
    tcp_flags=st.none() | names,
    tcp_seq=st.none() | counts,
    tcp_ack=st.none() | counts,
    icmp_type=st.none() | st.integers(0, 255),
    icmp_code=st.none() | st.integers(0, 255),
    icmp_id=st.none() | counts,
    icmp_seq=st.none() | counts,
    arp_op=st.none() | st.sampled_from(["request", "reply", "9"]) | names,
)
flows = st.builds(
    Flow, **_flow_members, about=st.none() | st.builds(Flow, **_flow_members, about=st.none())
)
drops = st.builds(
    Drop,
    reason=st.none() | names,
    function=st.none() | names,
    offset=st.integers(0, 2**20),
    state=st.dictionaries(st.just("backlog_len") | names, counts, max_size=3).map(
        lambda state: tuple(state.items())
    ),
    egress=st.none() | devices,
)
verdicts = st.builds(
    Verdict,
    family=st.sampled_from(["ipv4", "bridge"]) | names,
    hook=st.sampled_from(["PRE_ROUTING", "FORWARD"]) | names,
    verdict=st.none() | st.sampled_from(["accept", "drop", "stolen", "queue"]) | names,
    table=st.none() | names,
    chain=st.none() | names,
    rule=st.none() | counts,
)
sockets = st.builds(
    Socket,
    netns=netnses,
    family=st.just("inet") | names,
    type=st.just("dgram") | names,
    proto=st.just("udp") | names,
)
tasks = st.builds(Task, pid=counts, comm=st.just("ping") | names, netns=st.none() | netnses)
states = st.builds(
    State,
    mark=counts,
    priority=counts,
    tc_index=counts,
    classid=counts,
    hash=counts,
    ct=st.none() | st.just("established") | names,
    csum=st.sampled_from(["none", "partial"]) | names,
    sk=st.booleans(),
    refdst=st.booleans(),
) | st.just(State())
_changed = st.none() | counts | st.booleans() | names
changes = st.builds(
    Change,
    field=st.sampled_from(["src", "dport", "ttl", *State._fields]) | names,
    old=_changed,
    new=_changed,
)
references = st.builds(
    Reference,
    kind=st.sampled_from(["answers", "reports", "repeats"]) | names,
    id=names,
    after_ns=moments,
)


@st.composite
def hops_of(draw: st.DrawFn, least: int = 0) -> tuple[Hop, ...]:
    places = draw(st.lists(st.none() | devices, min_size=1, max_size=3))
    hops = []
    dt_ns = 0
    for _ in range(draw(st.integers(least, 12))):
        dt_ns += draw(st.integers(0, 30) | st.integers(0, 10**6) | st.integers(0, 10**17))
        hops.append(
            Hop(
                function=draw(functions | names),
                dt_ns=dt_ns,
                cpu=draw(st.integers(0, 4) | counts),
                device=draw(st.sampled_from(places)),
                len=draw(counts),
                segment=draw(st.none() | st.sampled_from(Segment)),
                to_cpu=draw(st.none() | counts),
                already_running=draw(st.none() | st.booleans()),
                verdict=draw(st.none() | verdicts),
                socket=draw(st.none() | sockets),
                task=draw(st.none() | tasks),
                changes=tuple(draw(st.lists(changes, max_size=3))),
            )
        )
    return tuple(hops)


@st.composite
def journeys(draw: st.DrawFn, least_hops: int = 0) -> Journey:
    hops = draw(hops_of(least_hops))
    branches = st.builds(Branch, id=names, hop=st.integers(0, max(0, len(hops) - 1)))
    return Journey(
        id=draw(names),
        parent=draw(st.none() | names),
        skb=draw(st.integers(0, 2**64 - 1)),
        flow=draw(flows),
        start_ns=draw(moments),
        hops=hops,
        outcome=draw(st.sampled_from(Outcome)),
        proof=draw(st.none() | functions | names),
        drop=draw(st.none() | drops),
        damage=draw(st.none() | names),
        branches=tuple(draw(st.lists(branches, max_size=3))),
        state=draw(st.none() | states),
        absorbed_into=draw(st.none() | names),
        references=tuple(draw(st.lists(references, max_size=2))),
        frame=draw(
            st.none()
            | st.builds(
                Frame,
                headers=st.binary(max_size=70),
                len=counts,
                data=st.just(b"") | st.binary(max_size=70),
            )
        ),
    )


ports = st.builds(
    Port,
    device=devices,
    state=st.sampled_from(["forwarding", "blocking"]) | names,
    isolated=st.booleans(),
    hairpin=st.booleans(),
    learning=st.booleans(),
    flood=st.booleans(),
    vlans=st.lists(st.integers(1, 4094), max_size=3).map(tuple),
    pvid=st.none() | st.integers(1, 4094),
)
forwardings = st.builds(
    Forwarding,
    mac=names,
    device=devices,
    vlan=st.none() | st.integers(1, 4094),
    local=st.booleans(),
)
routes = st.builds(
    Route,
    netns=netnses,
    type=st.sampled_from(["unicast", "local"]) | names,
    dst=st.just("0.0.0.0/0") | names,
    gateway=st.none() | names,
    device=st.none() | devices,
    metric=counts,
)
_matched = st.none() | names
rewrites = st.builds(
    Rewrite,
    netns=netnses,
    hook=st.just("PRE_ROUTING") | names,
    kind=st.sampled_from(["dnat", "snat", "masquerade", "redirect"]) | names,
    to=_matched,
    proto=_matched,
    src=_matched,
    dst=_matched,
    dport=_matched,
    iifname=_matched,
    oifname=_matched,
    rule=names,
)


def _few(things: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(things, max_size=2).map(tuple)


topologies = st.builds(
    Topology,
    name=names,
    built=st.booleans(),
    bridge=st.none() | devices,
    ports=_few(devices),
    ends=_few(devices),
    addresses=_few(st.tuples(devices, names)),
    pairs=_few(st.tuples(devices, devices)),
    others=_few(devices),
    uplinks=_few(devices),
    macs=_few(st.tuples(devices, names)),
    down=_few(devices),
    states=_few(ports),
    fdb=_few(forwardings),
    routes=_few(routes),
    rewrites=_few(rewrites),
    forwards=_few(netnses),
)


@st.composite
def captures(draw: st.DrawFn) -> Capture:
    """Attached probes before missing ones, as the file has them."""
    attached = draw(st.dictionaries(names, names, max_size=3))
    missing = draw(st.dictionaries(names, st.none() | names, max_size=3))
    return Capture(
        kernel=draw(names),
        machine=draw(names),
        probes=(
            *(ProbePlace(function, symbol) for function, symbol in attached.items()),
            *(ProbePlace(function, None, why) for function, why in missing.items()),
        ),
        monotonic_ns=draw(moments),
        realtime_ns=draw(moments),
        topology=draw(st.none() | topologies),
        tool=draw(names),
        cpus=draw(counts),
        asked=draw(st.dictionaries(names, names, max_size=3)),
        part=draw(st.none() | st.integers(1, 2**20)),
    )


samplings = st.builds(
    Sampling,
    st.integers(0, (1 << 63) - 1),
    st.integers(1, 1 << 20),
    st.none() | counts,
    st.none() | counts,
)

_counters = st.dictionaries(names, counts, max_size=4)


_classes = st.dictionaries(counts, counts, max_size=3).map(lambda of: tuple(sorted(of.items())))
_counted = st.builds(
    Counted,
    hits=_counters,
    ended=st.lists(
        st.builds(
            Ended,
            st.none() | names,
            st.none() | devices,
            st.booleans(),
            st.none() | drops,
            counts,
            counts,
        ),
        max_size=3,
    ).map(tuple),
    steps=st.lists(
        st.builds(
            Stepped,
            st.none() | names,
            st.none() | names,
            st.none() | st.sampled_from(Segment),
            counts,
            counts,
            _classes,
        ),
        max_size=3,
    ).map(tuple),
    backlog=st.none() | st.builds(Backlog, counts, counts, _classes),
)


def summaries(of: int) -> st.SearchStrategy[Summary]:
    """Summaries of a capture with so many journeys."""
    return st.builds(
        Summary,
        journeys=st.just(of),
        hops=counts,
        lost=_counters,
        outcomes=_counters,
        hits=_counters,
        beside=counts,
        silent=st.lists(names, max_size=3).map(tuple),
        unloaded=st.lists(names, max_size=3).map(tuple),
        unselected=counts,
        sampled=st.tuples(st.integers(1, 9), st.integers(9, 1 << 20)),
        passed_over=_counters,
        counted=st.none() | _counted,
        untriggered=counts,
    )

# SPDX-License-Identifier: GPL-2.0-only
"""What there is of a lab now: looked up, never written.

How ours are told from everybody else's, at every moment:

- a namespace is ours if its name begins with ``skbtrace-``; where several labs have one of the same
  name, it is the lab's whose record (``record``) names it, or whose mark its devices bear;
- a veth pair is ours if one end is in such a namespace (both are made there in one message);
- a bridge is ours if it bears the lab's mark as its alias, or the name ``skbt-<name>``, which it
  has from the moment it is made until it bears the mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tracer.topology import links, netns, record
from tracer.topology.links import Link
from tracer.topology.spec import HOST, LABS, PREFIX, Interface, Lab


class State(StrEnum):
    """What there is of a lab."""

    DOWN = "down"
    STANDING = "standing"
    BROKEN = "broken"
    """Some of it is there and some is not."""
    FOREIGN = "foreign"
    """A device of the bridge's name exists on the host that no lab made."""
    LEFT_BEHIND = "left behind"
    """Its owner was killed; the next start removes what there is of it."""


@dataclass(frozen=True, slots=True)
class Status:
    """A lab as it is now."""

    state: State
    owner: int | None = None
    """Pid of the live process that takes the lab down when it ends."""
    missing: tuple[str, ...] = ()
    """Devices and namespaces a broken lab lacks."""


def status(lab: Lab) -> Status:
    """Say what there is of the lab and whose it is. Changes nothing, raises nothing.

    Needs no root; without it, namespaces are not looked into.
    """
    now = look(lab)
    written = record.read(lab.name)
    if written is None or written.owner is None:
        return now
    if written.left_behind:
        return Status(State.LEFT_BEHIND, missing=now.missing)
    return Status(now.state, owner=written.owner.pid, missing=now.missing)


def look(lab: Lab) -> Status:
    """Say what there is of the lab, whoever keeps it. Raises nothing."""
    with suppress(OSError):
        lab = as_called(lab)
    there: list[str] = []
    missing: list[str] = []
    foreign = False
    for place in lab.places:
        name = PREFIX + place
        if place != HOST and (not netns.exists(name) or is_of_another(lab, name)):
            missing.append(name)
            continue
        try:
            by_name = {link.ifname: link for link in links_at(place)}
        except PermissionError:  # without root only the namespace itself can be seen
            there.append(name)
            continue
        except OSError:  # it went meanwhile
            missing.append(name)
            continue
        if place != HOST:
            there.append(name)
        for interface in _telling(lab, place):
            link = by_name.get(interface.ifname)
            marked = link is not None and link.alias == lab.mark
            (there if marked else missing).append(interface.ifname)
            if place == HOST and interface == lab.bridge and link is not None and not marked:
                foreign = True
    if not missing:
        return Status(State.STANDING)
    if foreign:
        return Status(State.FOREIGN, missing=tuple(missing))
    return Status(State.BROKEN, missing=tuple(missing)) if there else Status(State.DOWN)


def as_called(lab: Lab) -> Lab:
    """Return the lab with its ports on the host called what they are called now. Raises OSError."""
    if not lab.on_host:
        return lab
    ours = {link.ifname for link in links_at(HOST) if link.alias == lab.mark}
    return lab.renamed(
        {port.ifname: name for port in lab.at(HOST) for name in port.ifnames if name in ours}
    )


def path_of(place: str) -> str:
    """Return where the namespace can be entered: ``HOST`` or a lab's short name."""
    return netns.OWN if place == HOST else str(netns.RUN_NETNS / (PREFIX + place))


def links_at(place: str) -> list[Link]:
    """Return every device there. Raises OSError, PermissionError without root but for HOST."""
    return netns.inside(path_of(place), links.read)


def sharing(lab: Lab) -> Iterator[tuple[Lab, str]]:
    """Give every other lab that has a namespace of the same name, and the first such name."""
    names = lab.namespaces
    for other in LABS.values():
        shared = [name for name in other.namespaces if name in names]
        if shared and other.name != lab.name:
            yield other, shared[0]


def is_of_another(lab: Lab, name: str) -> bool:
    """Whether the namespace of that name, which the lab has as well, is another lab's now."""
    others = [other for other, _ in sharing(lab) if name in other.namespaces]
    if not others:
        return False
    for each in (lab, *others):
        written = record.read(each.name)
        if written is not None and name in written.namespaces:
            return each != lab
    try:
        marks = {link.alias for link in links_at(name.removeprefix(PREFIX))}
    except OSError:  # no namespace, or no root
        return False
    return any(other.mark in marks for other in others)


def _telling(lab: Lab, place: str) -> list[Interface]:
    # Both ends of a pair come and go together, so one of them tells.
    second = {end for _, end in lab.pairs}
    return [interface for interface in lab.at(place) if interface not in second]

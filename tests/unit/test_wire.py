# SPDX-License-Identifier: GPL-2.0-only
"""The wire format: both sides agree, and any bytes are a record or a DecodeError."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer import wire
from tracer.errors import DecodeError

BPF = Path(__file__).parents[2] / "bpf"

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
HOPS = st.builds(
    wire.HopSlot, U32, st.integers(0, 0xFE), st.integers(0, 255), U16, U32, U32, U32, U32
)
NOTES = st.builds(wire.Note, st.integers(0, 255), U64, U32, U16, U64)
RECORDS = st.builds(
    wire.Record,
    id=U64,
    parent=U64,
    skb=U64,
    base_ns=U64,
    chunk=U16,
    flags=st.integers(0, 255),
    protocol=st.binary(min_size=2, max_size=2),
    vlan_tci=st.none() | U16,
    l2_len=st.integers(0, 255),
    tc_index=U16,
    state=U16,
    pulled=st.integers(-0x8000, 0x7FFF),
    mark=U32,
    priority=U32,
    hash=U32,
    classid=U32,
    headers=st.binary(min_size=wire.HEADER_BYTES, max_size=wire.HEADER_BYTES),
    slots=st.lists(HOPS | NOTES, max_size=wire.SLOTS).map(tuple),
    data=st.just(b"") | st.binary(max_size=wire.SNAPLEN_MAX),
)

NAMES = re.findall(r"^#define SKBTRACE_(\w+) ", (BPF / "record.h").read_text(), re.MULTILINE)
LAYOUT = r"""
#include <stdio.h>
#include <stddef.h>
typedef unsigned char __u8; typedef unsigned short __u16;
typedef unsigned int __u32; typedef unsigned long long __u64;
#include "record.h"
#define AT(s, m) \
    printf("\"%s.%s\": [%zu, %zu],", #s, #m, offsetof(struct s, m), sizeof(((struct s *)0)->m))
int main(void) {
    printf("{");
    AT(skbtrace_record, id); AT(skbtrace_record, parent); AT(skbtrace_record, skb);
    AT(skbtrace_record, base_ns); AT(skbtrace_record, chunk); AT(skbtrace_record, slots);
    AT(skbtrace_record, flags); AT(skbtrace_record, protocol); AT(skbtrace_record, vlan_tci);
    AT(skbtrace_record, has_vlan); AT(skbtrace_record, l2_len); AT(skbtrace_record, headers);
    AT(skbtrace_record, tc_index); AT(skbtrace_record, state); AT(skbtrace_record, pulled);
    AT(skbtrace_record, mark);
    AT(skbtrace_record, priority); AT(skbtrace_record, hash); AT(skbtrace_record, classid);
    AT(skbtrace_record, slot);
    AT(skbtrace_hop, dt_ns); AT(skbtrace_hop, probe); AT(skbtrace_hop, flags);
    AT(skbtrace_hop, cpu); AT(skbtrace_hop, ifindex); AT(skbtrace_hop, netns);
    AT(skbtrace_hop, len); AT(skbtrace_hop, arg);
    AT(skbtrace_note, word); AT(skbtrace_note, probe); AT(skbtrace_note, kind);
    AT(skbtrace_note, half); AT(skbtrace_note, value); AT(skbtrace_note, more);
    AT(skbtrace_end, drop_at); AT(skbtrace_end, drop_reason); AT(skbtrace_end, netns);
    AT(skbtrace_end, ifindex); AT(skbtrace_end, probe); AT(skbtrace_end, branch);
    AT(skbtrace_end, dropped); AT(skbtrace_end_count, packets); AT(skbtrace_end_count, bytes);
    printf("\"end\": %zu, \"end_count\": %zu,", sizeof(struct skbtrace_end),
           sizeof(struct skbtrace_end_count));
    printf("\"record\": %zu, \"hop\": %zu, \"note\": %zu,", sizeof(struct skbtrace_record),
           sizeof(struct skbtrace_hop), sizeof(struct skbtrace_note));
    printf("\"constants\": {");
CONSTANTS
    printf("\"\": 0}}");
}
"""


def test_c_and_python_agree_on_every_offset(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    constants = "".join(f'printf("\\"{n}\\": %u,", SKBTRACE_{n});' for n in NAMES)
    source.write_text(LAYOUT.replace("CONSTANTS", constants))
    program = tmp_path / "layout"
    subprocess.run(["cc", "-Wall", "-Werror", f"-I{BPF}", source, "-o", program], check=True)
    layout = json.loads(subprocess.check_output([program]))

    assert layout["record"] == wire.RECORD_MAX
    assert layout["hop"] == layout["note"] == wire.SLOT.size
    assert layout["skbtrace_record.slot"] == [wire.FIXED.size, wire.SLOTS * wire.SLOT.size]
    for name in NAMES:  # HOP_DEQUEUED is DEQUEUED there, and NOTE is _NOTE
        there = getattr(wire, name.removeprefix("HOP_"), None) if name != "NOTE" else 0xFF
        assert layout["constants"][name] == there, name

    def seen(member: str, data: bytes) -> int:
        at, size = layout[member]
        return int.from_bytes(data[at : at + size], "little")

    record = wire.Record(
        0x1112131415161718,
        0x2122232425262728,
        0x3132333435363738,
        0x4142434445464748,
        0x5152,
        0x07,
        b"\x61\x62",
        0x7172,
        0x81,
        0x1920,
        0x2930,
        0x3132,
        0x393A3B3C,
        0x494A4B4C,
        0x595A5B5C,
        0x696A6B6C,
        bytes(range(wire.HEADER_BYTES)),
        (
            wire.HopSlot(
                0x91929394, 0x21, 0x22, 0x2324, 0xA1A2A3A4, 0xB1B2B3B4, 0xC1C2C3C4, 0xD1D2D3D4
            ),
            wire.Note(0x31, 0xE1E2E3E4E5E6E7E8, 0xF1F2F3F4, 0x4142, 0x5152535455565758),
        ),
    )
    data = wire.encode(record)
    whole = {
        "id": record.id,
        "parent": record.parent,
        "skb": record.skb,
        "base_ns": record.base_ns,
        "chunk": 0x5152,
        "slots": 2,
        "flags": 0x07,
        "protocol": 0x6261,
        "vlan_tci": 0x7172,
        "has_vlan": 1,
        "l2_len": 0x81,
        "tc_index": 0x1920,
        "state": 0x2930,
        "pulled": 0x3132,
        "mark": 0x393A3B3C,
        "priority": 0x494A4B4C,
        "hash": 0x595A5B5C,
        "classid": 0x696A6B6C,
        "headers": int.from_bytes(record.headers, "little"),
    }
    assert {name: seen(f"skbtrace_record.{name}", data) for name in whole} == whole
    hop, note = data[wire.FIXED.size :][:24], data[wire.FIXED.size + 24 :]
    hop_members = {
        "dt_ns": 0x91929394,
        "probe": 0x21,
        "flags": 0x22,
        "cpu": 0x2324,
        "ifindex": 0xA1A2A3A4,
        "netns": 0xB1B2B3B4,
        "len": 0xC1C2C3C4,
        "arg": 0xD1D2D3D4,
    }
    assert {name: seen(f"skbtrace_hop.{name}", hop) for name in hop_members} == hop_members
    note_members = {
        "word": 0xF1F2F3F4,
        "probe": 0xFF,
        "kind": 0x31,
        "half": 0x4142,
        "value": 0xE1E2E3E4E5E6E7E8,
        "more": 0x5152535455565758,
    }
    assert {name: seen(f"skbtrace_note.{name}", note) for name in note_members} == note_members

    key, count = bytes(range(1, layout["end"] + 1)), bytes(range(50, 50 + layout["end_count"]))
    end = wire.decode_end(key, count)
    for name in ("drop_at", "drop_reason", "netns", "ifindex", "probe"):
        assert getattr(end, name) == seen(f"skbtrace_end.{name}", key), name
    for name in ("packets", "bytes"):
        assert getattr(end, name) == seen(f"skbtrace_end_count.{name}", count), name
    at = {name: layout[f"skbtrace_end.{name}"][0] for name in ("branch", "dropped")}
    for name, place in at.items():
        one = wire.decode_end(bytes(place) + b"\1" + bytes(len(key) - place - 1), count)
        assert [n for n in at if getattr(one, n)] == [name]


def test_the_loss_counters_are_the_kernel_programs() -> None:
    text = (BPF / "skbtrace.bpf.c").read_text()
    names = text.split("enum lost {")[1].split("LOSSES,")[0].split(",")
    assert tuple(name.strip().removeprefix("LOST_").lower() for name in names[:-1]) == wire.LOSSES


@given(RECORDS)
def test_what_is_encoded_decodes_to_the_same(record: wire.Record) -> None:
    assert wire.decode(wire.encode(record)) == record


@given(st.binary(max_size=wire.RECORD_MAX + 32))
def test_any_bytes_are_a_record_or_a_decode_error(data: bytes) -> None:
    try:
        record = wire.decode(data)
    except DecodeError:
        return
    assert len(record.slots) <= wire.SLOTS


@given(RECORDS, st.data())
def test_a_record_cut_short_is_refused(record: wire.Record, data: st.DataObject) -> None:
    whole = wire.encode(record._replace(data=b""))
    with pytest.raises(DecodeError):
        wire.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(RECORDS, st.binary(min_size=wire.SLOTS * wire.SLOT.size))
def test_a_record_of_the_table_is_as_it_would_be_sent(record: wire.Record, unused: bytes) -> None:
    """There it has room for all slots, and its packet's bytes stand behind them."""
    sent = wire.encode(record)
    slots = wire.encode(record._replace(data=b""))
    assert wire.as_sent((slots + unused)[: wire.RECORD_MAX], record.data) == sent


def test_the_same_places_are_read_by_the_same_struct() -> None:
    read = wire.reader("!", [(2, "H"), (8, "I")])
    assert read.unpack_from(bytes(range(12))) == (0x0203, 0x08090A0B)
    assert wire.reader("!", iter([(2, "H"), (8, "I")])) is read
    assert wire.reader("=", [(2, "H"), (8, "I")]) is not read

# SPDX-License-Identifier: GPL-2.0-only
"""What tracer/kernel can say without a kernel to trace: symbols, the table's C side."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tracer.asked import Asked
from tracer.kernel.compiler import SOURCE
from tracer.kernel.source import living
from tracer.kernel.symbols import Symbols, plain
from tracer.model import Layer
from tracer.probes import MISSION, PROBES, Handler, Skb
from tracer.wire import FIXED, SLOT

KALLSYMS = """\
ffffffff81a00000 T __netif_receive_skb_core.constprop.0
ffffffff81a00100 t __netif_receive_skb_core.constprop.0.cold
ffffffff81a00200 t ip_rcv_finish_core.isra.0
ffffffff81a00300 T veth_xmit\t[veth]
ffffffff81a00400 d br_forward
ffffffff81a00500 T br_forward_finish\t[bridge]
ffffffff81a00600 T __netif_receive_skb_core_list
ffffffff81a00700 t br_flood.constprop.0
ffffffff81a00800 t br_flood.isra.0
ffffffff81a00900 t br_flood
"""


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS)
    return Symbols(path)


def test_a_function_is_found_under_its_suffix_and_never_as_cold(symbols: Symbols) -> None:
    assert symbols.variants("__netif_receive_skb_core") == ["__netif_receive_skb_core.constprop.0"]
    assert symbols.variants("ip_rcv_finish_core") == ["ip_rcv_finish_core.isra.0"]
    assert symbols.variants("veth_xmit") == ["veth_xmit"]


def test_its_own_name_comes_before_its_clones(symbols: Symbols) -> None:
    assert symbols.variants("br_flood") == ["br_flood", "br_flood.isra.0", "br_flood.constprop.0"]


def test_data_and_longer_names_are_no_functions_of_that_name(symbols: Symbols) -> None:
    assert symbols.variants("br_forward") == []


def test_functions_and_variables_have_addresses(symbols: Symbols) -> None:
    names = ("veth_xmit", "br_forward", "br_forward_finish", "absent")
    assert symbols.addresses(names) == {
        "veth_xmit": 0xFFFFFFFF81A00300,
        "br_forward": 0xFFFFFFFF81A00400,
        "br_forward_finish": 0xFFFFFFFF81A00500,
    }


def test_kallsyms_that_hides_its_addresses_has_none(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T veth_xmit\n0000000000000000 T br_forward\n")
    assert Symbols(path).addresses(["veth_xmit"]) == {}
    assert Symbols(path).variants("veth_xmit") == ["veth_xmit"]


def test_the_suffix_is_the_compilers_word() -> None:
    assert plain("__netif_receive_skb_core.constprop.0") == "__netif_receive_skb_core"


def test_the_seven_functions_of_the_mission() -> None:
    assert MISSION == (
        "veth_xmit",
        "__dev_forward_skb",
        "enqueue_to_backlog",
        "process_backlog",
        "__netif_receive_skb_core",
        "br_handle_frame",
        "br_forward",
    )


def test_every_handler_and_reader_of_the_table_exists_in_c() -> None:
    program = (SOURCE / "skbtrace.bpf.c").read_text()
    readers = (SOURCE / "skb.h").read_text()
    for handler in Handler:
        assert re.search(rf"^#define {handler}\b", program, re.MULTILINE), handler
    for skb in Skb:
        assert f"#define {skb}(ctx)" in readers, skb


def test_what_keeps_bytes_is_compiled_only_if_that_is_asked_for() -> None:
    """Without -s the compiler is given the program as it would be if there were no such option."""
    words = ["cc", "-E", "-P", f"-I{SOURCE}", f"-I{SOURCE / 'stubs' / 'include'}"]
    words += ["-DSKBTRACE_PROBES(X)=", "-DSKBTRACE_CHANGES", "-DSKBTRACE_NETFILTER"]

    def given(*more: str) -> str:
        program = str(SOURCE / "skbtrace.bpf.c")
        return subprocess.check_output([*words, *more, program], text=True)

    marks = {"kept", "keep_bytes", "lay_bytes", "bytes"}
    assert marks <= set(re.findall(r"\w+", given("-DSKBTRACE_SNAPLEN=200")))
    assert marks & set(re.findall(r"\w+", given())) <= {"bytes"}  # of struct skbtrace_end_count
    assert "SNAPLEN" not in given()


LAYOUT = r"""
#include <stdio.h>
#include <stddef.h>
typedef unsigned char __u8; typedef unsigned short __u16; typedef int __s32;
typedef unsigned int __u32; typedef unsigned long long __u64;
#include "record.h"
STRUCTS
int main(void) {
    printf("%zu %zu %zu\n", offsetof(struct live, kept), offsetof(struct live, record),
           offsetof(struct live, bytes));
}
"""


@pytest.mark.parametrize("changes", [True, False])
@pytest.mark.parametrize("layers", [(), (Layer.NETFILTER,)])
def test_a_packet_lies_in_the_table_where_it_is_looked_for(
    changes: bool, layers: tuple[Layer, ...], tmp_path: Path
) -> None:
    """What struct live holds before and behind the record, by the host's compiler."""
    live = (SOURCE / "live.h").read_text()
    begin, end = live.index("#define NFT_JUMPS"), live.index("#define NO_TAP")
    code, program = tmp_path / "layout.c", tmp_path / "layout"
    code.write_text(LAYOUT.replace("STRUCTS", live[begin:end]))
    asked = ["-DSKBTRACE_SNAPLEN=201"]
    asked += ["-DSKBTRACE_CHANGES"] * changes + ["-DSKBTRACE_NETFILTER"] * bool(layers)
    subprocess.run(["cc", "-Wall", f"-I{SOURCE}", *asked, code, "-o", program], check=True)
    kept, record, bytes_ = map(int, subprocess.check_output([program]).split())
    leaf = bytearray(bytes_ + 208)
    slots = 3
    sent = bytes(34) + bytes([slots]) + bytes(range(1, FIXED.size + slots * SLOT.size - 34))
    leaf[kept : kept + 4] = (7).to_bytes(4, "little")
    leaf[record : record + len(sent)] = sent
    leaf[bytes_ : bytes_ + 9] = b"abcdefghi"
    assert living(bytes(leaf), Asked(layers, changes, snaplen=201)) == sent + b"abcdefg"
    assert living(bytes(leaf), Asked(layers, changes)) == sent


def test_map_operations_stand_in_the_main_file_only() -> None:
    """bcc rewrites no other; the verifier would refuse the program."""
    for header in SOURCE.glob("*.h"):
        assert not re.search(r"\.(lookup|update|delete|ringbuf_output)\(", header.read_text())


def test_two_rows_of_one_function_differ_in_how_they_attach() -> None:
    rows = [(p.function, p.attach) for p in PROBES]
    assert len(set(rows)) == len(rows)

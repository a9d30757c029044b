# SPDX-License-Identifier: GPL-2.0-only
"""skbtrace: every packet's way through a Linux host, function by function.

The house, in the order in which a packet's story flows through it::

    bpf/skbtrace.bpf.c   one record per living packet, sent once when the packet ends
    probes               PROBES, the only list of kernel functions
    kernel/              compile, attach, stream (the only package that knows bcc)
    wire                 record bytes <-> typed records
    flow                 packet header bytes -> Flow
    frame                packet header bytes -> the Ethernet frame that a filter looks at
    words                a journey's parts in words
    bridge               a topology's bridge and ways in words
    completeness         how much of what happened a trace holds, in words
    filter               words of pcap-filter(7) -> C for the kernel program, or a frame's verdict
    changes              notes of what is different -> old and new values
    verdicts             netfilter's hooks and tables -> what each decided
    way                  a topology, where from, where to -> what a packet should pass
    correlate            records -> journeys
    recurring            record bytes -> journeys, what many have in common found out once
    pattern              what one's own is read by from a record that is like others
    alike                journeys that are like others, made only when somebody looks at them
    exchanges            journeys -> what they answer, report or repeat
    explain              a dropped journey -> what it means, what decided it, what to type
    expected             a journey that left its way -> what should have come instead
    selection, trigger   a journey -> whether it was asked for
    limits               how much is followed, and a ceiling on what that costs
    asked                all of what a run is asked to trace
    histogram, tally     many journeys -> what they have in common
    totals               summaries of several captures <-> one of all
    statistics           a trace's journeys -> where their time goes
    difference           two traces -> what is different
    promise              journeys, what was promised of them -> what is broken
    promise_file, learn  a TOML file -> promises; a good trace -> a file of them
    duration             nanoseconds <-> words
    journal              the journeys that can be looked at, kept in bounded memory
    topology/            devices and namespaces, how they change, labs (the only package that knows
                         pyroute2)
    sink                 what takes journeys
    view/                lines for people (the only package that knows rich)
    view/screen/         the full-screen view of them (the only one that knows Textual)
    export/              the trace file, how it is opened; FORMATS, what a trace is exported to
    process              a process and what it has started
    wanted               what a packet must be like besides its bytes
    capabilities         which of root's a thread has in effect
    sudo                 who typed sudo: as whom files are written and COMMAND runs
    session              the one place where the above are put together
    library              traces for programs: neither root nor bcc
    pytest_plugin        a fixture that traces what a test does
    cli/                 commands, one file each, and what several of them do

Imports go one way, checked by import-linter: cli | pytest_plugin > session | library > view |
export | kernel | topology > sink > journal > difference | learn | promise_file > asked | promise |
statistics > tally > recurring > pattern > correlate | exchanges | expected | explain | limits |
selection | trigger > changes | totals | verdicts | way > bridge | completeness | filter | flow |
frame | wanted | wire | words > alike | probes > model > capabilities, duration, errors, histogram,
process, sudo, text.
"""

__version__ = "0.1.0"

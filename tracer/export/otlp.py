# SPDX-License-Identifier: GPL-2.0-only
"""OTLP JSON lines, as OpenTelemetry's collector reads files: a journey is a trace.

Its root span is the whole journey, each of its other spans a stay at a device with the hops as
events; a drop has the status of an error. What a journey was made of is a link. The resource of
a journey's spans is the capture. Ids are derived from the capture's time and the journey's id, so
that the same trace gives the same ids. Names are those of the proto's JSON mapping, with ids in
hexadecimal, as the OTLP specification has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b

from tracer import __version__
from tracer.export.formats import Exported
from tracer.export.stays import stays
from tracer.model import Capture, Hop, Journey, Outcome
from tracer.words import change_words, ending, flow_words, socket_words, task_words, verdict_words

_BATCH = 256
"""Journeys on a line."""
_INTERNAL = 1  # SpanKind
_OK, _ERROR = 1, 2  # Status.StatusCode


def otlp(trace: Exported) -> Iterator[bytes]:
    """Give the lines, each an ExportTraceServiceRequest."""
    spans = _Spans(trace.capture)
    batch: list[dict[str, object]] = []
    for number, journey in enumerate(trace, start=1):
        batch += spans.of(journey)
        if not number % _BATCH:
            yield spans.line(batch)
            batch.clear()
    if batch:
        yield spans.line(batch)


class _Spans:
    """Makes the spans of journeys."""

    def __init__(self, capture: Capture) -> None:
        self._to_realtime = capture.realtime_ns - capture.monotonic_ns
        self._seed = str(capture.realtime_ns).encode()
        self._resource = {
            "attributes": _attributes(
                {
                    "service.name": "skbtrace",
                    "service.version": capture.tool,
                    "os.type": "linux",
                    "os.version": capture.kernel,
                    "host.arch": capture.machine,
                    "skbtrace.topology": capture.topology and capture.topology.name,
                }
            )
        }

    def line(self, spans: list[dict[str, object]]) -> bytes:
        """Return the line of some spans."""
        scope = {"name": "skbtrace", "version": __version__}
        request = {
            "resourceSpans": [
                {"resource": self._resource, "scopeSpans": [{"scope": scope, "spans": spans}]}
            ]
        }
        return json.dumps(request, separators=(",", ":")).encode() + b"\n"

    def of(self, journey: Journey) -> Iterator[dict[str, object]]:
        """Give the spans of a journey, the root first."""
        trace, root = self._ids(journey.id)
        start = journey.start_ns + self._to_realtime
        flow = journey.flow
        status: dict[str, object] = {"code": _OK}
        if journey.outcome is Outcome.DROPPED:
            where = "" if journey.last_device is None else f" at {journey.last_device.place}"
            status = {"code": _ERROR, "message": f"{ending(journey)}{where}"}
        drop = journey.drop
        yield {
            "traceId": trace,
            "spanId": root,
            "name": " ".join(flow_words(flow)),
            "kind": _INTERNAL,
            **_times(start, start + journey.duration_ns),
            "attributes": _attributes(
                {
                    "skbtrace.journey": journey.id,
                    "skbtrace.outcome": journey.outcome.value,
                    "skbtrace.proof": journey.proof,
                    "skbtrace.damage": journey.damage,
                    "skbtrace.skb": f"{journey.skb:#x}",
                    "skbtrace.drop.reason": drop and drop.reason,
                    "skbtrace.drop.function": drop and drop.function,
                    "network.transport": flow.proto,
                    "source.address": flow.src,
                    "source.port": flow.sport,
                    "destination.address": flow.dst,
                    "destination.port": flow.dport,
                }
            ),
            "links": [
                self._link(other, kind)
                for kind, other in (
                    ("parent", journey.parent),
                    ("absorbed_into", journey.absorbed_into),
                    *((reference.kind, reference.id) for reference in journey.references),
                )
                if other is not None
            ],
            "status": status,
        }
        for number, stay in enumerate(stays(journey), start=1):
            device = stay.device
            yield {
                "traceId": trace,
                "spanId": f"{(int(root, 16) + number) % (1 << 64) or 1:016x}",
                "parentSpanId": root,
                "name": "no device" if device is None else device.place,
                "kind": _INTERNAL,
                **_times(start + stay.start_ns, start + stay.end_ns),
                "attributes": _attributes(
                    {
                        "skbtrace.netns": device and device.netns.name,
                        "skbtrace.netns_inum": device and device.netns.inum,
                        "skbtrace.ifname": device and device.ifname,
                        "skbtrace.ifindex": device and device.ifindex,
                    }
                ),
                "events": [_event(hop, start) for hop in journey.hops[stay.first : stay.end]],
            }

    def _link(self, journey_id: str, kind: str) -> dict[str, object]:
        trace, root = self._ids(journey_id)
        return {
            "traceId": trace,
            "spanId": root,
            "attributes": _attributes({"skbtrace.kind": kind}),
        }

    def _ids(self, journey_id: str) -> tuple[str, str]:
        """Return the ids of a journey's trace and root span; never 0, which is no id."""
        digest = blake2b(journey_id.encode(), digest_size=24, key=self._seed[:64]).hexdigest()
        return digest[:32], digest[32:]


def _event(hop: Hop, start: int) -> dict[str, object]:
    return {
        "timeUnixNano": str(start + hop.dt_ns),
        "name": hop.function,
        "attributes": _attributes(
            {
                "skbtrace.cpu": hop.cpu,
                "skbtrace.len": hop.len,
                "skbtrace.segment": hop.segment and hop.segment.value,
                "skbtrace.to_cpu": hop.to_cpu,
                "skbtrace.verdict": hop.verdict and verdict_words(hop.verdict)[0],
                "skbtrace.socket": hop.socket and socket_words(hop.socket),
                "skbtrace.task": hop.task and task_words(hop.task),
                "skbtrace.changes": "; ".join(
                    " ".join(change_words(change, "->")) for change in hop.changes
                )
                or None,
            }
        ),
    }


def _times(start_ns: int, end_ns: int) -> dict[str, object]:
    return {
        "startTimeUnixNano": str(max(start_ns, 0)),
        "endTimeUnixNano": str(max(end_ns, 0)),
    }


def _attributes(values: dict[str, object]) -> list[dict[str, object]]:
    return [
        {"key": key, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for key, v in values.items()
        if v is not None
    ]

// SPDX-License-Identifier: GPL-2.0-only
//
// Draws the report from the data beside it. Names in the data are foreign: they become text nodes
// and attribute values, never markup, and nothing here makes code of text. What a value means in
// words came with it; here is only how it is laid out. Times are nanoseconds.
"use strict";
(() => {
  const { report, journeys } = JSON.parse(document.getElementById("data").textContent);
  const { capture, completeness, statistics, topologies, functions, devices, segments } = report;
  const byId = new Map(journeys.map((journey) => [journey.id, journey]));
  const SIGNS = {
    delivered: "✓", transmitted: "→", consumed: "✓", absorbed: "+",
    dropped: "✗", unfinished: "…", damaged: "!",
  };
  const SEGMENTS = {
    work: "work, until the next function",
    softirq_wait: "waiting for the softirq of the CPU",
    backlog_wait: "waiting behind others in the CPU's input queue",
    qdisc_wait: "queueing discipline, waiting there included",
    gro_wait: "GRO, waiting for others to merge with included",
    socket: "in the socket's queue, until somebody reads it",
  };
  const MOST_ROWS = 12; // of a table, until all are asked for
  const TAIL = 0.09; // of the axis, for a wait in a socket that would dwarf the rest
  const CROWD = 9; // namespaces drawn, until all are asked for
  const DEEPEST = 4; // of branches of branches

  // --- making elements ---------------------------------------------------------------------------

  const $ = (id) => document.getElementById(id);

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null));
    return element;
  }
  const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const draw = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const pairs = (known) =>
    make("dl", { class: "pairs" }, known.map(([term, said]) => [make("dt", {}, term), make("dd", {}, said)]));

  // --- words -------------------------------------------------------------------------------------

  function time(ns) {
    const us = ns / 1e3;
    if (ns < 99950) return `${us.toFixed(1)} us`;
    if (ns < 9999500) return `${us.toFixed(0)} us`;
    if (ns < 99950000) return `${(ns / 1e6).toFixed(1)} ms`;
    if (ns < 999500000) return `${(ns / 1e6).toFixed(0)} ms`;
    return `${(ns / 1e9).toFixed(ns < 9995000000 ? 2 : 1)} s`;
  }
  const count = (number) => number.toLocaleString("en");
  const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "-");
  const nouns = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
  const place = (number) => (number < 0 ? "no device" : `${devices[number].netns}/${devices[number].ifname}`);
  const sign = (outcome) => make("span", { "aria-hidden": "true" }, `${SIGNS[outcome] ?? "?"} `);
  const ended = (outcome, said) => make("span", { class: outcome }, sign(outcome), said);
  const moment = (ns) => `${(ns / 1e9).toFixed(6)} s`;

  // Neighbouring namespaces have different colours, those of the topology first.
  const colours = new Map();
  for (const { inum } of devices) if (!colours.has(inum)) colours.set(inum, `ns${colours.size % 6}`);
  const colour = (number) => (number < 0 ? "" : colours.get(devices[number].inum));

  const FN = 0, DT = 1, CPU = 2, DEV = 3, LEN = 4, SEG = 5, MORE = 6;
  const kind = (hop) => {
    const segment = hop[SEG] < 0 ? "work" : segments[hop[SEG]];
    return segment === "work" || segment === "socket" ? segment : "wait";
  };
  const name = (hop) => functions[hop[FN]].name;

  /** The devices a journey came to, one after the other. */
  function arrivals(journey) {
    const found = [];
    for (const hop of journey.hops) if (hop[DEV] >= 0 && found.at(-1) !== hop[DEV]) found.push(hop[DEV]);
    return found;
  }
  function pathOf(journey) {
    const names = [];
    for (const device of arrivals(journey)) {
      if (names.at(-1) !== devices[device].netns) names.push(devices[device].netns);
    }
    return names.join(" › ");
  }

  /** A flow in as few words as do in a list; of an echo the sequence number tells one from the next. */
  const brief = (flow) => flow.replace(/^(ICMP\S*) echo /, "$1 ").replace(/ id \d+/, "");

  /** A reference to another journey: a link, if it is listed. */
  function link(id) {
    if (byId.has(id)) return make("a", { href: `#journey=${encodeURIComponent(id)}` }, `#${id}`);
    return make("span", { title: "not among the journeys listed here" }, `#${id}`);
  }

  // --- the head ----------------------------------------------------------------------------------

  function remark(weight, said) {
    const mark = { good: "✓", bad: "!", warning: "!" }[weight] ?? "·";
    return make("p", { class: `remark ${weight}` }, make("span", { "aria-hidden": "true" }, mark), make("span", {}, said));
  }

  function head() {
    const built = { true: "built as a lab", false: "found on this host" }[capture.built];
    const dropped = statistics.outcomes.dropped ?? 0;
    const tiles = [
      ["journeys", count(statistics.journeys)],
      ["hops", count(statistics.hops)],
      ["dropped", dropped ? `${count(dropped)} (${share(dropped, statistics.journeys)})` : "0"],
      ["median", statistics.took.count ? time(statistics.took.p50_ns) : "-"],
      ["p99", statistics.took.count ? time(statistics.took.p99_ns) : "-"],
      ["lasted", time(statistics.seconds * 1e9)],
      ["lost", completeness.whole ? count(completeness.lost) : "not known"],
    ];
    const where = [
      `Linux ${capture.kernel} (${capture.machine})`, nouns(capture.cpus, "CPU"),
      capture.first ?? capture.started, nouns(capture.attached, "probe"), capture.tool,
    ];
    const asked = capture.asked.map(([option, words]) => make("span", {}, `${option}: `, make("code", {}, words)));
    fill($("head"), {}, [
      make("div", { class: "what" },
        make("h1", {}, capture.name), built ? make("span", { class: "dim" }, built) : null,
        make("span", { class: "brand" }, "skbtrace report"),
        make("nav", { "aria-label": "Parts of the report" },
          [["journeys", "Journeys"], ["statistics", "Statistics"], ["capture", "Capture"]].map(([id, said]) => make("a", { href: `#${id}` }, said)))),
      make("p", { class: "where" }, where.filter(Boolean).join(" · ")),
      asked.length ? make("p", { class: "facts" }, asked) : null,
      make("div", { class: "tiles" }, tiles.map(([term, said]) => make("dl", { class: "tile" }, make("dt", {}, term), make("dd", {}, said)))),
      completeness.nothing_lost ? remark("good", "Nothing lost.") : null,
      completeness.remarks.map(([weight, said]) => remark(weight, said)),
      report.shown ? remark("", report.shown) : null,
    ]);
  }

  // --- the list of journeys ----------------------------------------------------------------------

  const rows = [];
  const listed = { words: [], outcomes: new Set(), by: "at", down: false, visible: [] };
  let chosen = null;

  function row(journey) {
    const path = pathOf(journey);
    const element = make("div", {
      class: journey.parent === undefined ? "row" : "row branch", role: "option", id: `row-${rows.length}`,
      "aria-selected": "false", onclick: () => { go(journey.id); $("list").focus({ preventScroll: true }); },
    },
      make("div", { class: "line" },
        make("span", { class: "flow", title: journey.flow }, brief(journey.flow)),
        make("span", { class: "took" }, time(journey.took))),
      make("div", { class: "line" },
        make("span", { class: "path", title: arrivals(journey).map(place).join(" › ") },
          make("span", { class: "id" }, `#${journey.id}`), `  ${(journey.at / 1e9).toFixed(4)}  ${path}`),
        make("span", { class: `ending ${journey.outcome}`, title: journey.ending }, sign(journey.outcome), journey.ending)));
    const text = [`#${journey.id}`, journey.flow, journey.outcome, journey.ending, path, ...arrivals(journey).map(place)];
    return { journey, element, text: text.join(" ").toLowerCase() };
  }

  function heads() {
    const by = (key, said) => make("button", {
      type: "button", class: "plain", "data-by": key,
      onclick: () => {
        listed.down = listed.by === key ? !listed.down : key === "took";
        listed.by = key;
        sorted();
      },
    }, said);
    fill($("heads"), {}, [by("at", "time"), by("took", "took")]);
  }

  function sorted() {
    const way = listed.down ? -1 : 1;
    rows.sort((a, b) => way * (a.journey[listed.by] - b.journey[listed.by]) || a.number - b.number);
    $("list").append(...rows.map(({ element }) => element));
    for (const button of $("heads").querySelectorAll("button")) {
      const on = button.dataset.by === listed.by;
      const words = { at: "time", took: "duration" }[button.dataset.by];
      button.textContent = words + (on ? (listed.down ? " ↓" : " ↑") : "");
      button.setAttribute("aria-label", `sort by ${words}${on ? (listed.down ? ", falling now" : ", rising now") : ""}`);
    }
    filtered();
  }

  function filtered() {
    listed.visible = [];
    for (const each of rows) {
      const wanted = listed.outcomes.size === 0 || listed.outcomes.has(each.journey.outcome);
      const shown = wanted && listed.words.every((word) => each.text.includes(word));
      each.element.hidden = !shown;
      if (shown) listed.visible.push(each);
    }
    const total = statistics.journeys;
    const of = rows.length === total ? nouns(total, "journey") : `${nouns(rows.length, "journey")} listed, ${count(total)} in the trace`;
    $("count").textContent = listed.visible.length === rows.length ? of : `${count(listed.visible.length)} of ${of}`;
  }

  function search(words) {
    $("filter").value = words;
    listed.words = words.toLowerCase().split(/\s+/).filter(Boolean);
    filtered();
  }

  function list() {
    journeys.forEach((journey, number) => rows.push({ ...row(journey), number }));
    heads();
    const outcomes = Object.keys(SIGNS).filter((outcome) => journeys.some((journey) => journey.outcome === outcome));
    for (const outcome of outcomes) {
      const number = journeys.filter((journey) => journey.outcome === outcome).length;
      $("outcomes").append(make("button", {
        type: "button", class: "chip", "aria-pressed": "false",
        onclick: ({ currentTarget }) => {
          const on = !listed.outcomes.delete(outcome);
          if (on) listed.outcomes.add(outcome);
          currentTarget.setAttribute("aria-pressed", String(on));
          filtered();
        },
      }, ended(outcome, outcome), ` ${count(number)}`));
    }
    $("filter").addEventListener("input", () => search($("filter").value));
    sorted();
  }

  function move(by) {
    const { visible } = listed;
    if (!visible.length) return;
    const at = visible.findIndex(({ journey }) => journey === chosen);
    const to = at < 0 ? 0 : Math.min(Math.max(at + by, 0), visible.length - 1);
    go(visible[to].journey.id);
  }

  // --- the chosen journey ------------------------------------------------------------------------

  let equal = false;

  /** Where on the axis a moment lies, from 0 to 1. */
  function axis(hops) {
    const total = hops.at(-1)?.[DT] ?? 0;
    if (equal) {
      const steps = [...new Set(hops.map((hop) => hop[DT]))].sort((a, b) => a - b);
      const last = Math.max(steps.length - 1, 1);
      return {
        at: (ns) => {
          const next = steps.findIndex((step) => step > ns);
          if (next <= 0) return next < 0 ? (steps.length - 1) / last : 0;
          const begins = steps[next - 1];
          return (next - 1 + (ns - begins) / (steps[next] - begins)) / last; // a branch begins within a step
        },
        total, ticks: [], broken: null,
      };
    }
    let arrived = total;
    for (let n = hops.length - 2; n >= 0 && segments[hops[n][SEG]] === "socket"; n--) arrived = hops[n][DT];
    const broken = arrived > 0 && arrived < total - arrived;
    const until = broken ? arrived : total;
    const room = broken ? 1 - TAIL : 1;
    const power = 10 ** Math.floor(Math.log10(until / 4 || 1));
    const step = [1, 2, 5, 10].map((by) => by * power).find((by) => until / by <= 4);
    const ticks = [];
    for (let ns = 0; step && ns < until * 0.82; ns += step) ticks.push(ns);
    return {
      at: (ns) => (ns <= until ? (until ? (ns / until) * room : 0) : Math.min(room + ((ns - until) / (total - until || 1)) * (1 - room), 1)),
      total, ticks, broken: broken ? room : null,
    };
  }

  const percent = (part) => `${(100 * part).toFixed(3)}%`;

  /** A bar from one moment to another. Styles are set through the object model: the policy allows that. */
  function bar(scale, from, to, classes) {
    const element = make("span", { class: `bar ${classes}` });
    element.style.left = percent(scale.at(from));
    element.style.width = percent(Math.max(scale.at(to) - scale.at(from), 0));
    return element;
  }

  function track(scale, ...bars) {
    const element = make("span", { class: "track", "aria-hidden": "true" }, bars);
    if (scale.broken !== null) {
      const line = make("span", { class: "break" });
      line.style.left = percent(scale.broken);
      element.append(line);
    }
    return element;
  }

  function barOf(journey, n, scale) {
    const { hops } = journey;
    const following = hops[n + 1];
    const last = `last ${journey.outcome}`;
    const element = following ? bar(scale, hops[n][DT], following[DT], kind(hops[n])) : bar(scale, hops[n][DT], hops[n][DT], last);
    if (!following) element.style.width = "";
    element.dataset.hop = n;
    return element;
  }

  /** A lane for each device, in the order in which the packet came there. */
  function lanes(journey, scale) {
    // Where it is not known, as at the free, it is where it was before.
    let before = -1;
    const at = journey.hops.map((hop) => (before = hop[DEV] < 0 ? before : hop[DEV]));
    const order = [...new Set(at)];
    // The namespaces one below the other, each with its devices together.
    const netns = (device) => (device < 0 ? null : devices[device].inum);
    const spaces = [...new Set(order.map(netns))];
    order.sort((a, b) => spaces.indexOf(netns(a)) - spaces.indexOf(netns(b)));
    let above;
    return make("div", { class: "lanes", "aria-hidden": "true", onclick: ({ target }) => focusHop(target.dataset.hop) },
      order.map((device) => {
        const crossing = above !== undefined && netns(device) !== above ? " crossing" : "";
        above = netns(device);
        const bars = at.flatMap((here, n) => (here === device ? [barOf(journey, n, scale)] : []));
        return make("div", { class: `lane ${colour(device)}${crossing}` }, make("span", { class: "label", title: place(device) }, place(device)), track(scale, bars));
      }));
  }

  function ticks(scale) {
    const axis = make("span", { class: "track" });
    const put = (ns, classes) => {
      const tick = make("span", { class: `tick ${classes}` }, ns ? time(ns) : "0");
      tick.style.left = percent(scale.at(ns));
      axis.append(tick);
    };
    if (equal) axis.append(make("span", { class: "tick" }, "every step alike"));
    scale.ticks.forEach((ns) => put(ns, ""));
    if (scale.total && !equal) put(scale.total, "whole");
    return make("li", { class: "ticks", "aria-hidden": "true" }, axis);
  }

  const DENIED = / DROP( |$)/;

  function verdict(hop) {
    const said = hop[MORE]?.verdict?.[1];
    return said ? make("span", { class: DENIED.test(said) ? "denied" : "dim", title: `netfilter: ${said}` }, ` ${said}`) : null;
  }

  function notes(hop) {
    const beside = hop[MORE] ?? {};
    const said = [
      beside.verdict && DENIED.test(beside.verdict[0]) && make("li", { class: "denied" }, `netfilter: ${beside.verdict[0]}`),
      beside.socket && make("li", {}, `to ${beside.socket}`),
      beside.task && make("li", {}, beside.task),
      beside.to_cpu !== undefined && beside.to_cpu !== hop[CPU] && make("li", {}, `to CPU ${beside.to_cpu}`),
      beside.changes && make("li", { class: "change" }, "changed: ", beside.changes.join(", ")),
    ].filter(Boolean);
    return said.length ? make("div", { class: `notes ${colour(hop[DEV])}` }, make("ul", {}, said)) : null;
  }

  /** Branches that left at a hop, indented, each on the same axis; then theirs. */
  function* leaving(journey, n, scale, since, depth) {
    for (const [id, hop] of journey.branches ?? []) {
      if (hop !== n && n !== null) continue;
      const other = byId.get(id);
      const who = make("span", { class: "who" }, "╰ branch ", link(id), " ");
      who.style.setProperty("--deep", depth);
      if (!other) {
        who.append(make("span", { class: "dim" }, "not listed here"));
        yield make("li", { class: "leaving" }, who);
        continue;
      }
      const begins = since + other.at - journey.at;
      const hops = other.hops;
      const bars = hops.slice(0, -1).map((each, at) =>
        bar(scale, Math.max(begins + each[DT], 0), begins + hops[at + 1][DT], kind(each)));
      who.append(ended(other.outcome, other.ending));
      yield make("li", { class: `leaving ${colour(arrivals(other).at(-1) ?? -1)}` }, who, track(scale, bars), make("span", { class: "took" }, time(other.took)));
      if (depth < DEEPEST) yield* leaving(other, null, scale, begins, depth + 1);
    }
  }

  function hops(journey, scale) {
    const all = [];
    let before = -1;
    journey.hops.forEach((hop, n) => {
      const device = hop[DEV];
      if (device >= 0 && before >= 0 && devices[device].inum !== devices[before].inum) {
        const [from, to] = [before, device].map((each) => make("b", { class: colour(each) }, devices[each].netns));
        all.push(make("li", { class: "crossing-row" }, make("span", {}, "netns ", from, " → ", to)));
      }
      const following = journey.hops[n + 1];
      const took = following ? time(Math.max(following[DT] - hop[DT], 0)) : "";
      const where = device >= 0 && device !== before ? place(device) : "";
      const outcome = following ? "" : `, ${journey.outcome}`;
      all.push(make("li", {},
        make("button", {
          type: "button", class: `hop ${colour(device < 0 ? before : device)}`, "data-hop": n, tabindex: n ? "-1" : "0",
          "aria-label": `hop ${n + 1}, ${name(hop)} at ${place(device)}, ${took ? `${took} until the next` : "the last"}${outcome}`,
        },
          make("span", { class: "place", title: where }, where),
          make("span", { class: "function" }, name(hop), verdict(hop)),
          track(scale, barOf(journey, n, scale)),
          make("span", { class: "took" }, following ? took : ended(journey.outcome, journey.outcome === "dropped" ? "drop" : "end")),
          make("span", { class: "cpu" }, String(hop[CPU]))),
        notes(hop)));
      all.push(...leaving(journey, n, scale, 0, 0));
      if (device >= 0) before = device;
    });
    if (journey.more) all.push(make("li", { class: "dim" }, `${nouns(journey.more, "more hop")} not shown here`));
    const headings = make("li", { class: "hop headings", "aria-hidden": "true" },
      ["device", "function", "", "took", "CPU"].map((said) => make("span", { class: said === "" ? "track" : said === "device" ? "place" : said.toLowerCase() }, said)));
    return make("ol", { class: "hops", "aria-label": "Hops; the arrow keys move" }, headings, ticks(scale), all);
  }

  function why(journey) {
    const { explained, expected } = journey;
    return [
      explained && make("div", { class: "why" }, make("p", {}, explained.sentence),
        explained.state ? make("p", { class: "dim" }, explained.state) : null,
        explained.command ? make("p", {}, "try: ", make("code", {}, explained.command)) : null),
      expected && make("div", { class: "why expected" }, make("p", {}, expected)),
    ].filter(Boolean);
  }

  function related(journey) {
    const said = [];
    if (journey.parent !== undefined) said.push(["branch of ", link(journey.parent)]);
    if (journey.absorbed !== undefined) said.push(["absorbed into ", link(journey.absorbed)]);
    for (const [how, id, after] of journey.references ?? []) said.push([`${how} `, link(id), `, ${time(after)} after it`]);
    for (const other of referring.get(journey.id) ?? []) {
      const how = (other.references ?? []).find(([, id]) => id === journey.id)?.[0];
      said.push(how ? [{ answers: "answered by ", reports: "reported by ", repeats: "repeated by " }[how] ?? `${how}: `, link(other.id)] : ["absorbed ", link(other.id)]);
    }
    return said.length ? make("p", { class: "related" }, said.map((each) => make("span", {}, each))) : null;
  }

  const referring = new Map();
  for (const journey of journeys) {
    const others = (journey.references ?? []).map(([, id]) => id);
    if (journey.absorbed !== undefined) others.push(journey.absorbed);
    for (const id of others) referring.set(id, [...(referring.get(id) ?? []), journey]);
  }

  function timeline(journey) {
    const scale = axis(journey.hops);
    const press = (on, said) => make("button", {
      type: "button", "aria-pressed": String(on === equal), onclick: () => { equal = on; show(chosen); $("scale").querySelectorAll("button")[Number(on)].focus(); },
    }, said);
    const swatch = (classes, said) => {
      const sample = make("span", { class: `bar ${classes}` });
      sample.style.width = "22px";
      sample.style.top = "0";
      return make("span", {}, make("span", { class: "swatch" }, sample), said);
    };
    return [
      make("div", { class: "bar-head" },
        make("h3", {}, "Timeline"),
        make("span", { class: "switch", id: "scale", role: "group", "aria-label": "Scale" }, press(false, "proportional"), press(true, "equal steps")),
        make("span", { class: "legend" }, swatch("work", "work"), swatch("wait", "waiting"), swatch("socket", "in a socket's queue"))),
      lanes(journey, scale),
      hops(journey, scale),
      scale.broken === null ? null : make("p", { class: "dim foot" }, "Right of the dashed line the wait in the socket's queue is drawn on a scale of its own."),
    ];
  }

  function show(journey) {
    chosen = journey;
    hideFacts();
    const pane = $("chosen");
    pane.replaceChildren();
    if (!journey) {
      const none = journeys.length ? "No journey is chosen." : "The trace holds no journey.";
      fill(pane, {}, [make("h2", {}, "Journey"), make("p", { class: "dim" }, none), topologies.length ? topology(topologies.at(-1), []) : null]);
      return;
    }
    const facts = [
      ["at", moment(journey.at)], ["took", time(journey.took)],
      ["size", journey.size === undefined ? "-" : `${journey.size} bytes`],
      ["hops", String(journey.hops.length + (journey.more ?? 0))], ["skb", journey.skb],
      ...(journey.state ? [["packet", journey.state.join(", ")]] : []),
    ];
    const way = arrivals(journey);
    fill(pane, {}, [
      make("div", { class: "title" }, make("h2", {}, make("span", { class: "id" }, `#${journey.id} `), journey.flow)),
      make("p", { class: "facts" }, facts.map(([term, said]) => make("span", {}, `${term} `, make("b", {}, said)))),
      related(journey),
      make("p", { class: "end" }, ended(journey.outcome, journey.said), make("span", { class: "dim" }, ` after ${time(journey.took)}`)),
      why(journey),
      topologyOf(journey) ? topology(topologyOf(journey), way, journey) : make("p", { class: "dim" }, way.map(place).join(" › ")),
      journey.hops.length ? timeline(journey) : make("p", { class: "dim" }, "No hop of it is known."),
    ]);
  }

  // --- the facts of a hop ------------------------------------------------------------------------

  function factsOf(journey, n) {
    const hop = journey.hops[n], following = journey.hops[n + 1], beside = hop[MORE] ?? {};
    const device = hop[DEV] < 0 ? "none" : `${place(hop[DEV])} (ifindex ${devices[hop[DEV]].n})`;
    let cpu = String(hop[CPU]);
    if (beside.to_cpu !== undefined) cpu += `, put on the input queue of CPU ${beside.to_cpu}`;
    if (beside.running) cpu += ", whose softirq was running already";
    const took = following && Math.max(following[DT] - hop[DT], 0);
    const left = (journey.branches ?? []).filter(([, at]) => at === n).map(([id]) => `#${id}`);
    return [
      ["device", device], ["CPU", cpu], ["at", `${time(hop[DT])} after the first hop`],
      following
        ? ["took", [time(took), journey.took ? share(took, journey.took) : null, SEGMENTS[segments[hop[SEG]]]].filter(Boolean).join("; ")]
        : ["ends", journey.ending],
      ["length", `${hop[LEN]} bytes`],
      beside.task && ["process", beside.task],
      beside.verdict && ["netfilter", beside.verdict[0]],
      beside.socket && ["socket", beside.socket],
      ...(beside.changes ?? []).map((change) => ["changed", change]),
      left.length && ["branches", left.join(", ")],
    ].filter(Boolean);
  }

  function showFacts(n, anchor) {
    const { text } = functions[chosen.hops[n][FN]];
    const facts = $("facts");
    facts.replaceChildren(
      make("span", { class: "dim" }, `hop ${n + 1} of ${chosen.hops.length} `), make("strong", {}, name(chosen.hops[n])),
      ...(text ? [make("p", { class: "dim" }, text)] : []), pairs(factsOf(chosen, n)));
    facts.hidden = false;
    const box = anchor.getBoundingClientRect(), size = facts.getBoundingClientRect();
    // Below the row, or above it where there is no room; from the bar's column on.
    const below = box.bottom + size.height + 8 < innerHeight || box.top < size.height + 8;
    facts.style.top = `${scrollY + (below ? box.bottom + 4 : box.top - size.height - 4)}px`;
    facts.style.left = `${scrollX + Math.max(8, Math.min(box.left + box.width * 0.42, innerWidth - size.width - 24))}px`;
    for (const each of $("chosen").querySelectorAll("[data-hop]")) each.classList.toggle("lit", each.dataset.hop === String(n));
  }

  function hideFacts() {
    $("facts").hidden = true;
    for (const each of $("chosen").querySelectorAll(".lit")) each.classList.remove("lit");
  }

  const hopButton = (n) => $("chosen").querySelector(`button[data-hop="${Number(n)}"]`);
  function focusHop(n) {
    const button = n === undefined ? null : hopButton(n);
    if (!button) return;
    for (const each of $("chosen").querySelectorAll("button.hop")) each.tabIndex = each === button ? 0 : -1;
    button.focus();
  }

  function watch() {
    const pane = $("chosen");
    const at = ({ target }) => target.closest?.("[data-hop]");
    pane.addEventListener("pointerover", (event) => {
      const found = at(event);
      if (!found) return hideFacts();
      const row = hopButton(found.dataset.hop);
      return showFacts(Number(found.dataset.hop), found === row || row.contains(found) ? row : found);
    });
    pane.addEventListener("pointerleave", hideFacts);
    pane.addEventListener("focusin", (event) => {
      const found = at(event);
      if (found) { showFacts(Number(found.dataset.hop), found); found.setAttribute("aria-describedby", "facts"); }
    });
    pane.addEventListener("focusout", hideFacts);
    pane.addEventListener("keydown", (event) => {
      const found = at(event);
      const by = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
      if (!found || !by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      focusHop(Math.min(Math.max(Number(found.dataset.hop) + by, 0), chosen.hops.length - 1));
    });
  }

  // --- the topology ------------------------------------------------------------------------------

  /** The one that was when the journey began. */
  function topologyOf(journey) {
    let found = topologies[0];
    for (const each of topologies) if (each.from !== null && each.from <= journey.at) found = each;
    return found;
  }

  const CHAR = 7.3, LINE = 20, PAD = 10, TITLE = 24, GAP = 12;
  const wide = (text) => [...text].reduce((sum, c) => sum + (c > "\u2e7f" ? 2 : 1), 0) * CHAR;
  const clip = (text, most) => ([...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);

  /** Boxes for the namespaces: the most joined in the middle, the others beside it. */
  function layout(topology, narrow) {
    const boxes = new Map();
    for (const each of topology.devices) {
      const { inum, netns } = devices[each.device];
      if (!boxes.has(inum)) boxes.set(inum, { inum, name: clip(netns, 26), rows: [], links: 0 });
      boxes.get(inum).rows.push(each);
    }
    const joined = [...boxes.values()].sort((a, b) => b.rows.length - a.rows.length);
    const [hub, ...leaves] = joined;
    if (!hub) return { boxes: [], width: 0, height: 0 };
    // Ports stand below their bridge.
    const order = { bridge: 0, port: 1 };
    for (const box of joined) box.rows.sort((a, b) => (order[a.role] ?? 2) - (order[b.role] ?? 2));
    const inHub = new Map(hub.rows.map((each, n) => [each.device, n]));
    const lead = (box) => {
      const found = topology.pairs?.flatMap(([one, other]) => {
        const [mine, theirs] = box.rows.some((each) => each.device === one) ? [one, other] : [other, one];
        return box.rows.some((each) => each.device === mine) && inHub.has(theirs) ? [inHub.get(theirs)] : [];
      }) ?? [];
      return found.length ? Math.min(...found) : hub.rows.length;
    };
    leaves.sort((a, b) => lead(a) - lead(b));
    const outside = hub.rows.filter((each) => each.way && !topology.pairs?.some((pair) => pair.includes(each.device)));
    for (const each of outside) leaves.push({ outer: true, of: each.device, name: "outside", rows: [{ way: each.way }] });
    for (const box of joined.concat(leaves.filter((each) => each.outer))) {
      for (const each of box.rows) {
        each.label = each.way && box.outer ? clip(each.way, 28) : clip(devices[each.device].ifname, 16);
        each.beside = box.outer ? "" : clip((each.addresses ?? []).slice(0, 1).join(), 19) + ((each.addresses?.length ?? 0) > 1 ? ` +${each.addresses.length - 1}` : "");
        each.flags = (each.unusual ?? []).join(" ");
      }
      const wides = box.rows.map((each) => 34 + (each.role === "port" ? 14 : 0) + wide(each.label) + wide(each.beside) * 0.93 + (each.flags ? wide(each.flags) + 8 : 0));
      box.width = Math.max(96, wide(box.name) + 26, ...wides) + 2 * PAD;
      box.height = TITLE + box.rows.length * LINE + 6;
    }
    const half = narrow ? 0 : Math.floor(leaves.length / 2);
    const sides = [leaves.slice(0, half), leaves.slice(half)];
    const tall = (column) => column.reduce((sum, box) => sum + box.height + GAP, -GAP);
    const height = Math.max(hub.height, ...sides.filter((side) => side.length).map(tall));
    const widest = (column) => Math.max(0, ...column.map((box) => box.width));
    const between = narrow ? 36 : 64;
    const left = sides[0].length ? widest(sides[0]) + between : 0;
    hub.x = left;
    hub.y = (height - hub.height) / 2;
    sides.forEach((side, n) => {
      let y = (height - tall(side)) / 2;
      for (const box of side) {
        box.x = n ? hub.x + hub.width + between : left - between - box.width;
        box.y = y;
        y += box.height + GAP;
      }
    });
    const right = sides[1].length ? between + widest(sides[1]) : 0;
    return { boxes: [hub, ...leaves], hub, width: left + hub.width + right, height };
  }

  let everybody = false;

  /** Of a crowd the namespaces that the packet came to, and what is unusual; how many are left out. */
  function some(drawn, way) {
    const spaces = new Set(drawn.devices.map((each) => devices[each.device].inum));
    if (everybody || spaces.size <= CROWD) return [drawn, 0];
    const bridge = drawn.devices.find((each) => each.role === "bridge");
    const hub = bridge && devices[bridge.device].inum;
    const wanted = new Set(way.map((device) => devices[device].inum));
    for (const each of drawn.devices) {
      if (each.unusual && devices[each.device].inum !== hub && wanted.size < CROWD) wanted.add(devices[each.device].inum);
    }
    if (wanted.size < 2) for (const inum of spaces) if (wanted.size < CROWD) wanted.add(inum);
    const led = new Map((drawn.pairs ?? []).flatMap(([one, other]) => [[one, other], [other, one]]));
    const known = new Set(drawn.devices.map((each) => each.device));
    const kept = drawn.devices.filter((each) => {
      const { inum } = devices[each.device];
      if (inum !== hub) return wanted.has(inum);
      const far = led.get(each.device);
      return each.role !== "port" || each.unusual || far === undefined || !known.has(far) || wanted.has(devices[far].inum);
    });
    const left = new Set(kept.map((each) => devices[each.device].inum));
    return [{ ...drawn, devices: kept }, spaces.size - left.size];
  }

  const small = matchMedia("(max-width: 700px)");

  function topology(whole, way, journey) {
    const narrow = small.matches;
    const [drawn, others] = some(whole, way);
    const { boxes, width, height } = layout(drawn, narrow);
    const numbers = new Map();
    way.forEach((device, n) => numbers.set(device, [...(numbers.get(device) ?? []), n + 1]));
    const spots = new Map();
    for (const box of boxes) box.rows.forEach((each, n) => {
      const key = box.outer ? `out of ${box.of}` : each.device;
      spots.set(key, { x: box.x, right: box.x + box.width, y: box.y + TITLE + (n + 0.5) * LINE });
    });
    const steps = new Set(way.slice(1).flatMap((device, n) => [`${way[n]} ${device}`, `${device} ${way[n]}`]));
    const wire = (one, other, passed) => {
      const [a, b] = [spots.get(one), spots.get(other)];
      if (!a || !b) return null;
      const [from, to] = a.x < b.x ? [a, b] : [b, a];
      const apart = to.x > from.right; // else they are in one box, or above one another
      const [x1, x2] = apart ? [from.right, to.x] : [from.right, to.right];
      const bend = apart ? (x2 - x1) / 2 : 22;
      const path = apart ? `M${x1} ${from.y}C${x1 + bend} ${from.y} ${x2 - bend} ${to.y} ${x2} ${to.y}` : `M${x1} ${from.y}C${x1 + bend} ${from.y} ${x2 + bend} ${to.y} ${x2} ${to.y}`;
      return draw("path", { class: passed ? "wire passed" : "wire", d: path });
    };
    const wires = (drawn.pairs ?? []).map(([one, other]) => wire(one, other, steps.has(`${one} ${other}`)));
    for (const box of boxes) if (box.outer) wires.push(wire(box.of, `out of ${box.of}`, journey?.outcome === "transmitted" && way.at(-1) === box.of));
    const said = `Topology ${drawn.name}${way.length ? `; the packet came to ${way.map(place).join(", then ")}` : ""}`;
    const svg = draw("svg", {
      width: width + 4, height: height + 4, viewBox: `-2 -2 ${width + 4} ${height + 4}`, role: "img", "aria-label": said,
    }, wires, boxes.map((box) => boxed(box, numbers)));
    const beside = [
      ...(drawn.nat ?? []).map((rule) => make("li", {}, "NAT ", make("code", {}, rule))),
      ...(drawn.refused ? [make("li", { class: "warning" }, `! ${drawn.refused}`)] : []),
      ...(report.changes ? [make("li", {}, `The topology changed ${report.changes} times; drawn is that of when this journey began.`)] : []),
    ];
    if (others || everybody) {
      beside.push(make("li", {}, make("button", {
        type: "button", class: "chip", onclick: () => { everybody = !everybody; show(chosen); },
      }, others ? `draw ${nouns(others, "more namespace")}` : "draw only where it came")));
    }
    return make("figure", { class: "topology" }, svg, beside.length ? make("ul", {}, beside) : null);
  }

  function boxed(box, numbers) {
    const { x, y, rows: inside } = box;
    const ports = inside.flatMap((each, n) => (each.role === "port" ? [n] : []));
    const bridge = inside.findIndex((each) => each.role === "bridge");
    const middle = (n) => y + TITLE + (n + 0.5) * LINE;
    const tree = bridge < 0 ? [] : ports.map((n) =>
      draw("path", { class: "tree", d: `M${x + PAD + 5} ${middle(bridge) + 8}V${middle(n)}h8` }));
    return draw("g", { class: box.outer ? "" : colours.get(box.inum) },
      draw("rect", { class: box.outer ? "box outer" : "box", x, y, width: box.width, height: box.height, rx: 7 }),
      draw("text", { class: box.outer ? "way" : "name", x: x + PAD, y: y + 16 }, box.name),
      tree,
      inside.map((each, n) => {
        const passed = numbers.get(each.device);
        const indent = x + PAD + (each.role === "port" && bridge >= 0 ? 17 : 0);
        const after = indent + wide(each.label) + 8;
        return draw("g", {},
          passed ? draw("rect", { class: "at", x: indent - 4, y: middle(n) - 8.5, width: x + box.width - PAD - indent + 8, height: 17, rx: 4 }) : null,
          draw("text", { class: box.outer ? "way" : passed ? "passed-name" : "", x: indent, y: middle(n) + 4 }, each.label),
          draw("text", { class: "address", x: after, y: middle(n) + 4 }, each.beside),
          each.flags ? draw("text", { class: "unusual", x: after + wide(each.beside) * 0.93 + (each.beside ? 8 : 0), y: middle(n) + 4 }, each.flags) : null,
          passed ? draw("text", { class: "number", x: x + box.width - PAD, y: middle(n) + 4, "text-anchor": "end" }, passed.join(",")) : null,
          draw("title", {}, box.outer ? each.way : [place(each.device), ...(each.addresses ?? []), ...(each.unusual ?? [])].join("  ")));
      }));
  }

  // --- statistics --------------------------------------------------------------------------------

  const TIMES = [["p50", "p50_ns"], ["p90", "p90_ns"], ["p99", "p99_ns"], ["p99.9", "p999_ns"], ["max", "max_ns"]];
  const times = (of) => TIMES.map(([, key]) => [time(of[key]), "number"]);
  const TIMED = TIMES.map(([said]) => [said, "number"]);

  function histogram(counts) {
    const most = Math.max(...counts, 1);
    return draw("svg", { class: "histogram", viewBox: "0 0 74 16", role: "img", "aria-label": "histogram, 10 ns to 10 s" },
      draw("title", {}, "from 10 ns (left) to 10 s (right)"), draw("line", { x1: 0, x2: 74, y1: 15.5, y2: 15.5 }),
      counts.map((each, n) => {
        const height = each ? Math.max((14 * each) / most, 1.5) : 0;
        return draw("rect", { x: 1 + n * 4, y: 15 - height, width: 3, height });
      }));
  }

  function meter(part, whole) {
    const filled = make("i");
    filled.style.width = percent(whole ? part / whole : 0);
    return make("span", { class: "metered" }, make("span", { class: "meter", "aria-hidden": "true" }, filled), share(part, whole));
  }

  /** A table of which the first rows are shown until all are asked for. */
  function table(said, headings, lines, of) {
    const hidden = lines.slice(MOST_ROWS);
    const cells = (line) => make("tr", {}, line.map(([cell, classes]) => make("td", { class: classes }, cell)));
    const body = make("tbody", {}, lines.slice(0, MOST_ROWS).map(cells));
    if (hidden.length) {
      const more = make("tr", { class: "more" }, make("td", { colspan: headings.length }, make("button", {
        type: "button", class: "chip", onclick: () => { more.remove(); body.append(...hidden.map(cells)); },
      }, `show ${hidden.length} more`)));
      body.append(more);
    }
    const rest = of > lines.length ? make("span", { class: "dim" }, ` the first ${lines.length} of ${count(of)}`) : null;
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": said }, make("table", {},
      make("caption", {}, said, rest),
      make("thead", {}, make("tr", {}, headings.map(([heading, classes]) => make("th", { scope: "col", class: classes }, heading)))), body));
  }

  const where = (of) => (of.ifname === null ? "-" : `${of.netns}/${of.ifname}`);
  const segmentSaid = (segment) => (segment === null ? "" : segment.replaceAll("_", " "));
  function sample(segment) {
    const element = make("span", { class: `bar ${segment === "work" || segment === null ? "work" : segment === "socket" ? "socket" : "wait"}` });
    element.style.width = "22px";
    element.style.top = "0";
    return make("span", { class: "swatch", "aria-hidden": "true" }, element);
  }

  function counted() {
    const s = statistics;
    const outcomes = Object.keys(SIGNS).filter((outcome) => s.outcomes[outcome]);
    const kinds = Object.entries(s.kinds).sort(([, a], [, b]) => b.total_ns - a.total_ns);
    const filter = (words) => make("button", {
      type: "button", class: "plain mono", title: "list these journeys",
      onclick: () => { search(words); $("filter").scrollIntoView({ block: "center" }); $("filter").focus(); },
    }, words);
    // What a flow's packets have in common: not the flags, nor what tells one echo from the next.
    fill($("statistics"), {}, [
      make("h2", { id: "statistics-title" }, "Statistics"),
      make("p", { class: "dim" }, `Over all ${nouns(s.journeys, "journey")}: ${nouns(s.hops, "hop")}, ${nouns(s.bytes, "byte")}, ${count(s.branches)} branches of others. Percentiles are within ${(100 * s.percentile_error).toFixed(1)} %.`),
      s.journeys ? [
        make("div", { class: "columns two" },
          table("Outcomes", [["outcome"], ["journeys", "number"], ["share"]],
            outcomes.map((outcome) => [[ended(outcome, outcome)], [count(s.outcomes[outcome]), "number"], [meter(s.outcomes[outcome], s.journeys)]])),
          table("Time by kind of step", [["kind"], ["time"], ["steps", "number"], ["p50", "number"], ["p99", "number"], ["max", "number"], ["10 ns to 10 s"]],
            kinds.map(([segment, of]) => [[[sample(segment), " ", segmentSaid(segment)]], [meter(of.total_ns, s.steps_total_ns)], [count(of.count), "number"], [time(of.p50_ns), "number"], [time(of.p99_ns), "number"], [time(of.max_ns), "number"], [histogram(of.bars)]]))),
        s.drops.length ? table("Drops, by reason and place", [["journeys", "number"], ["reason"], ["in"], ["at"], ["last"]],
          s.drops.map((of) => [
            [count(of.journeys), "number"],
            [[ended("dropped", of.reason ?? "no reason given"), of.explained ? why(of)[0] : null], ""],
            [of.function ?? "-", "mono"], [where(of), "mono"], [link(of.last)]]), s.drops_of) : null,
        table("Steps, by time altogether", [["step"], ["at"], ["kind"], ["time"], ["count", "number"], ...TIMED, ["10 ns to 10 s"]],
          s.steps.map((of) => [
            [`${of.function} → ${of.following}`, "mono"], [where(of), "mono"], [[sample(of.segment), " ", segmentSaid(of.segment)]],
            [meter(of.total_ns, s.steps_total_ns)], [count(of.count), "number"], ...times(of), [histogram(of.bars)]]), s.steps_of),
        table("Flows", [["flow"], ["journeys", "number"], ["share"], ["drops", "number"], ...TIMED, ["first"]],
          s.groups.map((of) => [
            [filter(of.said), "mono"], [count(of.journeys), "number"], [meter(of.journeys, s.journeys)],
            [of.dropped ? make("span", { class: "dropped" }, `✗ ${count(of.dropped)}`) : "0", "number"], ...times(of), [link(of.first)]]), s.groups_of),
        make("h3", {}, "The slowest"),
        make("p", { class: "related" }, s.slowest.map((of) => make("span", {}, link(of.id), ` ${time(of.took_ns)}`))),
      ] : null,
    ].flat());
  }

  function captured() {
    const known = [
      ["traced", capture.name], ["kernel", `${capture.kernel} (${capture.machine})`], ["CPUs", String(capture.cpus)],
      ["tool", capture.tool], ["tracing since", capture.started], ["first journey", capture.first ?? "-"],
      ...capture.asked.map(([option, words]) => [option, make("code", {}, words)]),
      ["probes", `${capture.attached} attached`],
      ...capture.missing.map(([missing, reason]) => ["no probe on", [make("code", {}, missing), reason ? `: ${reason}` : ""]]),
      ["topology", report.changes ? `changed ${report.changes} times` : "did not change"],
    ];
    fill($("capture"), {}, [make("h2", { id: "capture-title" }, "Capture"), pairs(known)]);
  }

  // --- choosing ----------------------------------------------------------------------------------

  /** Choose a journey and let the address say so: it can be sent to somebody. */
  function go(id) {
    history.replaceState(null, "", `#journey=${encodeURIComponent(id)}`);
    follow();
  }

  function follow() {
    if (!location.hash.startsWith("#journey=")) return;
    let id = location.hash.slice("#journey=".length);
    try { id = decodeURIComponent(id); } catch { /* not written by us: take it as it is */ }
    const journey = byId.get(id);
    const listbox = $("list");
    for (const each of rows) {
      const on = each.journey === journey;
      if (on !== (each.element.getAttribute("aria-selected") === "true")) each.element.setAttribute("aria-selected", String(on));
      if (on) {
        listbox.setAttribute("aria-activedescendant", each.element.id);
        const top = each.element.offsetTop - listbox.offsetTop;
        if (top < listbox.scrollTop || top + 46 > listbox.scrollTop + listbox.clientHeight) listbox.scrollTop = top - listbox.clientHeight / 2;
      }
    }
    show(journey ?? null);
    if (!journey) $("chosen").append(make("p", { class: "warning" }, `#${id} is not among the journeys listed here.`));
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === $("filter");
    if (event.key === "Escape") {
      if (typing && $("filter").value) search("");
      hideFacts();
      $("list").focus();
    } else if (typing) {
      if (event.key === "Enter" || event.key === "ArrowDown") { event.preventDefault(); $("list").focus(); move(0); }
    } else if (event.key === "/") {
      event.preventDefault();
      $("filter").focus();
      $("filter").select();
    } else if (event.key === "s" && chosen) {
      equal = !equal;
      show(chosen);
    } else if (event.key === "j" || event.key === "k") {
      move(event.key === "j" ? 1 : -1);
    } else if (event.target === $("list")) {
      const page = Math.max(Math.floor($("list").clientHeight / 46) - 1, 1);
      const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
      if (by) { event.preventDefault(); move(by); }
      if (event.key === "Enter") focusHop(0);
    }
  }

  head();
  list();
  counted();
  captured();
  watch();
  addEventListener("keydown", keys);
  addEventListener("hashchange", follow);
  small.addEventListener("change", () => show(chosen));
  if (location.hash.startsWith("#journey=")) follow();
  else if (journeys.length) go((journeys.find(({ outcome }) => outcome === "dropped") ?? journeys[0]).id);
  else show(null);
})();

// Sections of the report, built from the figures in the page: summary, the table of keys with its details, regret,
// distance to the floor, what was left out. Details are built when they are opened. See autotune/report/Report.h for the figures.

const figures = JSON.parse(document.getElementById("figures").textContent);
const { head, keys, configs, reasons, outcomes } = figures;
const kFirstKeys = 50, kFirstCandidates = 20, kFirstGroups = 30; // rows before "show all"

const body = (id) => document.querySelector(`#${id} .body`);
const plural = (count, word) => `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;
const note = (...words) => html("p", { class: "note" }, ...words);
const times = (ratio) => `${ratio.toFixed(3)}×`;
const interval = (low, high) => (low > 0 && high > 0 ? `${milliseconds(low)}–${milliseconds(high)}` : "");
const keyWords = (k) => `${k.phase} ${k.method}, d ${k.head_dim}, G ${k.group}, block ${k.block}, top-${k.topk}, ` +
  `${short(k.tokens)} tokens${k.overlap ? `, overlap ${k.overlap}` : ""}${k.batch ? `, ${k.batch} sequences` : ""}${head.devices.length > 1 ? `, ${k.device}` : ""}`;
const keyLink = (index) => html("a", { href: "#keys", click: (event) => { event.preventDefault(); openKey(index); } },
  keyWords(keys[index]));

function configCell(index) {
  if (configs[index] === "default") return html("span", { class: "soft" }, "default");
  return configs[index].split(" ").map((word) => [html("code", {}, word), " "]);
}

// A scrolling table with a name, that keys can scroll too.
const scrolling = (name, table) => html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table);

// Rows up to a limit, then a button for the rest.
function limited(rows, limit, fill) {
  fill(rows.slice(0, limit));
  if (rows.length <= limit) return null;
  return html("button", { class: "more", type: "button", click: (event) => { fill(rows); event.target.remove(); } },
    `Show all ${grouped(rows.length)}`);
}

// ---- summary ----

function buildSummary() {
  const at = document.getElementById("summary");
  if (!keys.length) {
    at.append(note(head.unfinished
      ? `No finished key: the files hold candidates of ${plural(head.unfinished, "key")}, but no record of a winner.`
      : "The files hold no record of a tuned configuration, so there is nothing to show yet."));
  } else {
    at.append(html("p", {}, "Winnow turns a method of block-sparse attention into GPU kernels. A kernel has tunables, ",
      "such as how many tiles are loaded ahead or how many warps share the work; they change its speed and not its ",
      "result, and which values are fastest depends on the shape of the problem and on the GPU. For each ",
      html("em", {}, "key"), " (a phase of a method, at one shape, on one GPU) the tuner built many candidates, timed them ",
      "beside the compiler’s default, and kept the fastest. This page shows what that gained, how sure it is, and what was ",
      "left out."));
  }
  const item = (name, value, ...small) =>
    html("div", {}, html("dt", {}, name), html("dd", {}, value, html("span", { class: "small soft" }, ...small)));
  const list = html("dl", { class: "figures" });
  if (head.geomean) {
    list.append(item("tuned over default", times(head.geomean), "geometric mean of the speed-up over all measured keys"),
      item("best key", times(head.best.speedup), keyLink(head.best.key)),
      item("worst key", times(head.worst.speedup), keyLink(head.worst.key)));
  }
  if (head.floor_share)
    list.append(item("of the floor", percent(head.floor_share, 0), "median; see ", html("a", { href: "#floor" }, "the floor")));
  if (keys.length)
    list.append(item("keys", grouped(head.keys), head.measured === head.keys ? "all measured" :
      `${grouped(head.measured)} measured, ${grouped(head.keys - head.measured)} chosen by the model`));
  if (head.tried + head.pruned)
    list.append(item("candidates run", grouped(head.tried), `${grouped(head.rejected)} of them rejected; ` +
      `${grouped(head.pruned)} more pruned before compiling`));
  at.append(list);

  const facts = html("dl", { class: "facts" });
  const fact = (name, texts) => texts.length && facts.append(html("dt", {}, name), html("dd", {}, texts.join("; ")));
  fact("GPU", head.devices.map((d) => `${d.device} (${d.arch}), ${plural(d.keys, "key")}`));
  fact("driver", head.drivers);
  if (head.dates.length) fact("date", [[...new Set([head.dates[0], head.dates.at(-1)])].join(" to ")]);
  fact("times", head.protocols);
  fact("compared with the reference", head.verified.map((who) =>
    who === "all" ? "every candidate" : who === "winner" ? "the winner" : who));
  if (head.codes.length > 1) fact("generators", [`${head.codes.length} versions: ${head.codes.join(", ")}`]);
  if (head.unfinished && keys.length) fact("unfinished", [`${plural(head.unfinished, "key")} with candidates, but no winner yet`]);
  at.append(facts);
  if (head.faults.length)
    at.append(html("details", {}, html("summary", {}, `${plural(head.faults.length, "line")} of the files could not be read`),
      html("ul", {}, head.faults.slice(0, 100).map((fault) => html("li", {}, fault)))));
}

// ---- keys ----

const column = (name, value, options = {}) => ({ name, value, show: value, number: true, ...options });
const text = { number: false };
const columns = [
  column("phase", (k) => k.phase, text),
  column("method", (k) => k.method, { number: false, cell: "name" }),
  ...(head.devices.length > 1 ? [column("GPU", (k) => k.device, { number: false, cell: "name" })] : []),
  column("d", (k) => k.head_dim), column("G", (k) => k.group), column("block", (k) => k.block),
  column("top\u2011k", (k) => k.topk),
  column("tokens", (k) => k.tokens, { show: (k) => grouped(k.tokens) }),
  column("overlap", (k) => k.overlap, { show: (k) => (k.overlap ? k.overlap : "–") }),
  ...(keys.some((k) => k.batch) ? [column("batch", (k) => k.batch, { show: (k) => (k.batch ? k.batch : "–") })] : []),
  column("winner", (k) => configs[k.config], { number: false, show: (k) => configCell(k.config), cell: "config" }),
  column("ms", (k) => k.ms, { show: (k) => milliseconds(k.ms) }),
  column("interval", (k) => (k.ms ? (k.high - k.low) / k.ms : 0), { show: (k) => interval(k.low, k.high),
    hint: "95\u00a0% confidence interval of the median; sorts by its width relative to the time" }),
  column("default ms", (k) => k.default_ms, { show: (k) => (k.default_ms ? milliseconds(k.default_ms) : "") }),
  column("speed-up", (k) => k.speedup, { show: (k) => (k.speedup ? times(k.speedup) : "") }),
  column("floor ms", (k) => k.floor_ms, { show: (k) => (k.floor_ms ? milliseconds(k.floor_ms) : "") }),
  column("of floor", (k) => k.floor_share, { show: (k) => (k.floor_share ? percent(k.floor_share, 0) : ""),
    hint: "floor time over measured time" }),
  column("origin", (k) => k.origin, text), column("effort", (k) => k.effort, text),
  column("edges", (k) => k.edges.length, { number: false, cell: "edges", show: (k) =>
    k.edges.map((e) => [html("code", { title: e }, e.replace(/^(attend|score)_/, "")), " "]),
    hint: "tunables whose best value is the first or last that was tried: the best may lie beyond" }),
];
const cellClass = (c) => c.cell || (c.number ? "num" : "plain");

const state = { column: null, up: true, filter: "", limit: kFirstKeys, open: new Set() };
const details = new Map(); // by key, once opened
const searched = keys.map((k) => `${keyWords(k)} ${k.device} ${configs[k.config]} ${k.origin} ${k.effort} ${k.edges.join(" ")}`
  .toLowerCase());
let tableBody, moreKeys, countWords;

function keyRow(index) {
  const k = keys[index], isOpen = state.open.has(index);
  const opener = html("button", { class: "opener", type: "button", "aria-expanded": String(isOpen),
    "aria-controls": isOpen ? `detail-${index}` : null }, k.phase);
  const row = html("tr", { class: isOpen ? "key open" : "key", id: `key-${index}`, click: () => {
    if (!String(getSelection())) toggle(index, !state.open.has(index));
  } }, columns.map((c, i) => html("td", { class: cellClass(c) }, i ? c.show(k) : opener)));
  if (!isOpen) return row;
  if (!details.has(index)) details.set(index, buildDetail(k));
  return [row, html("tr", { class: "detail", id: `detail-${index}` },
    html("td", { colspan: columns.length }, details.get(index)))];
}

function toggle(index, open) {
  if (open) state.open.add(index);
  else state.open.delete(index);
  const row = document.getElementById(`key-${index}`);
  document.getElementById(`detail-${index}`)?.remove();
  row.replaceWith(...[keyRow(index)].flat());
  document.querySelector(`#key-${index} .opener`).focus({ preventScroll: true });
}

function openKey(index) {
  if (!document.getElementById(`key-${index}`)) {
    state.filter = document.getElementById("filter").value = "";
    state.limit = Infinity;
    fillKeys();
  }
  toggle(index, true);
  document.getElementById(`key-${index}`).scrollIntoView({ block: "start" });
}

function fillKeys() {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  let order = keys.map((_, i) => i).filter((i) => words.every((word) => searched[i].includes(word)));
  if (state.column) {
    const value = (i) => state.column.value(keys[i]), sign = state.up ? 1 : -1;
    const missing = (v) => v === null || v === undefined;
    order.sort((a, b) => missing(value(a)) - missing(value(b)) ||
      sign * (state.column.number ? value(a) - value(b) : String(value(a)).localeCompare(String(value(b)))) || a - b);
  }
  const shown = order.slice(0, state.limit);
  tableBody.replaceChildren(...shown.map(keyRow).flat());
  countWords.textContent = shown.length < keys.length ? `${grouped(shown.length)} of ${plural(keys.length, "key")} shown` : "";
  moreKeys.hidden = shown.length === order.length;
  moreKeys.textContent = `Show all ${grouped(order.length)} keys`;
}

function buildKeys() {
  if (!keys.length) return void body("keys").append(note("There is no key in the files."));
  const heads = columns.map((c) => html("th", { scope: "col", class: c.number ? "num" : null },
    html("button", { type: "button", title: c.hint, click: () => {
      state.up = state.column === c ? !state.up : !["speed-up", "of floor", "edges"].includes(c.name);
      state.column = c;
      for (const th of heads) th.removeAttribute("aria-sort");
      heads[columns.indexOf(c)].setAttribute("aria-sort", state.up ? "ascending" : "descending");
      fillKeys();
    } }, c.name)));
  tableBody = html("tbody", {});
  countWords = html("span", { class: "soft", "aria-live": "polite" });
  moreKeys = html("button", { class: "more", type: "button", click: () => { state.limit = Infinity; fillKeys(); } });
  const filter = html("input", { id: "filter", type: "search", placeholder: "e.g. attend 128k", autocomplete: "off",
    input: (event) => { state.filter = event.target.value; fillKeys(); } });
  if (keys.length > 5)
    body("keys").append(html("div", { class: "tools" }, html("label", { for: "filter" }, "Only rows with"), filter, countWords));
  body("keys").append(scrolling("Table of keys", html("table", {}, html("thead", {}, html("tr", {}, heads)), tableBody)), moreKeys);
  fillKeys();
}

// ---- one key ----

function candidatesOf(k) {
  return k.trials.map(([config, outcome, reason, ms = 0, low = 0, high = 0, rounds = 0]) => {
    const words = configs[config], values = {};
    if (words !== "default")
      for (const word of words.split(" ")) values[word.slice(0, word.lastIndexOf("="))] = Number(word.slice(word.lastIndexOf("=") + 1));
    return { config, words, values, outcome: outcomes[outcome], reason: reason < 0 ? "" : reasons[reason], ms, low, high, rounds,
      isBest: config === k.config, isDefault: words === "default" };
  });
}

function choiceWords(choice, k) {
  const config = [html("code", {}, configs[choice.config]), choice.device ? ` (for ${choice.device})` : "",
    choice.key !== undefined ? [" (", keyLink(choice.key), ")"] : "", ": "];
  if (choice.fate !== "measured")
    return [...config, choice.fate === "missing" ? "not among the candidates measured here" : `${choice.fate} here`];
  return [...config, choice.config === k.config ? "the winner" : `${milliseconds(choice.ms)} ms, ${signedPercent(choice.regret)}`];
}

function buildDetail(k) {
  const candidates = candidatesOf(k), timed = candidates.filter((c) => c.ms > 0 && c.outcome !== "rejected");
  const panel = html("div", { class: "panel" });
  const gain = !k.speedup ? "" : configs[k.config] === "default" ? "; no candidate beat the default" :
    `; the default takes ${milliseconds(k.default_ms)} ms, so the winner is ${times(k.speedup)} as fast`;
  panel.append(html("h3", {}, keyWords(k)), html("p", {}, k.origin === "model"
    ? `The performance model chose this configuration and expects ${milliseconds(k.ms)} ms. Nothing was run.`
    : `The winner of ${plural(k.tried, "candidate")} takes ${milliseconds(k.ms)} ms` +
      `${interval(k.low, k.high) ? ` (95\u00a0% interval ${interval(k.low, k.high)})` : ""}${gain}.` +
      `${k.floor_share ? ` The tensor cores alone would need ${milliseconds(k.floor_ms)} ms, ${percent(k.floor_share)} of it.` : ""}`));
  if (k.edges.length)
    panel.append(html("p", { class: "edges" }, "At the edge of what was tried: ",
      k.edges.map((e, i) => [i ? ", " : "", html("code", {}, e)]), ". The best value may lie beyond."));
  const facts = html("dl", { class: "facts" });
  const fact = (name, value) => value && facts.append(html("dt", {}, name), html("dd", {}, value));
  fact("winner", configCell(k.config));
  fact("program", `${k.heads} query heads, ${k.kv_heads} key/value heads, d ${k.head_dim}` +
    `${k.value_dim !== k.head_dim ? `, values ${k.value_dim}` : ""}, ${k.dtype}${k.params ? `, ${k.params}` : ""}`);
  fact("GPU", `${k.device}, ${k.arch}${k.clock_mhz ? `, ${grouped(k.clock_mhz)} MHz` : ""}${k.watts ? `, ${k.watts} W` : ""}`);
  if (k.origin !== "model") {
    fact("candidates", `${grouped(k.tried)} run, ${grouped(k.rejected)} of them rejected, ${grouped(k.pruned)} pruned before; ` +
      `${k.rounds} rounds of the winner`);
    fact("measured", [k.date, k.driver && `driver ${k.driver}`, k.code && `generator ${k.code}`].filter(Boolean).join(", "));
    fact("times", k.protocol);
    if (k.choices.model) fact("model’s choice", choiceWords(k.choices.model, k));
    if (k.choices.neighbour) fact("nearest key’s choice", choiceWords(k.choices.neighbour, k));
  }
  panel.append(facts);
  if (!candidates.length) {
    panel.append(note("The files hold only the result of this key, not its candidates."));
    return panel;
  }
  const pictures = tunablePictures(timed);
  panel.append(html("h3", {}, "Time by tunable, ms"));
  if (pictures.length) panel.append(tunableLegend(), html("div", { class: "pictures" }, pictures));
  else panel.append(note("No tunable has two timed values."));
  panel.append(html("h3", {}, `All ${plural(candidates.length, "candidate")}`), candidateTable(candidates, k));
  return panel;
}

function candidateTable(candidates, k) {
  const rank = (c) => (c.isBest ? 0 : c.outcome === "rejected" ? 2 : c.ms > 0 ? 1 : 3);
  const sorted = [...candidates].sort((a, b) => rank(a) - rank(b) || a.ms - b.ms);
  const rows = sorted.map((c) => html("tr", { class: c.isBest ? "best" : c.outcome === "dropped" ? "slow" : null },
    html("td", { class: "config" }, configCell(c.config)), html("td", { class: "plain" }, c.isBest ? "best" : c.outcome),
    html("td", { class: "num" }, c.ms ? milliseconds(c.ms) : ""), html("td", { class: "num" }, interval(c.low, c.high)),
    html("td", { class: "num" }, c.ms && k.ms ? signedPercent(c.ms / k.ms - 1) : ""),
    html("td", { class: "num" }, c.rounds || ""), html("td", { class: "reason" }, c.reason)));
  const rowsBody = html("tbody", {});
  const names = [["configuration"], ["outcome"], ["ms", "num"], ["interval", "num"], ["to best", "num"], ["rounds", "num"], ["reason"]];
  const more = limited(rows, kFirstCandidates, (part) => rowsBody.replaceChildren(...part));
  return [scrolling("Candidates", html("table", {}, html("thead", {}, html("tr", {}, names.map(([name, cls]) =>
    html("th", { scope: "col", class: cls }, name)))), rowsBody)), more].filter(Boolean).reduce((box, part) => {
    box.append(part);
    return box;
  }, html("div", {}));
}

// ---- regret ----

function buildRegret() {
  const kinds = [
    ["default", "The compiler’s default", "what runs where nothing was tuned"],
    ["model", "The performance model’s choice", "where the files hold one for the same problem"],
    ["neighbour", "The nearest other key’s choice", "the winner of the most similar key on the same GPU, as if this key had not been tuned"],
  ];
  const points = (kind) => keys.flatMap((k, i) => (k.choices[kind]?.regret === undefined ? [] :
    [{ value: k.choices[kind].regret, key: i, words: keyWords(k) }]));
  const highest = Math.max(0, ...kinds.flatMap(([kind]) => points(kind).map((p) => p.value)));
  const pictures = html("div", { class: "pictures" });
  for (const [kind, name, what] of kinds) {
    const r = figures.regret[kind], words = [];
    if (r.count) words.push(`Median ${percent(r.median)}, worst ${percent(r.worst)}, ${plural(r.count, "key")}.`);
    const broken = r.pruned + r.rejected;
    if (broken) words.push(`For ${plural(broken, "key")} it would not have run.`);
    if (r.missing) words.push(`For ${plural(r.missing, "key")} it was not among the candidates.`);
    const caption = html("figcaption", {}, html("b", {}, name), `: ${what}. `, words.join(" "));
    pictures.append(html("figure", { class: "wide" }, caption, r.count
      ? regretPicture(points(kind), r.median, highest, `Regret of ${name}: ${words.join(" ")}`, openKey)
      : note(kind === "model" ? "The files hold no model’s choice for a measured key." :
        kind === "neighbour" ? "No key has a comparable neighbour whose choice was measured." :
          "No key was measured beside its default.")));
  }
  body("regret").append(pictures);
}

// ---- floor ----

function buildFloor() {
  const points = keys.flatMap((k, i) => (k.floor_share && k.origin === "measured" ? [{ ...k, share: k.floor_share, key: i,
    words: keyWords(k) }] : []));
  if (!points.length) return void body("floor").append(note("No measured key has a floor."));
  const groups = new Map();
  for (const p of points) {
    const name = `${p.phase} ${p.method}${head.devices.length > 1 ? `, ${p.device}` : ""}`;
    groups.set(name, [...(groups.get(name) || []), p]);
  }
  const top = Math.max(1, Math.ceil(Math.max(...points.map((p) => p.share)) * 4) / 4);
  body("floor").append(html("div", { class: "pictures" }, [...groups].map(([name, list]) => html("figure", {},
    html("figcaption", {}, html("b", {}, name), `, ${plural(list.length, "key")}`),
    floorPicture(list, top, `Share of the floor: ${name}`, openKey)))));
}

// ---- left out ----

function groupTable(name, groups) {
  const rows = groups.map((g) => html("tr", {}, html("td", { class: "num" }, grouped(g.count)),
    html("td", { class: "num" }, grouped(g.keys)), html("td", { class: "reason" }, g.reason || "no reason given"),
    html("td", { class: "config" }, configCell(g.config)),
    html("td", { class: "reason" }, g.example !== g.reason ? [g.example, " "] : null, html("span", { class: "soft" }, keyWords(keys[g.key])))));
  const rowsBody = html("tbody", {});
  const more = limited(rows, kFirstGroups, (part) => rowsBody.replaceChildren(...part));
  return [scrolling(name, html("table", {}, html("thead", {}, html("tr", {}, html("th", { scope: "col", class: "num" }, "candidates"),
    html("th", { scope: "col", class: "num" }, "keys"), html("th", { scope: "col" }, "reason (# for numbers)"),
    html("th", { scope: "col" }, "example"), html("th", { scope: "col" }, "reason and key of the example"))), rowsBody)), more];
}

function buildLeftOut() {
  for (const [outcome, title, what, none] of [
    ["pruned", "Pruned", "No kernel can be built with these, so they were never compiled: the planner knows exactly what fits.",
      "No pruned candidate is among the lines of the files."],
    ["rejected", "Rejected", "Built, and then failed, hung, or gave a wrong result. They cannot win.",
      "No rejected candidate is among the lines of the files."]]) {
    const groups = figures[outcome];
    body("left-out").append(html("h3", {}, title), html("p", {}, groups.length ? what : none));
    if (groups.length)
      body("left-out").append(...groupTable(title, groups).filter(Boolean));
  }
}

buildSummary();
buildKeys();
buildRegret();
buildFloor();
buildLeftOut();

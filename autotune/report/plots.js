// Pictures of the report as SVG: candidates by tunable, regret, distance to the floor. Elements are made one by one and
// texts are set as texts, so nothing from a tuned file is ever read as markup.

// Makes an element: attributes, then children (elements, texts or lists of them; null is left out).
function make(space, tag, attributes, children) {
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const html = (tag, attributes, ...children) => make(null, tag, attributes, children);
const svg = (tag, attributes, ...children) => make("http://www.w3.org/2000/svg", tag, attributes, children);

const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)}\u00a0%`;
const signedPercent = (value) => `${value > 0 ? "+" : ""}${percent(value)}`;
const milliseconds = (value) => value.toFixed(value < 0.1 ? 4 : value < 10 ? 3 : value < 100 ? 2 : 1);
const grouped = (value) => value.toLocaleString("en-US");
const short = (value) =>
  value >= 1048576 && value % 1048576 === 0 ? `${value / 1048576}M` :
  value >= 1024 && value % 1024 === 0 ? `${value / 1024}k` : String(value);

// Up to 6 round values from low to high.
function ticks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const list = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) list.push(i * step);
  return { list, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// A frame with horizontal grid lines: {root, top, bottom, left, right}.
function frame(width, height, lines, label, left = 44) {
  const box = { left, right: width - 8, top: 8, bottom: height - 22 };
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const [y, text] of lines(box))
    root.append(svg("line", { class: "grid", x1: left, x2: box.right, y1: y, y2: y }),
      svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text));
  return { root, ...box };
}

// Spreads dots of one column sideways, the same way every time.
const spread = (i, width) => (((i * 0.618034 + 0.5) % 1) - 0.5) * width;

const titled = (text) => svg("title", {}, text);
const diamond = (x, y, r, attributes) =>
  svg("path", { d: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`, ...attributes });

// One small picture for each tunable that has more than one value among the timed candidates. A candidate: {values,
// words, ms, low, high, isBest, isDefault}; values by tunable, 0 is the default.
function tunablePictures(candidates) {
  const best = candidates.find((c) => c.isBest);
  if (!best || candidates.length < 2) return [];
  const names = [...new Set(candidates.flatMap((c) => Object.keys(c.values)))];
  // Few that are far behind would squeeze the rest: they stand at the upper edge.
  const sorted = candidates.map((c) => c.ms).sort((a, b) => a - b);
  const slowest = Math.max(...candidates.map((c) => c.high || c.ms)), most = sorted[Math.floor(0.9 * (sorted.length - 1))];
  const limit = slowest - best.ms > 1.5 * (most - best.ms) && most > best.ms ? most + 0.15 * (most - best.ms) : slowest;
  const fastest = Math.min(...candidates.map((c) => c.low || c.ms));
  const margin = (limit - fastest) * 0.06 || best.ms * 0.01;
  const low = fastest - margin, high = limit + margin;
  const alone = (c, name) => [best.values, {}].some((base) =>
    names.every((n) => n === name || (c.values[n] || 0) === (base[n] || 0)));
  return names.map((name) => {
    const values = [...new Set(candidates.map((c) => c.values[name] || 0))].sort((a, b) => a - b);
    if (values.length < 2) return null;
    const width = 60 + Math.max(2, values.length) * 38, height = 168;
    const { list, digits } = ticks(low, high);
    const place = (ms, box) => box.bottom - ((Math.min(ms, limit) - low) / (high - low)) * (box.bottom - box.top);
    const picture = frame(width, height, (box) => list.map((t) => [place(t, box), t.toFixed(digits)]),
      `Times in ms by ${name}`);
    const column = (picture.right - picture.left) / values.length;
    const drawn = candidates.map((c, i) => ({ c, i, solid: alone(c, name) }))
      .sort((a, b) => a.c.isBest - b.c.isBest || a.solid - b.solid);
    for (const { c, i, solid } of drawn) {
      const at = values.indexOf(c.values[name] || 0);
      const middle = picture.left + column * (at + 0.5);
      const x = solid ? middle : middle + spread(i, column * 0.7);
      const y = place(c.ms, picture), faint = solid ? "" : " other", beyond = c.ms > limit;
      const title = titled(`${c.words}: ${milliseconds(c.ms)} ms (${milliseconds(c.low)}–${milliseconds(c.high)})` +
        `${beyond ? ", beyond the scale" : ""}`);
      const group = svg("g", {}, title);
      if (!beyond && c.low > 0)
        group.append(svg("line", { class: `whisker${c.isBest ? " winner" : faint}`, x1: x, x2: x, y1: place(c.low, picture),
          y2: place(c.high, picture) }));
      if (c.isBest) group.append(diamond(x, y, 5.5, { class: "winner" }));
      else if (beyond) group.append(svg("path", { class: `point${faint}`, d: `M${x} ${y - 4}l4 7h-8Z` }));
      else group.append(svg("circle", { class: c.isDefault ? "hollow" : `point${faint}`, cx: x, cy: y, r: c.isDefault ? 3.6 : 2.8 }));
      picture.root.append(group);
    }
    values.forEach((value, i) => picture.root.append(svg("text", { class: best.values[name] === value ||
      (!best.values[name] && !value) ? "strong" : null, x: picture.left + column * (i + 0.5), y: height - 7,
      "text-anchor": "middle" }, value ? grouped(value) : "default")));
    return html("figure", {}, html("figcaption", {}, html("code", {}, name)), picture.root);
  }).filter(Boolean);
}

const mark = (draw) => svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, draw);
// What the marks of tunablePictures mean.
function tunableLegend() {
  const item = (draw, words) => html("span", { class: "legend" }, mark(draw), words);
  return html("p", { class: "soft" },
    item(diamond(0, 0, 5.5, { class: "winner" }), "winner"),
    item(svg("circle", { class: "hollow", r: 3.6 }), "default"),
    item(svg("circle", { class: "point", r: 2.8 }), "differs from winner or default in this tunable alone"),
    item(svg("circle", { class: "point other", r: 2.8 }), "differs in others too"),
    item(svg("path", { class: "point", d: "M0 -4l4 7h-8Z" }), "slower than the scale shows"));
}

// Sorted dots: points of {value, key, words}, on a scale that is even up to 1 % and logarithmic above.
function regretPicture(points, middle, highest, label, open) {
  const bent = (r) => Math.sign(r) * Math.log2(1 + 100 * Math.abs(r));
  const lowest = Math.min(0, ...points.map((p) => p.value));
  const low = bent(lowest), high = bent(Math.max(0.05, highest));
  const lines = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100].filter((r) => bent(r) <= high * 1.02);
  if (lowest < -0.005) lines.unshift(-0.01);
  const place = (r, box) => box.bottom - ((bent(r) - low) / (high - low)) * (box.bottom - box.top);
  const width = 380, height = 210;
  const picture = frame(width, height, (box) => lines.map((r) => [place(r, box), percent(r, 0)]), label);
  const sorted = [...points].sort((a, b) => a.value - b.value);
  const step = (picture.right - picture.left) / sorted.length;
  const radius = Math.max(1.8, Math.min(4, step * 0.45));
  if (middle !== null) {
    const y = place(middle, picture);
    picture.root.append(svg("line", { class: "median", x1: picture.left, x2: picture.right, y1: y, y2: y }));
  }
  sorted.forEach((p, i) => picture.root.append(svg("circle", { class: "point opens", r: radius,
    cx: (picture.left + step * (i + 0.5)).toFixed(1), cy: place(p.value, picture).toFixed(1), click: () => open(p.key) },
    titled(`${p.words}: ${signedPercent(p.value)}`))));
  picture.root.append(svg("text", { x: picture.left, y: height - 6 }, "keys, sorted"));
  return picture.root;
}

// Dots by tokens, and within them by overlap: points of {tokens, overlap, share, key, words}.
function floorPicture(points, top, label, open) {
  const by = (list, name) => [...new Set(list.map((p) => p[name]))].sort((a, b) => a - b);
  const columns = by(points, "tokens").map((tokens) => {
    const here = points.filter((p) => p.tokens === tokens);
    return { tokens, parts: by(here, "overlap").map((overlap) => [overlap, here.filter((p) => p.overlap === overlap)]) };
  });
  const overlaps = columns.some((c) => c.parts.some(([overlap]) => overlap > 0));
  const slot = 30, gap = 14;
  const count = columns.reduce((sum, c) => sum + c.parts.length, 0);
  const width = Math.max(150, 52 + count * slot + columns.length * gap), height = overlaps ? 220 : 204;
  const box0 = height - (overlaps ? 42 : 24);
  const place = (share) => box0 - (share / top) * (box0 - 8);
  const lines = [];
  for (let share = 0; share <= top + 1e-9; share += 0.25) lines.push([place(share), percent(share, 0)]);
  const picture = frame(width, height, () => lines, label);
  if (overlaps)
    picture.root.append(svg("text", { class: "tiny", x: picture.left - 6, y: box0 + 18, "text-anchor": "end" }, "overlap"));
  picture.root.append(svg("text", { class: "tiny", x: picture.left - 6, y: height - 7, "text-anchor": "end" }, "tokens"));
  let x = picture.left + gap / 2;
  for (const { tokens, parts } of columns) {
    const begin = x;
    for (const [overlap, here] of parts) {
      const middle = x + slot / 2;
      here.forEach((p, i) => picture.root.append(svg("circle", { class: "point opens", r: 3, opacity: 0.75,
        cx: (middle + (here.length > 1 ? spread(i, slot * 0.6) : 0)).toFixed(1), cy: place(p.share).toFixed(1),
        click: () => open(p.key) }, titled(`${p.words}: ${percent(p.share)} of the floor`))));
      const values = here.map((p) => p.share).sort((a, b) => a - b), half = values.length >> 1;
      const y = place(values.length % 2 ? values[half] : (values[half - 1] + values[half]) / 2);
      if (here.length > 2)
        picture.root.append(svg("line", { class: "median", x1: x + 4, x2: x + slot - 4, y1: y, y2: y }));
      if (overlaps)
        picture.root.append(svg("text", { class: "tiny", x: middle, y: box0 + 18, "text-anchor": "middle" },
          overlap ? String(overlap) : "–"));
      x += slot;
    }
    picture.root.append(svg("text", { class: "strong", x: (begin + x) / 2, y: height - 7, "text-anchor": "middle" },
      short(tokens)));
    x += gap;
  }
  return picture.root;
}

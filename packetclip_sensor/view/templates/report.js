"use strict";
// All that comes from alerts is written as text or as an attribute named here, never as markup: trusted types forbid it anyway.
const PAGE = 100, MOST_BARS = 250, BINS = 80, MINUTE = 60;
const $ = id => document.getElementById(id);
const parts = new Map();
let missions = [], slugs = {}, rows = [], graphs = {}, partSize = 1, shown = [], limit = PAGE, openAt = new Set();
const view = {find: "", missions: new Set(), other: true, class: "", level: 0, sort: "first", down: true, from: null, to: null};

async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function panel(i) {
  const n = Math.floor(i / partSize);
  if (!parts.has(n)) parts.set(n, unpack("part" + n));
  return parts.get(n).then(list => list[i - n * partSize]);
}

// el("td.num", {title: "x"}, child, "text", ...)
function el(name, ...inside) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  return fill(node, inside);
}

function svg(tag, attributes, ...inside) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return fill(node, inside);
}

function fill(node, inside) {
  for (const part of inside.flat()) {
    if (part === null || part === undefined || part === "") continue;
    if (part instanceof Node || typeof part === "string") node.append(part);
    else for (const [key, value] of Object.entries(part)) {
      if (key === "click") node.addEventListener("click", value);
      else node.setAttribute(key, value);
    }
  }
  return node;
}

function link(words, address) {
  return /^https?:\/\//.test(address) ? el("a", {href: address, rel: "noreferrer noopener", target: "_blank"}, words) : words;
}

// --- table ---

function choose() {
  const words = view.find.toLowerCase().split(/\s+/).filter(Boolean);
  shown = [];
  for (let i = 0; i < rows.length; i++) {
    const r = rows[i];
    if (!(Object.hasOwn(slugs, r.mission) ? view.missions.has(r.mission) : view.other)) continue;
    if (view.class && r.class !== view.class) continue;
    if (r.severity < view.level) continue;
    if (view.from !== null && (r.last < view.from || r.first >= view.to)) continue;
    if (words.every(word => r.find.includes(word))) shown.push(i);
  }
  const key = view.sort, way = view.down ? -1 : 1;
  shown.sort((a, b) => {
    const x = rows[a][key], y = rows[b][key];
    return (x < y ? -way : x > y ? way : 0) || a - b;
  });
}

function draw() {
  const begin = performance.now();
  choose();
  const body = document.querySelector("#episodes tbody");
  body.replaceChildren(...shown.slice(0, limit).flatMap(row));
  for (const button of document.querySelectorAll("[data-sort]")) {
    const own = button.dataset.sort === view.sort;
    button.closest("th").setAttribute("aria-sort", own ? (view.down ? "descending" : "ascending") : "none");
  }
  const left = shown.length - limit;
  $("more").replaceChildren(...(left > 0 ? [el("button", {type: "button", click: () => { limit += PAGE * 5; draw(); }},
    `Show ${Math.min(left, PAGE * 5).toLocaleString("en")} more of ${left.toLocaleString("en")}`)] : []));
  const said = [`${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} episodes`];
  if (view.from !== null) said.push(` between ${clock(view.from)} and ${clock(view.to)} `,
    el("button.small", {type: "button", click: () => { view.from = view.to = null; draw(); }}, "all times"));
  $("said").replaceChildren(...said);
  timeline();
  document.documentElement.dataset.filterMs = (performance.now() - begin).toFixed(1);
}

function row(i) {
  const r = rows[i], open = openAt.has(i);
  const line = el(`tr.${r.slug}.line`, {id: `e${i}`},
    el("td.keep", {"data-head": "Time"}, el("button.open", {type: "button", "aria-expanded": String(open), click: () => toggle(i)}, r.when)),
    el("td", {"data-head": "Mission"}, el("span.badge", r.mission || "none"), " ", el("span.class", r.class)),
    el("td", {"data-head": "Severity"}, el(`span.level.${r.level || "none"}`, r.level || "none")),
    el("td.num", {"data-head": "Probability"}, Math.min(r.probability, 0.999).toFixed(3)),
    el("td.hosts", {"data-head": "Hosts"}, r.source + " ", el("br"), "→ " + r.destination),
    el("td.num", {"data-head": "Packets"}, r.packets.toLocaleString("en")),
    el("td.reason", {"data-head": ""}, r.reason));
  line.addEventListener("click", event => { if (!event.target.closest("button, a") && !String(getSelection())) toggle(i); });
  return open ? [line, detail(i)] : [line];
}

function detail(i) {
  const cell = el("td", {colspan: "7"}, el("p.soft", "…"));
  const line = el(`tr.${rows[i].slug}.detail`, cell);
  panel(i).then(p => cell.replaceChildren(why(rows[i], p)), err => cell.replaceChildren(el("p", `cannot be unpacked: ${err}`)));
  return line;
}

function toggle(i) {
  const line = $(`e${i}`);
  if (openAt.delete(i)) { if (line) line.nextElementSibling.remove(); }
  else { openAt.add(i); if (line) line.after(detail(i)); }
  if (line) line.querySelector(".open").setAttribute("aria-expanded", String(openAt.has(i)));
}

function reveal(i) {
  if (!shown.includes(i)) { view.from = view.to = null; $("filters").reset(); changed(); }
  const at = shown.indexOf(i);
  if (at >= limit) { limit = at + 1; draw(); }
  if (!openAt.has(i)) toggle(i);
  $(`e${i}`).scrollIntoView({block: "start"});
}

// --- one episode ---

function why(r, p) {
  const hosts = el("dl", p.meta.flatMap(([name, value]) => [el("dt", name), el("dd", value)]),
    r.level ? [el("dt", "Severity"), el("dd", r.level)] : [],
    p.technique[0] ? [el("dt", "ATT&CK"), el("dd", link(p.technique[0], p.technique[2]), " " + p.technique[1])] : [],
    p.uids.length ? [el("dt", /^\d/.test(p.uids[0][0]) ? "Suricata flow ids" : "Zeek uids"), el("dd", p.uids.flatMap(([uid, address]) => [uidButton(uid), address ? link(" ↗", address) : "", " "]))] : []);
  return el("div.body",
    el("h2", r.title), el("p.said", r.reason),
    el("div.two",
      el("div", el("h3", "Episode"), hosts,
        p.seen.length ? [el("h3", "Seen before, on this page"), el("ul.texts", p.seen.map(([name, words]) => el("li", name + ": ", el("span.soft", words))))] : [],
        el("h3", "Missions"), bars(p.missions, "tone"), el("h3", "Nearest classes"), bars(p.classes, "tone")),
      el("div", el("h3", p.concepts.some(c => c[4]) || !p.concepts.length ? "Concepts that weigh most" : "Concepts, by loss of probability (older sensor)"), bars(p.concepts, "for"),
        p.graphs.length ? [el("h3", "Graphs, each removed whole"), bars(p.graphs, "for")] : [],
        p.texts.length ? [el("h3", "Nearest texts"), el("ol.texts", p.texts.map(([text, cosine]) => el("li", text + " ", el("span.soft", cosine))))] : [])),
    p.steps.length ? el("div", el("h3", "Next steps"), p.steps.map(([title, words]) => step(title, words))) : "",
    p.paths.length ? el("details.experts", el("summary", "For experts: the knowledge graph and its active paths"), networks(p)) : "",
    p.evidence.length ? el("div", el("h3", "Packets that weigh most"),
      p.capture ? el("p", el("button.small", {type: "button", click: () => save(p.capture, `${r.id || "evidence"}.pcapng`)}, "Save as a capture (pcapng)")) : "",
      p.evidence.map((e, at) => packet(e, at === 0))) : "",
    el("div.two",
      p.facts.length ? el("div", el("h3", "Measured facts of the window"), table(p.facts)) : "",
      p.flow || p.columns.length ? el("div", el("h3", "Flow"), p.flow ? el("p", p.flow) : "", table(p.columns)) : ""));
}

function step(title, words) {
  const text = el("pre.copy", words), button = el("button.small", {type: "button", click: async () => {
    getSelection().selectAllChildren(text);
    // A page from a server without TLS may not write to the clipboard: there the selection is copied.
    const done = await (navigator.clipboard ? navigator.clipboard.writeText(words) : Promise.reject()).then(() => true, () => document.execCommand("copy"));
    button.textContent = done ? "Copied" : "Selected: copy by keyboard";
  }}, "Copy");
  return el("div.step", el("p", title, " ", button), text);
}

function save(hex, name) {
  const address = URL.createObjectURL(new Blob([Uint8Array.from(hex.match(/../g), pair => parseInt(pair, 16))]));
  el("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

function uidButton(uid) {
  const others = rows.filter(r => r.find.includes(uid.toLowerCase())).length;
  return el("button.small", {type: "button", title: "show the episodes with this uid", click: () => { $("find").value = view.find = uid; limit = PAGE; draw(); }},
    others > 1 ? `${uid} (${others})` : uid);
}

function bars(items, tone) {
  return el("table.bars", items.map(([name, text, share, against, graph]) => {
    const bar = el("div." + (against ? "against" : tone));
    bar.style.width = `${(100 * share).toFixed(1)}%`;
    return el("tr", el("td", name, graph ? el("span.of", " " + graph) : ""), el("td.num", text), el("td.track", bar));
  }));
}

function table(items) {
  return el("ul.facts", items.map(([name, value]) => el("li", el("span", name), el("span", value))));
}

function networks(p) {
  const names = [...new Set(p.paths.map(path => path[0]))];
  return names.map(name => {
    const own = p.paths.filter(path => path[0] === name);
    const fits = layout => layout && own.every(([, nodes]) => nodes.every(node => layout[2].some(n => n[0] === node)));
    const layout = fits(graphs[name]) ? graphs[name] : p.drawn[name];
    return el("figure", layout ? network(layout, own, p.concepts.filter(c => !c[4] || c[4] === name)) : "",
      el("figcaption", name ? el("b", `${name}: `) : "", own.map(([, nodes, share]) => el("div", nodes.join(" → ") + " ", el("b", share)))));
  });
}

function network([width, height, nodes, edges], own, concepts) {
  const place = new Map(nodes.map((node, i) => [node[0], i])), flow = new Map(), on = new Set();
  for (const [, path, , share] of own) path.forEach((name, i) => {
    on.add(name);
    if (i) flow.set(`${path[i - 1]}\n${name}`, (flow.get(`${path[i - 1]}\n${name}`) || 0) + Math.abs(share));
  });
  const most = Math.max(...flow.values(), 1e-9), weights = new Map(concepts.map(c => [c[0], c]));
  const curve = (a, b) => { const m = (a[1] + b[1]) / 2; return `M${a[1]} ${a[2]}C${m} ${a[2]} ${m} ${b[2]} ${b[1]} ${b[2]}`; };
  const faint = edges.map(([a, b]) => curve(nodes[a], nodes[b])).join("");
  const active = [...flow].filter(([pair]) => pair.split("\n").every(n => place.has(n))).sort((x, y) => x[1] - y[1]).map(([pair, share]) => {
    const [a, b] = pair.split("\n");
    return svg("path", {class: "edge", d: curve(nodes[place.get(a)], nodes[place.get(b)]), "stroke-width": (1.5 + 5 * share / most).toFixed(2)},
      svg("title", {}, `${a} → ${b}: ${share.toFixed(3)}`));
  });
  const drawn = nodes.map(([name, x, y]) => {
    const c = weights.get(name), end = name === "sensor" || name === "embedding";
    const kind = [end ? "end" : "", on.has(name) ? "on" : "", c ? (c[3] ? "con" : "pro") : ""].filter(Boolean).join(" ");
    const words = name.length > 16 ? name.slice(0, 15) + "…" : name;
    return svg("g", {class: "node " + kind}, svg("rect", {x: x - 57, y: y - 10, width: 114, height: 20, rx: 10}),
      svg("text", {x, y}, words, svg("title", {}, name + (c ? `: ${c[1]}` : ""))));
  });
  const label = own.map(([, path, share]) => `${path.join(" to ")} ${share}`).join("; ");
  return el("div.scroll", svg("svg", {class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label},
    svg("path", {class: "faint", d: faint}), active, drawn));
}

function packet(e, first) {
  const marks = [], dump = el("pre.hex"), bytes = e.data.match(/../g) || [];
  const mark = (on, at) => { for (const node of marks[at] || []) node.classList.toggle("lit", on); };
  const owner = [], per = innerWidth > 820 ? 16 : 8;
  e.fields.forEach(([start, end], at) => { for (let b = start; b < end; b++) owner[b] = at; });
  for (let line = 0; line < bytes.length; line += per) {
    const hex = el("span"), chars = el("span");
    for (let start = line; start < Math.min(line + per, bytes.length);) {
      let end = start;
      while (end < Math.min(line + per, bytes.length) && owner[end] === owner[start]) end++;
      const at = owner[start], field = e.fields[at] || [0, 0, "payload", "", ""], part = ["ip", "transport", "payload"].includes(field[2]) ? field[2] : "payload";
      const own = bytes.slice(start, end), title = `${field[3]}: ${field[4]}`;
      const one = el(`span.${part}`, {title}, own.join(" ")), two = el(`span.${part}`, {title}, own.map(printed).join(""));
      for (const node of [one, two]) {
        (marks[at] = marks[at] || []).push(node);
        node.addEventListener("pointerenter", () => mark(true, at));
        node.addEventListener("pointerleave", () => mark(false, at));
      }
      hex.append(one, " ");
      chars.append(two);
      start = end;
    }
    const missing = per - Math.min(per, bytes.length - line);
    dump.append(el("span.off", line.toString(16).padStart(4, "0")), "  ", hex, " ".repeat(3 * missing + 1), chars, "\n");
  }
  const named = el("table.fields", e.fields.map(([start, end, part, name, value], at) => {
    const line = el("tr", el("td.off", end - start > 1 ? `${start}–${end - 1}` : String(start)), el(`td.${part === "ip" || part === "transport" ? part : "payload"}`, name), el("td", value));
    (marks[at] = marks[at] || []).push(line);
    line.addEventListener("pointerenter", () => mark(true, at));
    line.addEventListener("pointerleave", () => mark(false, at));
    return line;
  }));
  return el("div.packet", el("p", el("b", e.weight), " " + e.headline, el("br"), el("span.soft", e.reason + (e.cut ? `, ${e.cut}` : ""))),
    bytes.length ? el("div.bytes", el("div.scroll", dump), el("details", first ? {open: ""} : "", el("summary", `${e.fields.length} fields`), named)) : "");
}

function printed(pair) {
  const code = parseInt(pair, 16);
  return code >= 32 && code < 127 ? String.fromCharCode(code) : ".";
}

// --- time ---

function clock(ts) {
  const date = new Date(ts * 1000);
  return isNaN(date) ? "?" : date.toISOString().slice(0, 19).replace("T", " ");
}

function timeline() {
  const width = Math.max(320, $("timeline").clientWidth - 36), label = width < 640 ? 104 : 118, lane = 30, room = width - label - 12;
  const height = 24 + lane * missions.length;
  const some = shown.length ? shown : rows.map((_, i) => i);
  let begin = Infinity, end = -Infinity;
  for (const i of some) { begin = Math.min(begin, rows[i].first); end = Math.max(end, rows[i].last); }
  const span = Math.max(end - begin, 1), x = ts => label + room * (ts - begin) / span;
  const picture = svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Episodes over time, by mission"});
  const step = [1, 2, 5, 10, 15, 30].flatMap(n => [n]).concat([1, 2, 5, 10, 15, 30].map(n => n * MINUTE), [1, 2, 3, 6, 12].map(n => n * 3600), [1, 2, 7, 14, 30, 90, 365].map(n => n * 86400))
    .find(s => room / (span / s) >= 92) || span;
  for (let ts = Math.ceil(begin / step) * step, n = 0; ts <= end && n < 40; ts += step, n++) {
    const words = span > 2 * 86400 ? clock(ts).slice(5, 16) : step < MINUTE ? clock(ts).slice(11) : clock(ts).slice(11, 16);
    picture.append(svg("line", {class: "axis", x1: x(ts), x2: x(ts), y1: 2, y2: height - 20}), svg("text", {class: "tick", x: Math.min(Math.max(x(ts), label), width - 32), y: height - 5}, words));
  }
  missions.forEach((mission, at) => {
    const y = 15 + at * lane;
    picture.append(svg("line", {class: "axis", x1: label, x2: width, y1: y, y2: y}), svg("text", {x: 0, y: y + 4}, mission));
  });
  const lanes = i => Math.max(0, missions.indexOf(rows[i].mission));
  if (shown.length <= MOST_BARS) {
    for (const i of shown) {
      const r = rows[i], x1 = x(r.first);
      picture.append(svg("rect", {class: `bar ${r.slug}`, x: Math.min(x1, width - 5), y: 6 + lanes(i) * lane, width: Math.max(5, x(r.last) - x1).toFixed(1), height: 18, rx: 3, tabindex: 0, role: "link", click: () => reveal(i)},
        svg("title", {}, `${r.when} ${r.title}`)));
    }
  } else {
    const counts = missions.map(() => new Uint32Array(BINS));
    for (const i of shown) counts[lanes(i)][Math.min(BINS - 1, Math.floor(BINS * (rows[i].first - begin) / span))]++;
    const most = Math.max(...counts.map(c => Math.max(...c)));
    counts.forEach((own, at) => own.forEach((count, bin) => {
      if (!count) return;
      const tall = Math.max(3, 24 * Math.sqrt(count / most)), from = begin + span * bin / BINS, to = from + span / BINS;
      picture.append(svg("rect", {class: `bar ${slugs[missions[at]]}`, x: x(from).toFixed(1), y: (15 + at * lane - tall / 2).toFixed(1), width: Math.max(2, room / BINS - 1).toFixed(1), height: tall.toFixed(1), rx: 2, click: () => { view.from = from; view.to = to; limit = PAGE; draw(); }},
        svg("title", {}, `${count.toLocaleString("en")} ${missions[at]} from ${clock(from)}`)));
    }));
  }
  $("timeline").replaceChildren(picture);
}

// --- start ---

function changed() {
  view.find = $("find").value;
  view.missions = new Set([...document.querySelectorAll("[name=mission]:checked")].map(box => box.value));
  view.other = view.missions.size > 0;
  view.class = $("class").value;
  view.level = Number($("level").value);
  limit = PAGE;
  draw();
}

function listen() {
  const form = $("filters");
  form.addEventListener("input", changed);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => { view.from = view.to = null; setTimeout(changed); });
  for (const button of document.querySelectorAll("[data-sort]")) button.addEventListener("click", () => {
    const key = button.dataset.sort;
    view.down = view.sort === key ? !view.down : ["first", "severity", "probability", "packets"].includes(key);
    view.sort = key;
    draw();
  });
  let last = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== last) { last = innerWidth; timeline(); } });
}

// #find=words&sort=packets&down=1&level=73&open=e3: a view that can be kept as a bookmark.
async function start() {
  const index = await unpack("index");
  rows = index.rows; graphs = index.graphs; partSize = index.part;
  missions = index.missions.map(([name]) => name); slugs = Object.fromEntries(index.missions); view.missions = new Set(missions);
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.get("find")) $("find").value = view.find = asked.get("find");
  if (asked.get("level")) { $("level").value = asked.get("level"); view.level = Number($("level").value); }
  if (document.querySelector(`[data-sort="${CSS.escape(asked.get("sort") || "")}"]`)) view.sort = asked.get("sort");
  if (asked.has("sort") || asked.has("down")) view.down = asked.get("down") === "1";
  listen();
  draw();
  const at = rows.findIndex((r, i) => `e${i}` === asked.get("open") || (r.id && r.id === asked.get("open")));
  if (at >= 0) reveal(at);
  else if (rows.length === 1) toggle(0);
  document.documentElement.dataset.readyMs = performance.now().toFixed(0);
}
start().catch(err => { $("said").textContent = `This page could not be drawn (${err}); a browser of 2023 or later is needed.`; });

"use strict";
// The interactive region scatter: hover (or walk with the arrow keys) to see a run's trajectory, click to keep it.
(() => {
  const data = JSON.parse(document.getElementById("scatter-data").textContent);
  const root = document.getElementById("scatter");
  if (!root || !data.panels.length) return;
  const plot = root.querySelector(".scatter-plot"), details = root.querySelector(".scatter-details");
  const panelMenu = root.querySelector("#scatter-panel"), allBox = root.querySelector("#scatter-all");
  const axisMenus = [root.querySelector("#scatter-x"), root.querySelector("#scatter-y")];
  const W = 640, H = 500, EDGE = { left: 64, right: 14, top: 14, bottom: 52 }, REACH = 22;
  const state = { panel: data.panels[0], axes: [0, 1], run: null, pinned: false, marks: new Map() };

  function node(name, attributes, parent, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }
  function html(name, parent, text, cls) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (cls) made.className = cls;
    if (parent) parent.appendChild(made);
    return made;
  }
  const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const short = (value) => value === null || value === undefined ? "–" : String(Number(value.toPrecision(3))).replace("-", "−");
  function ticks(low, high, about) {
    const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const digits = Math.min(6, Math.max(0, ...[0, 1, 2, 3, 4, 5, 6].filter((d) => Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) > 1e-6).map((d) => d + 1)));
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) {
      found.push({ at: i * step, text: (i * step).toFixed(digits).replace("-", "−") });
    }
    return found;
  }
  function line(xs, ys, sx, sy) {
    let path = "", pen = "M";
    xs.forEach((x, i) => {
      if (x === null || ys[i] === null) { pen = "M"; return; }
      path += `${pen}${sx(x).toFixed(1)} ${sy(ys[i]).toFixed(1)}`;
      pen = "L";
    });
    return path;
  }
  function axes(svg, sx, sy, box, [width, height], labels) {
    const [[x0, x1], [y0, y1]] = box, group = node("g", { class: "axes" }, svg), tall = height > 300;
    node("rect", { x: sx(x0), y: sy(y1), width: sx(x1) - sx(x0), height: sy(y0) - sy(y1), class: "frame" }, group);
    for (const t of ticks(x0, x1, tall ? 6 : 4)) {
      node("line", { x1: sx(t.at), x2: sx(t.at), y1: sy(y0), y2: sy(y0) + 5 }, group);
      node("text", { x: sx(t.at), y: sy(y0) + 18, "text-anchor": "middle" }, group, t.text);
    }
    for (const t of ticks(y0, y1, tall ? 6 : 3)) {
      node("line", { x1: sx(x0) - 5, x2: sx(x0), y1: sy(t.at), y2: sy(t.at) }, group);
      node("text", { x: sx(x0) - 8, y: sy(t.at) + 4, "text-anchor": "end" }, group, t.text);
    }
    if (labels[0]) node("text", { x: (sx(x0) + sx(x1)) / 2, y: height - 10, "text-anchor": "middle", class: "label" }, group, labels[0]);
    if (labels[1]) node("text", { transform: `translate(15 ${(sy(y0) + sy(y1)) / 2}) rotate(-90)`, "text-anchor": "middle", class: "label" }, group, labels[1]);
  }
  // A run that ends on the edge of the box is stuck at a clamp: a square, not a disc.
  function endMark(run, x, y, clamped, parent) {
    const cls = `end ${run.inside[1] === null ? "unknown" : run.inside[1] ? "inside" : "outside"}`;
    return clamped ? node("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, class: cls }, parent)
      : node("circle", { cx: x, cy: y, r: 5, class: cls }, parent);
  }

  function draw() {
    // With one hyperparameter the second axis is the training step.
    const { panel } = state, [a, b] = state.axes, flat = panel.names.length === 1;
    const steps = (run) => panel.step_lists[run.steps], last = (run) => steps(run)[steps(run).length - 1];
    const box = [panel.box[a], flat ? [0, Math.max(1, ...panel.runs.map(last))] : panel.box[b]];
    const sx = scale(...box[0], EDGE.left, W - EDGE.right), sy = scale(...box[1], H - EDGE.bottom, EDGE.top);
    const second = (run, which) => flat ? which * last(run) : run[which === 0 ? "start" : "end"][b];
    plot.replaceChildren();
    const svg = node("svg", { viewBox: `0 0 ${W} ${H}`, role: "application", tabindex: "0",
      "aria-label": "Starts and ends of the runs; use the arrow keys to walk through them" }, plot);
    for (const [low, high] of flat ? panel.bands : []) {
      node("rect", { x: sx(low), y: sy(box[1][1]), width: sx(high) - sx(low), height: sy(box[1][0]) - sy(box[1][1]), class: "band" }, svg);
    }
    const surface = panel.surfaces.find((s) => s.axes[0] === a && s.axes[1] === b);
    if (surface) {
      node("image", { href: surface.image, x: sx(box[0][0]), y: sy(box[1][1]), width: sx(box[0][1]) - sx(box[0][0]),
        height: sy(box[1][0]) - sy(box[1][1]), preserveAspectRatio: "none" }, svg);
      for (const ring of surface.outline) {
        const path = line(ring[0], ring[1], sx, sy);
        node("path", { d: path, class: "region halo" }, svg);
        node("path", { d: path, class: "region" }, svg);
      }
    }
    axes(svg, sx, sy, box, [W, H], [panel.labels[a], flat ? "step" : panel.labels[b]]);
    const groups = node("g", { class: allBox.checked ? "runs" : "runs quiet" }, svg);
    state.marks = new Map();
    for (const run of panel.runs) {
      const group = node("g", { class: "run", "data-run": run.id }, groups);
      node("path", { d: line(run.path[a], flat ? steps(run) : run.path[b], sx, sy), class: "trajectory" }, group);
      const points = [];
      if (run.start[a] !== null && second(run, 0) !== null) {
        points.push([sx(run.start[a]), sy(second(run, 0))]);
        node("circle", { cx: points[0][0], cy: points[0][1], r: 4, class: "start" }, group);
      }
      if (run.end[a] !== null && second(run, 1) !== null) {
        const at = [sx(run.end[a]), sy(second(run, 1))];
        points.push(at);
        endMark(run, at[0], at[1], run.clamped[a] || (!flat && run.clamped[b]), group);
      }
      state.marks.set(run.id, { group, points, run });
    }
    svg.addEventListener("pointermove", (event) => { if (!state.pinned) select(nearest(svg, event)); });
    svg.addEventListener("pointerleave", () => { if (!state.pinned) select(null); });
    svg.addEventListener("click", (event) => { const run = nearest(svg, event); state.pinned = run !== null; select(run); });
    svg.addEventListener("keydown", walk);
    root.querySelector(".scatter-note").textContent = panel.note;
    select(null);
  }
  function nearest(svg, event) {
    const place = svg.getBoundingClientRect(), x = (event.clientX - place.left) * W / place.width;
    const y = (event.clientY - place.top) * H / place.height;
    let best = null, least = REACH ** 2;
    for (const { points, run } of state.marks.values()) {
      for (const [px, py] of points) {
        const far = (px - x) ** 2 + (py - y) ** 2;
        if (far < least) { least = far; best = run; }
      }
    }
    return best;
  }
  function walk(event) {
    const runs = state.panel.runs, at = runs.indexOf(state.run);
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (move) { event.preventDefault(); state.pinned = true; select(runs[(at + move + runs.length + (at < 0 && move < 0 ? 1 : 0)) % runs.length]); }
    if (event.key === "Escape") { state.pinned = false; select(null); }
  }
  function select(run) {
    if (state.run === run && details.childElementCount) return;
    state.run = run;
    const svg = plot.querySelector("svg");
    svg.classList.toggle("focused", run !== null);
    for (const { group } of state.marks.values()) group.classList.remove("selected");
    if (run !== null) {
      const { group } = state.marks.get(run.id);
      group.classList.add("selected");
      group.parentNode.appendChild(group);
    }
    describe(run);
  }
  function describe(run) {
    const { panel } = state, steps = run === null ? [] : panel.step_lists[run.steps];
    details.replaceChildren();
    if (run === null) {
      html("p", details, "Hover a start or an end to see the run's trajectory; click to keep it. With the keyboard: focus the picture, then the arrow keys; Escape lets go.", "hint");
      return;
    }
    html("h4", details, run.title);
    const table = html("table", details), head = html("tr", html("thead", table));
    for (const title of ["", "start", "end"]) html("th", head, title);
    const body = html("tbody", table);
    const row = (cells) => { const tr = html("tr", body); cells.forEach((c, i) => html(i ? "td" : "th", tr, c)); };
    panel.labels.forEach((label, i) => row([label, short(run.start[i]), short(run.end[i]) + (run.clamped[i] ? " (clamp)" : "")]));
    if (run.inside[0] !== null) row(["in the optimal region", run.inside[0] ? "yes" : "no", run.inside[1] === null ? "–" : run.inside[1] ? "yes" : "no"]);
    html("p", details, "Loss after training", "caption");
    const losses = html("table", details), top = html("tr", html("thead", losses));
    for (const title of ["arm", "T2", "test"]) html("th", top, title);
    const rows = html("tbody", losses);
    for (const [arm, t2, test, status] of run.arms) {
      const tr = html("tr", rows);
      html("th", tr, arm);
      if (status === "completed") { html("td", tr, short(t2)); html("td", tr, short(test)); }
      else html("td", tr, status).colSpan = 2;
    }
    if (steps.length > 1) {
      panel.labels.forEach((label, i) => mini(label, steps, run.path[i], panel.box[i]));
      const known = run.t2_path.filter((v) => v !== null);
      if (known.length > 1) mini("T2 loss, online", steps, run.t2_path, [Math.min(...known), Math.max(...known)]);
    }
  }
  function mini(label, steps, values, range) {
    const w = 300, h = 92;
    html("p", details, `${label} over the steps`, "caption");
    const svg = node("svg", { viewBox: `0 0 ${w} ${h}`, class: "mini" }, details);
    const [low, high] = range[0] === range[1] ? [range[0] - 1, range[1] + 1] : range;
    const sx = scale(steps[0], steps[steps.length - 1], 46, w - 20), sy = scale(low, high, h - 24, 6);
    axes(svg, sx, sy, [[steps[0], steps[steps.length - 1]], [low, high]], [w, h], []);
    node("path", { d: line(steps, values, sx, sy), class: "series" }, svg);
  }
  function menu(select, options, chosen) {
    select.replaceChildren();
    options.forEach((text, i) => { const o = html("option", select, text); o.value = i; o.selected = i === chosen; });
  }
  function choosePanel() {
    state.panel = data.panels[Number(panelMenu.value)];
    state.axes = state.panel.names.length > 1 ? [0, 1] : [0, 0];
    state.pinned = false;
    axisMenus.forEach((select, i) => {
      menu(select, state.panel.labels, state.axes[i]);
      select.parentNode.hidden = state.panel.names.length < 3;
    });
    draw();
  }
  menu(panelMenu, data.panels.map((p) => p.title), 0);
  panelMenu.parentNode.hidden = data.panels.length < 2;
  panelMenu.addEventListener("change", choosePanel);
  axisMenus.forEach((select, i) => select.addEventListener("change", () => { state.axes[i] = Number(select.value); state.pinned = false; draw(); }));
  allBox.addEventListener("change", draw);
  root.hidden = false;
  choosePanel();
})();

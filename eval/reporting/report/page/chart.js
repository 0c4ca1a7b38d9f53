// The trade-off: a line a method, a point a strength, with intervals; what is published is hollow.
"use strict";

Report.chart = (() => {
  const { make, find, format, view } = Report;
  const MARGIN = { left: 58, right: 18, top: 12, bottom: 46 };
  const FAR = 3; // times the range of the methods, beyond which a bound would squeeze them into a corner
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const SHAPES = {
    circle: (s) => `M${-s} 0A${s} ${s} 0 1 0 ${s} 0A${s} ${s} 0 1 0 ${-s} 0Z`,
    square: (s) => `M${-s * 0.9} ${-s * 0.9}H${s * 0.9}V${s * 0.9}H${-s * 0.9}Z`,
    triangle: (s) => `M0 ${-s * 1.2}L${s * 1.1} ${s * 0.8}H${-s * 1.1}Z`,
    diamond: (s) => `M0 ${-s * 1.3}L${s * 1.1} 0L0 ${s * 1.3}L${-s * 1.1} 0Z`,
    down: (s) => `M0 ${s * 1.2}L${s * 1.1} ${-s * 0.8}H${-s * 1.1}Z`,
    cross: (s) => `M${-s} ${-s / 3}H${-s / 3}V${-s}H${s / 3}V${-s / 3}H${s}V${s / 3}H${s / 3}V${s}H${-s / 3}V${s / 3}H${-s}Z`,
    hexagon: (s) => `M${-s} 0L${-s / 2} ${-s}H${s / 2}L${s} 0L${s / 2} ${s}H${-s / 2}Z`,
    left: (s) => `M${-s * 1.2} 0L${s * 0.8} ${-s * 1.1}V${s * 1.1}Z`,
    right: (s) => `M${s * 1.2} 0L${-s * 0.8} ${-s * 1.1}V${s * 1.1}Z`,
    pentagon: (s) => `M0 ${-s * 1.1}L${s * 1.05} ${-s * 0.34}L${s * 0.65} ${s * 0.9}H${-s * 0.65}L${-s * 1.05} ${-s * 0.34}Z`,
    saltire: (s) => `M${-s} ${-s * 0.5}L${-s * 0.5} ${-s}L0 ${-s * 0.5}L${s * 0.5} ${-s}L${s} ${-s * 0.5}L${s * 0.5} 0L${s} ${s * 0.5}` +
      `L${s * 0.5} ${s}L0 ${s * 0.5}L${-s * 0.5} ${s}L${-s} ${s * 0.5}L${-s * 0.5} 0Z`,
    star: (s) => `M0 ${-s * 1.4}L${s * 0.4} ${-s * 0.4}H${s * 1.3}L${s * 0.6} ${s * 0.3}L${s * 0.9} ${s * 1.2}L0 ${s * 0.6}` +
      `L${-s * 0.9} ${s * 1.2}L${-s * 0.6} ${s * 0.3}L${-s * 1.3} ${-s * 0.4}H${-s * 0.4}Z`,
  };

  const colourOf = (method) => (dark.matches ? method.dark : method.colour);

  /** The place of a method's run in the gallery; -1 for one without. */
  const runOf = (method) => view.current.runs.findIndex((run) => method.runs.includes(run.root));

  /** The key by which a method is hidden. */
  const keyOf = (method, i) => (runOf(method) >= 0 ? `r${runOf(method)}` : `m${i}`);

  const isShown = (method, i) => !view.hidden.has(keyOf(method, i));

  /** A mark, for chart and legend. */
  function drawMark(method, size, attributes = {}) {
    const colour = colourOf(method);
    return make("path", { d: SHAPES[method.mark](size), fill: colour, stroke: colour, ...attributes });
  }

  /** Round numbers between two. */
  function findTicks(low, high, count) {
    const raw = (high - low) / count;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(10)));
    return ticks;
  }

  function findLogTicks(low, high) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const digit of [1, 2, 5]) {
        const tick = digit * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(Number(tick.toPrecision(3)));
      }
    }
    return ticks.length > 1 ? ticks : [low, high];
  }

  /** An axis: from numbers to pixels, with its ticks. Logarithmic where that is asked for and possible. */
  function makeAxis(numbers, start, end, log, count) {
    let [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const isLog = log && low > 0;
    const pad = high > low ? 0.06 : 0;
    if (!(high > low)) [low, high] = low ? [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1] : [-0.5, 0.5];
    const [a, b] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
    const [from, to] = [a - pad * (b - a), b + pad * (b - a)];
    const scale = (value) => start + ((isLog ? Math.log(value) : value) - from) / (to - from) * (end - start);
    const [first, last] = isLog ? [Math.exp(from), Math.exp(to)] : [from, to];
    return { scale, ticks: isLog ? findLogTicks(first, last) : findTicks(first, last, count) };
  }

  /** Methods with the points that have both metrics. */
  function listCurves() {
    const { x, y } = view.state;
    const number = (values) => values && values[0] !== null;
    return view.current.methods
      .map((method, i) => ({ method, i, points: method.points.filter((point) => number(point.values[x]) && number(point.values[y])) }))
      .filter(({ method, i, points }) => points.length && isShown(method, i))
      .map((curve) => ({ ...curve, points: curve.method.is_bound ? curve.points.slice(0, 1) : curve.points }));
  }

  /** Published points that have both metrics, by method. */
  function listPublished() {
    const { x, y, pub } = view.state;
    const groups = new Map();
    for (const point of pub ? view.current.published : []) {
      if (point.values[x] === undefined || point.values[y] === undefined) continue;
      if (!groups.has(point.method)) groups.set(point.method, []);
      groups.get(point.method).push(point);
    }
    return groups;
  }

  /** Bounds that lie within a few times the range of the methods; the others would squeeze these. */
  function splitFar(curves, axis) {
    const numbers = curves.filter((curve) => !curve.method.is_bound).flatMap((curve) => curve.points.map((point) => point.values[axis][0]));
    if (numbers.length < 2) return new Set();
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const isFar = (value) => Math.max(value - high, low - value) > FAR * (high - low);
    return new Set(curves.filter((curve) => curve.method.is_bound && isFar(curve.points[0].values[axis][0])).map((curve) => curve.i));
  }

  function nameAxis(metric) {
    const fact = view.current.metrics[metric];
    return `${metric} (${fact.higher ? "higher" : "lower"} is better)`;
  }

  function describe(method, point) {
    const lines = [`${method.label}${point.strength === null || method.is_bound ? "" : `, ${view.current.strength_name} = ${point.strength}`}`];
    for (const metric of new Set([view.state.x, view.state.y])) {
      const [value, low, high, n] = point.values[metric];
      lines.push(`${metric}: ${format(value)}${low === null ? "" : ` [${format(low)}, ${format(high)}]`}, n = ${n}`);
    }
    return lines;
  }

  function describePublished(point) {
    const lines = [`${point.method} (published)${point.strength === null ? "" : `, ${view.current.strength_name} = ${point.strength}`}`];
    for (const metric of new Set([view.state.x, view.state.y])) lines.push(`${metric}: ${format(point.values[metric])}`);
    if (point.setting) lines.push(point.setting);
    return lines;
  }

  let tip;

  function showTip(lines, x, y) {
    tip.replaceChildren(...lines.map((line, i) => make(i ? "div" : "strong", {}, line)));
    tip.hidden = false;
    const box = find("chart").getBoundingClientRect();
    const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), box.width - tip.offsetWidth);
    const top = y - tip.offsetHeight - 12;
    tip.style.left = `${left}px`;
    tip.style.top = `${top < 0 ? y + 14 : top}px`;
  }

  /** A point takes part in keyboard and mouse alike. */
  function makeActive(node, lines, x, y, act) {
    const show = () => showTip(lines, x, y);
    const hide = () => { tip.hidden = true; };
    node.append(make("circle", { r: 11, class: "target" }));
    for (const [name, listener] of [["pointerenter", show], ["focus", show], ["pointerleave", hide], ["blur", hide]]) {
      node.addEventListener(name, listener);
    }
    node.setAttribute("aria-label", lines.join("; "));
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", act ? "button" : "img");
    if (!act) return;
    node.addEventListener("click", act);
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter") act();
    });
  }

  /** A point clicked: every edit of the gallery goes to its strength. */
  function choosePoint(method, point) {
    const r = view.current.strengths.indexOf(point.strength);
    const run = runOf(method);
    if (r >= 0) view.set(run < 0 ? { r } : { r, method: run });
  }

  function drawCurve({ method, i, points }, across, up, far, labels) {
    const { x, y, r, method: chosen } = view.state;
    const place = (point) => [across.scale(point.values[x][0]), up.scale(point.values[y][0])];
    const colour = colourOf(method);
    const isChosen = runOf(method) === chosen;
    const group = make("g", { class: `curve${isChosen ? " chosen" : ""}`, "data-method": method.name });
    if (far.has(i)) return group;
    if (!method.is_bound && points.length > 1) {
      const path = points.map((point, k) => `${k ? "L" : "M"}${place(point).map((v) => v.toFixed(1)).join(" ")}`).join("");
      group.append(make("path", { d: path, class: "line", stroke: colour, "stroke-dasharray": method.dash || "none" }));
    }
    for (const point of points) {
      const [px, py] = place(point);
      const [, left, right] = point.values[x];
      const [, low, high] = point.values[y];
      const bars = [];
      if (!method.is_bound && left !== null) bars.push(`M${across.scale(left)} ${py}H${across.scale(right)}`);
      if (!method.is_bound && low !== null) bars.push(`M${px} ${up.scale(low)}V${up.scale(high)}`);
      if (bars.length) group.append(make("path", { d: bars.join(""), class: "interval", stroke: colour }));
    }
    for (const point of points) {
      const [px, py] = place(point);
      const isNow = !method.is_bound && point.strength === view.current.strengths[r];
      const node = make("g", { transform: `translate(${px} ${py})`, class: `point${isNow ? " now" : ""}` });
      node.dataset.method = method.name;
      node.dataset.strength = point.strength;
      if (isNow) node.append(make("circle", { r: 9, class: "ring", stroke: colour }));
      node.append(drawMark(method, method.is_bound ? 6 : 4.5));
      if (!method.is_bound && (isChosen || isNow)) {
        labels.append(make("text", { x: px + 9, y: py + 14, class: "strength", fill: colour }, String(point.strength)));
      }
      makeActive(node, describe(method, point), px, py, method.is_bound ? null : () => choosePoint(method, point));
      group.append(node);
    }
    return group;
  }

  function drawPublished(name, points, across, up) {
    const { x, y } = view.state;
    const look = points[0];
    const place = (point) => [across.scale(point.values[x]), up.scale(point.values[y])];
    const group = make("g", { class: "published", "data-method": name });
    const path = points.map((point, k) => `${k ? "L" : "M"}${place(point).map((v) => v.toFixed(1)).join(" ")}`).join("");
    if (points.length > 1) group.append(make("path", { d: path, class: "line dashed", stroke: colourOf(look) }));
    for (const point of points) {
      const [px, py] = place(point);
      const node = make("g", { transform: `translate(${px} ${py})`, class: "point hollow" });
      node.append(drawMark(look, 4.5));
      makeActive(node, describePublished(point), px, py, null);
      group.append(node);
    }
    return group;
  }

  function drawAxes(across, up, width, height) {
    const { x, y } = view.state;
    const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
    const group = make("g", { class: "axes" });
    for (const tick of across.ticks) {
      const px = across.scale(tick);
      group.append(make("line", { x1: px, x2: px, y1: MARGIN.top, y2: bottom }), make("text", { x: px, y: bottom + 17, "text-anchor": "middle" }, String(tick)));
    }
    for (const tick of up.ticks) {
      const py = up.scale(tick);
      group.append(make("line", { x1: MARGIN.left, x2: right, y1: py, y2: py }), make("text", { x: MARGIN.left - 8, y: py + 4, "text-anchor": "end" }, String(tick)));
    }
    const middle = (MARGIN.top + bottom) / 2;
    group.append(
      make("text", { x: (MARGIN.left + right) / 2, y: height - 8, "text-anchor": "middle", class: "axis-name" }, nameAxis(x)),
      make("text", { x: 14, y: middle, "text-anchor": "middle", class: "axis-name", transform: `rotate(-90 14 ${middle})` }, nameAxis(y)),
    );
    return group;
  }

  /** What as many real pictures have: a dotted line. */
  function drawReal(up, width) {
    const real = view.current.real[view.state.y];
    if (!real || real[0] === null) return null;
    const py = up.scale(real[0]);
    return make("g", { class: "real" }, make("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: py, y2: py }),
      make("text", { x: width - MARGIN.right - 4, y: py - 5, "text-anchor": "end" }, "real pictures"));
  }

  function collectNumbers(curves, published, axis, far) {
    const metric = view.state[axis];
    const known = (number) => number !== null;
    const ours = curves.filter(({ i }) => !far.has(i)).flatMap(({ method, points }) => points.flatMap((point) => {
      const [value, low, high] = point.values[metric];
      return method.is_bound ? [value] : [value, low, high].filter(known);
    }));
    const theirs = [...published.values()].flat().map((point) => point.values[metric]);
    const real = axis === "y" ? view.current.real[metric] : null;
    return [...ours, ...theirs, ...(real && real[0] !== null ? [real[0]] : [])];
  }

  function draw() {
    const place = find("chart");
    const set = view.current;
    find("axes").hidden = !set.axes;
    if (!set.axes) {
      place.replaceChildren(make("p", { class: "problem" }, set.problem));
      return;
    }
    const curves = listCurves();
    const published = listPublished();
    const far = new Set([...splitFar(curves, view.state.x), ...splitFar(curves, view.state.y)]);
    const numbers = ["x", "y"].map((axis) => collectNumbers(curves, published, axis, far));
    tip = make("div", { class: "tip", hidden: true, role: "tooltip" });
    if (!numbers[0].length) {
      place.replaceChildren(make("p", { class: "soft" }, `No method that is shown has both ${view.state.x} and ${view.state.y}.`));
      return;
    }
    const width = Math.max(place.clientWidth, 280);
    const height = Math.min(Math.max(width * 0.62, 260), 430);
    const across = makeAxis(numbers[0], MARGIN.left, width - MARGIN.right, view.state.lx, width < 420 ? 4 : 7);
    const up = makeAxis(numbers[1], height - MARGIN.bottom, MARGIN.top, view.state.ly, 6);
    const title = `${view.state.y} over ${view.state.x}`;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": title });
    svg.append(drawAxes(across, up, width, height));
    const real = drawReal(up, width);
    if (real) svg.append(real);
    for (const [name, points] of published) svg.append(drawPublished(name, points, across, up));
    const labels = make("g", { "aria-hidden": "true" }); // above all curves
    for (const curve of curves) svg.append(drawCurve(curve, across, up, far, labels));
    svg.append(labels);
    place.replaceChildren(svg, tip);
    const beyond = curves.filter(({ i }) => far.has(i)).map(({ method, points }) =>
      `${method.label} lies beyond: ${format(points[0].values[view.state.x][0])}, ${format(points[0].values[view.state.y][0])}`);
    const notes = [view.state.x, view.state.y].map((name) => set.metrics[name].note && `${name}: ${set.metrics[name].note}`);
    for (const note of [...beyond, ...new Set(notes.filter(Boolean))]) place.append(make("p", { class: "soft note" }, note));
  }

  function toggle(key) {
    const hidden = view.hidden;
    if (!hidden.delete(key)) hidden.add(key);
    view.set({ hide: [...hidden].join(" ") });
  }

  /** Methods as switches: of their curve, and of their column in the gallery. Runs that are not scored are there too. */
  function drawLegend() {
    const set = view.current;
    const scored = new Set(set.methods.map(runOf));
    const entries = set.methods.map((method, i) => ({ key: keyOf(method, i), label: method.label, method, run: runOf(method) }));
    set.runs.forEach((run, k) => {
      const seed = set.methods.findIndex((method) => method.runs.includes(run.root));
      if (scored.has(k)) return;
      const look = seed < 0 ? null : set.methods[seed];
      entries.push({ key: `r${k}`, label: `${run.label}${look ? " (another seed)" : " (not scored)"}`, method: look, run: k });
    });
    const isBound = (entry) => Boolean(entry.method && entry.method.is_bound);
    entries.sort((a, b) => isBound(a) - isBound(b));
    const rows = entries.map(({ key, label, method, run }) => {
      const pressed = !view.hidden.has(key);
      const mark = make("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" });
      if (method) mark.append(drawMark(method, 5));
      const button = make("button", { type: "button", "aria-pressed": String(pressed), class: "entry", onclick: () => toggle(key) }, mark, make("span", {}, label));
      const number = run >= 0 && run < 9 ? make("kbd", {}, String(run + 1)) : null;
      return make("li", {}, button, number);
    });
    if (set.published.length) {
      const shown = Boolean(view.state.pub);
      rows.push(make("li", {}, make("button", {
        type: "button", class: "entry", "aria-pressed": String(shown), onclick: () => view.set({ pub: shown ? 0 : 1 }),
      }, make("span", {}, "published points (hollow)"))));
    }
    find("legend").replaceChildren(...rows);
  }

  return { draw, drawLegend, colourOf, runOf, dark };
})();

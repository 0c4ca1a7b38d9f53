// The controls of the page, its keys, and the first view.
"use strict";

(() => {
  const { make, find, view, values, gallery, viewer, chart, table } = Report;
  const set = () => view.current;

  // ---------------------------------------------------------------------------------------------------------------- controls

  const fillSelect = (id, options, value) => {
    find(id).replaceChildren(...options.map(([key, label]) => make("option", { value: key, selected: String(key) === String(value) }, label)));
  };

  /** The orders that the chosen metric has, told by what stands first. */
  function listOrders() {
    const { metric, second } = view.state;
    const fact = set().measured.find((one) => one.name === metric);
    const orders = [["given", "as in the benchmark"]];
    if (!metric) return orders;
    const tell = (isLow) => {
      if (second >= 0 || fact.higher === null) return "";
      return isLow === fact.higher ? " (worst)" : " (best)";
    };
    orders.push(["rising", `lowest first${tell(true)}`], ["falling", `highest first${tell(false)}`]);
    if (second >= 0) orders.push(["apart", "farthest apart first"]);
    return orders;
  }

  function listFlags() {
    const flags = new Set((gallery.requests ? gallery.requests.flags : []).flatMap((part) => Object.values(part)));
    const options = [["", "any or none"], ["failed", "failed"], ["any", "any flag"], ["none", "no flag"]];
    return [...options, ...[...flags].sort().map((flag) => [`=${flag}`, `${flag} mask`])];
  }

  function drawControls() {
    const { state } = view;
    const { runs, strengths, measured, metrics, strength_name: name } = set();
    const scored = Object.keys(metrics).filter((metric) => set().methods.some((method) => method.points.some((point) => point.values[metric])));
    fillSelect("x", scored.map((metric) => [metric, metric]), state.x);
    fillSelect("y", scored.map((metric) => [metric, metric]), state.y);
    find("log-x").checked = Boolean(state.lx);
    find("log-y").checked = Boolean(state.ly);
    fillSelect("metric", [["", "none"], ...measured.map((one) => [one.name, one.name])], state.metric);
    fillSelect("first", runs.map((run, k) => [k, run.label]), state.first);
    fillSelect("second", [[-1, "nothing"], ...runs.map((run, k) => [k, run.label])], state.second);
    fillSelect("at", strengths.map((strength, r) => [r, `${name} = ${strength}`]), state.at);
    fillSelect("order", listOrders(), state.order);
    fillSelect("flag", listFlags(), state.flag);
    fillSelect("size", gallery.SIZES.map(([label], i) => [i, label]), state.size);
    const masked = runs.map((run, k) => [k, run.label]).filter(([k]) => set().masked[k]);
    find("mask-of-choice").hidden = masked.length < 2;
    fillSelect("mask-of", masked, gallery.findMaskRun());
    for (const id of ["first", "second", "at", "order", "least", "most"]) find(id).disabled = !state.metric;
    find("failed-first").checked = Boolean(state.ff);
    for (const id of ["least", "most", "text"]) if (document.activeElement !== find(id)) find(id).value = state[id];
    const isFiltered = ["metric", "flag", "text"].some((one) => state[one]);
    find("filters-open").classList.toggle("active", isFiltered);
    find("difference").setAttribute("aria-pressed", String(Boolean(state.d)));
    find("outline").setAttribute("aria-pressed", String(Boolean(state.m)));
  }

  function drawSlider() {
    const { strengths, strength_name: name } = set();
    const slider = find("ratio");
    slider.max = strengths.length - 1;
    slider.value = view.state.r;
    slider.disabled = strengths.length < 2;
    slider.setAttribute("aria-valuetext", `${name} = ${strengths[view.state.r]}`);
    find("ratio-name").textContent = name;
    find("ratio-value").textContent = strengths[view.state.r];
    find("ticks").replaceChildren(...strengths.map((strength, r) => make("span", { class: r === view.state.r ? "now" : null }, String(strength))));
  }

  function drawHead() {
    const { sets, problems, title } = Report.index;
    find("title").textContent = set().names[0];
    const models = set().names[1];
    find("subtitle").textContent = `${set().runs.length} run${set().runs.length === 1 ? "" : "s"} of ${models}, n = ${set().n}, ${set().is_square ? `${set().resolution} × ${set().resolution} pixels` : `in their own shapes at ${set().resolution} pixels`}`;
    document.title = `${title}: edits compared`;
    find("set-choice").hidden = sets.length < 2;
    fillSelect("set", sets.map((one, i) => [i, one.title]), view.state.set);
    find("problems").hidden = !problems.length;
    find("problems").firstElementChild.textContent = `${problems.length} thing${problems.length === 1 ? "" : "s"} could not be shown`;
    find("problems").lastElementChild.replaceChildren(...problems.map((text) => make("li", {}, text)));
    find("findings-box").hidden = !set().findings.length;
    find("findings").replaceChildren(...set().findings.map((one) => make("li", {}, one.sentence)));
  }

  const number = (event) => Number(event.target.value);
  const on = (id, name, act) => find(id).addEventListener(name, act);
  on("set", "change", (event) => view.set({ set: number(event) }));
  for (const id of ["x", "y", "flag"]) on(id, "change", (event) => view.set({ [id]: event.target.value }));
  for (const id of ["first", "at", "size"]) on(id, "change", (event) => view.set({ [id]: number(event) }));
  on("mask-of", "change", (event) => view.set({ of: number(event) }));
  on("log-x", "change", (event) => view.set({ lx: Number(event.target.checked) }));
  on("log-y", "change", (event) => view.set({ ly: Number(event.target.checked) }));
  on("failed-first", "change", (event) => view.set({ ff: Number(event.target.checked) }));
  on("ratio", "input", (event) => view.set({ r: number(event) }));
  on("order", "change", (event) => view.set({ order: event.target.value }));
  on("second", "change", (event) => {
    const second = number(event);
    view.set({ second, order: second >= 0 ? "apart" : view.state.order === "apart" ? "rising" : view.state.order });
  });
  on("metric", "change", (event) => {
    const metric = event.target.value;
    const fact = set().measured.find((one) => one.name === metric);
    const order = !metric ? "given" : view.state.second >= 0 ? "apart" : fact.higher ? "rising" : "falling"; // the worst first
    view.set({ metric, order, ...(metric ? {} : { least: "", most: "" }) });
  });
  for (const id of ["least", "most", "text"]) on(id, "input", (event) => view.set({ [id]: event.target.value }));
  on("difference", "click", () => view.set({ d: view.state.d ? 0 : 1 }));
  on("outline", "click", () => view.set({ m: view.state.m ? 0 : 1 }));
  const reset = () => view.set({ metric: "", second: -1, order: "given", ff: 1, least: "", most: "", flag: "", text: "" });
  on("reset", "click", reset);
  on("nothing-reset", "click", reset);
  on("help-open", "click", () => find("help").showModal());

  function showFilters(open) {
    find("filters").hidden = !open;
    find("filters-open").setAttribute("aria-expanded", String(open));
  }
  on("filters-open", "click", () => showFilters(find("filters").hidden));

  // The button that shows inputs while it is held, by pointer or keyboard.
  for (const name of ["pointerdown", "keydown"]) {
    on("blink", name, (event) => {
      if (name === "pointerdown" || event.key === " " || event.key === "Enter") gallery.hold(true);
    });
  }
  for (const name of ["pointerup", "pointerleave", "keyup", "blur"]) on("blink", name, () => gallery.hold(false));

  // -------------------------------------------------------------------------------------------------------------------- keys

  const moveRatio = (by) => view.set({ r: Math.min(Math.max(view.state.r + by, 0), set().strengths.length - 1) });
  const turn = (name) => view.set({ [name]: view.state[name] ? 0 : 1 });
  const turnMode = (mode) => view.set({ mode: view.state.mode === mode ? "one" : mode });

  const KEYS = {
    j: () => (viewer.isOpen ? viewer.step(1) : gallery.move(1)),
    k: () => (viewer.isOpen ? viewer.step(-1) : gallery.move(-1)),
    ArrowLeft: () => moveRatio(-1),
    ArrowRight: () => moveRatio(1),
    m: () => turn("m"),
    d: () => (viewer.isOpen ? turnMode("difference") : turn("d")),
    b: () => viewer.isOpen && turnMode("split"),
    f: () => viewer.isOpen && turnMode("flicker"),
    c: () => viewer.isOpen && turn("map"),
    "?": () => find("help").open || find("help").showModal(),
    "/": () => {
      if (viewer.isOpen) return;
      showFilters(true);
      find("text").focus();
      find("text").select();
    },
    Enter: (event) => {
      const isFree = event.target === document.body || event.target.id === "gallery";
      if (isFree && !viewer.isOpen && view.state.row) view.set({ open: view.state.row, run: view.state.method });
    },
  };

  /** Whether a key belongs to what is focused: a field takes letters, a slider arrows, a button space. */
  function isTaken(event) {
    const { target, key } = event;
    if (target.closest("input[type=search], input[type=number], textarea")) return true;
    if (target.closest("select, input[type=range]")) return !/^[a-z/?1-9]$/.test(key) || Boolean(target.closest("select"));
    return key === " " && Boolean(target.closest("summary, a, input, button:not(.tile)"));
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
    if (find("help").open && event.key !== "?") return;
    if (event.key === " ") {
      event.preventDefault();
      if (viewer.isOpen) viewer.hold(true);
      else gallery.hold(true);
    } else if (/^[1-9]$/.test(event.key)) {
      const run = Number(event.key) - 1;
      if (run < set().runs.length) view.set({ method: run, run });
    } else if (Object.hasOwn(KEYS, event.key)) {
      if (event.key !== "Enter") event.preventDefault();
      KEYS[event.key](event);
    }
  });
  addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    if (!isTaken(event)) event.preventDefault(); // a picture that has the focus is not opened by it
    gallery.hold(false);
    viewer.hold(false);
  });
  addEventListener("blur", () => {
    gallery.hold(false);
    viewer.hold(false);
  });

  // -------------------------------------------------------------------------------------------------------------- first view

  function drawSet() {
    drawHead();
    drawSlider();
    drawControls();
    chart.drawLegend();
    chart.draw();
    table.drawPairs();
    table.draw();
    table.drawFoot();
  }

  /** The curve, once a frame at most: a slider that is dragged asks for it more often. */
  let waiting = 0;
  function drawChartSoon() {
    if (!waiting) {
      waiting = requestAnimationFrame(() => {
        waiting = 0;
        chart.draw();
      });
    }
  }

  view.watch((changed) => {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("set")) return drawSet();
    if (has("r")) drawSlider();
    if (has("hide", "pub")) chart.drawLegend();
    if (has("r", "x", "y", "lx", "ly", "hide", "pub", "method")) drawChartSoon();
    const quick = ["r", "row", "open", "run", "method", "mode", "against", "map"]; // no control of the page shows these
    if ([...changed].some((name) => !quick.includes(name))) drawControls();
    return undefined;
  });

  addEventListener("hashchange", () => {
    const before = view.state;
    view.read();
    const changed = new Set(Object.keys(view.state).filter((name) => view.state[name] !== before[name]));
    for (const listener of view.listeners) listener(changed);
  });
  let width = 0;
  new ResizeObserver(() => {
    if (find("chart").clientWidth === width) return;
    width = find("chart").clientWidth;
    chart.draw();
  }).observe(find("chart"));
  chart.dark.addEventListener("change", () => {
    chart.draw();
    chart.drawLegend();
    gallery.repaint();
  });

  view.read();
  drawSet();
  gallery.needMetrics();
  gallery.show();
  Report.load(`${set().key}/requests`).then(drawControls, () => {});
  showFilters(["metric", "flag", "text"].some((name) => view.state[name]));
})();

// The gallery: a row a request. Rows are filled when they come near the window and emptied when they are far.
"use strict";

Report.gallery = (() => {
  const { make, find, format, view, values } = Report;
  const NEAR = "900px 0px"; // above and below the window, where rows are filled ahead
  const HELD = 180; // milliseconds after which a press is no click
  const SIZES = [["small", 72], ["middle", 112], ["large", 168], ["huge", 256]];
  const list = find("gallery");

  let requests = null; // of the chosen set, once they are there
  let order = []; // places of the requests that are shown
  let rows = new Map(); // a row's element by its request
  const filled = new Map(); // what is to be brought up to date, by request
  const outlines = new Map(); // by set and chunk, once loaded
  const blobs = new Map(); // addresses of thumbnails that the page holds itself

  const set = () => view.current;
  const words = (i) => requests.words[i].map(([text]) => text).join(" ");

  /** An address that is relative to the page; any character may be in a file's name. */
  const encodePath = (path) => path.split("/").map(encodeURIComponent).join("/");

  /** Where the edit of a run lies at full size; "" where there is none. */
  function findFile(run, r, i) {
    const { base, folders } = set().runs[run];
    if (folders[r] === null || requests.errors[run][i]) return "";
    return encodePath(`${base}/${requests.files[`${run} ${r} ${i}`] || `images/${folders[r]}/${requests.stems[i]}.png`}`);
  }

  /** Where the thumbnails of a request lie. */
  function findSprite(i) {
    const { key, sprites } = set();
    // Whole: an address in a custom property is read from where the style lies.
    if (!Report.index.single) return new URL(`tiles/${key}/${sprites[i]}`, location.href).href;
    const name = `${key}/tiles/${i}`;
    if (!blobs.has(name)) {
      const bytes = Uint8Array.from(atob(Report.received.get(name)), (letter) => letter.charCodeAt(0));
      blobs.set(name, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
    }
    return blobs.get(name);
  }

  /** The run whose contrast map and mask are shown; -1 for none. */
  function findMaskRun() {
    const has = (k) => set().masked[k];
    if (view.state.of >= 0 && has(view.state.of)) return view.state.of;
    const all = set().runs.map((_, k) => k).filter(has);
    return all.find((k) => view.shownRuns.includes(k)) ?? (all.length ? all[0] : -1);
  }

  // ------------------------------------------------------------------------------------------------- which, and in what order

  const isFailed = (i) => view.shownRuns.some((k) => requests.errors[k][i]);
  const listFlags = (i) => view.shownRuns.map((k) => requests.flags[k][i]).filter(Boolean);

  /** What is sorted by: a metric of one method, or its difference to another one. */
  function findScore(i) {
    const { metric, first, second, at } = view.state;
    const value = values.get(metric, first, at, i);
    return second < 0 ? value : value - values.get(metric, second, at, i);
  }

  function isWanted(i) {
    const { metric, least, most, flag, text } = view.state;
    const asked = text.toLowerCase().split(/\s+/).filter(Boolean);
    const told = `${requests.ids[i]} ${requests.labels[i]} ${words(i)}`.toLowerCase();
    if (!asked.every((part) => told.includes(part))) return false;
    if (flag === "failed" && !isFailed(i)) return false;
    if (flag === "any" && !listFlags(i).length) return false;
    if (flag === "none" && (listFlags(i).length || isFailed(i))) return false;
    if (flag.startsWith("=") && !listFlags(i).includes(flag.slice(1))) return false;
    if (metric && (least !== "" || most !== "")) {
      const score = findScore(i);
      if (Number.isNaN(score) || (least !== "" && score < Number(least)) || (most !== "" && score > Number(most))) return false;
    }
    return true;
  }

  function arrange() {
    if (!requests) return;
    const { order: by, metric, ff } = view.state;
    order = requests.ids.map((_, i) => i).filter(isWanted);
    const sign = by === "rising" ? 1 : -1;
    const keys = new Map(by === "given" || !metric ? [] : order.map((i) => [i, by === "apart" ? Math.abs(findScore(i)) : findScore(i)]));
    const failed = new Set(ff ? order.filter(isFailed) : []);
    order.sort((a, b) => {
      if (failed.has(a) !== failed.has(b)) return failed.has(a) ? -1 : 1;
      const [one, other] = [keys.get(a) ?? NaN, keys.get(b) ?? NaN];
      if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other) || a - b;
      return sign * (one - other) || a - b;
    });
    list.replaceChildren(...order.map((i) => rows.get(i)));
    find("nothing").hidden = order.length > 0;
    const { n, shown } = set();
    const all = shown < n ? `${shown} of ${n} requests` : `${n} requests`;
    find("count").textContent = order.length < shown ? `${order.length} of ${all}` : all;
  }

  // ------------------------------------------------------------------------------------------------------------------ rows

  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      const i = Number(target.dataset.place);
      if (isIntersecting) fill(target, i);
      else if (filled.has(i)) {
        target.style.minHeight = `${boundingClientRect.height}px`; // what is below stays where it is
        target.replaceChildren();
        filled.delete(i);
      }
    }
  }, { rootMargin: NEAR });

  /** Texts, errors and flags of a request. */
  function drawWords(i) {
    const told = requests.words[i].map(([text, kind]) => make(["span", "del", "ins"][kind], {}, text));
    const line = make("p", { class: "words" });
    told.forEach((node, k) => line.append(...(k ? [" ", node] : [node])));
    return line;
  }

  function drawHead(i) {
    const head = make("div", { class: "head" }, drawWords(i), make("span", { class: "id" }, requests.ids[i]));
    if (requests.labels[i]) head.append(make("span", { class: "id" }, requests.labels[i]));
    for (const k of view.shownRuns) {
      const { label } = set().runs[k];
      if (requests.errors[k][i]) head.append(make("span", { class: "badge failed" }, `${label}: ${requests.errors[k][i]}`));
      if (requests.flags[k][i]) head.append(make("span", { class: "badge" }, `${label}: ${requests.flags[k][i]} mask`));
    }
    return head;
  }

  /** A thumbnail with what is written below it. */
  function drawCell(kind, name, column, row, open, colour) {
    const tile = make(open ? "button" : "div", { class: `tile ${kind}`, style: { "--column": column, "--row": row } });
    if (open) tile.type = "button";
    else tile.setAttribute("role", "img");
    const caption = make("figcaption", {}, make("span", { class: "name" }, name), make("span", { class: "scores" }));
    const cell = make("figure", { class: `cell ${kind}` }, tile, caption);
    if (colour) cell.style.setProperty("--method", colour);
    return { cell, tile, caption, scores: caption.lastChild };
  }

  function fill(element, i) {
    const { runs, tiles } = set();
    const of = findMaskRun();
    const parts = [];
    const add = (part) => { parts.push(part); return part; };
    add({ ...drawCell("input", "input", 0, 0, true), run: -1 });
    if (of >= 0) {
      const mask = requests.masks[of][i], map = requests.maps[of][i];
      if (set().mapped[of]) add({ ...drawCell(`map${map ? "" : " absent"}`, "contrast map", 0, of + 1, false), run: -2 });
      const part = add({ ...drawCell(`mask${mask ? "" : " absent"}`, "mask", 1, of + 1, false), run: -2, outline: "true" });
      const area = values.get("mask_area", of, view.state.r, i);
      part.scores.textContent = Number.isNaN(area) ? "" : `${format(area * 100)} %`;
    }
    for (const k of view.shownRuns) {
      const part = add({ ...drawCell("edit", runs[k].label, "calc(var(--before) + var(--r))", k + 1, true, colourOf(k)), run: k, outline: k });
      part.cell.dataset.run = k;
      part.tile.dataset.run = k;
    }
    if (requests.true[i]) add({ ...drawCell("true-edit", "true edit", 1, 0, false), run: -2 });
    element.style.setProperty("--sprite", `url("${findSprite(i)}")`);
    const strip = make("div", { class: "strip" }, ...parts.map((part) => part.cell));
    element.replaceChildren(drawHead(i), strip);
    element.style.minHeight = "";
    filled.set(i, { element, parts });
    refresh(i);
    if (tiles.side < 80) element.classList.add("coarse");
  }

  /** The colour of a run's curve. */
  function colourOf(k) {
    const method = set().methods.find((one) => one.runs.includes(set().runs[k].root));
    return method ? Report.chart.colourOf(method) : null;
  }

  /** Bring the texts of a row up to date: scores and names change with the strength. */
  function refresh(i) {
    const { parts } = filled.get(i);
    const { x, y, metric, r, method } = view.state;
    const { runs, strengths, strength_name: name } = set();
    const asked = [...new Set([y, x, metric])].filter((one) => one && values.has(one));
    for (const { run, tile, cell, scores } of parts) {
      if (run === -2) {
        tile.setAttribute("aria-label", `${cell.querySelector(".name").textContent} of ${requests.ids[i]}`);
        continue;
      }
      const texts = asked.map((one) => [one, values.get(one, run, r, i)]).filter(([, value]) => !Number.isNaN(value));
      scores.replaceChildren(...texts.map(([one, value]) => make("span", {}, `${one} ${format(value)}`)));
      const what = run < 0 ? "input" : `${runs[run].label} at ${name} = ${strengths[r]}`;
      tile.setAttribute("aria-label", `${what}, of ${requests.ids[i]}: at full size`);
      if (run < 0) continue;
      const error = requests.errors[run][i];
      const isAbsent = error || runs[run].folders[r] === null;
      cell.classList.toggle("absent", Boolean(isAbsent));
      cell.classList.toggle("chosen", run === method);
      tile.dataset.why = error ? "failed" : isAbsent ? `no ${name} = ${strengths[r]}` : "";
    }
    drawOutlines(i);
  }

  function refreshAll() {
    for (const i of filled.keys()) refresh(i);
  }

  // -------------------------------------------------------------------------------------------------------------- outlines

  /** The outlines of a request: first of where the true edit differs, then of each run's mask; null until loaded. */
  function findOutlines(i, done) {
    const chunk = Math.floor(i / set().tiles.chunk);
    const key = `${set().key}/outlines/${chunk}`;
    if (outlines.has(key)) return outlines.get(key)[i % set().tiles.chunk];
    Report.load(key).then((lines) => {
      outlines.set(key, lines);
      done();
    }, (error) => Report.tell(error.message));
    return null;
  }

  /** Paths over a picture. */
  function makeOutlines(lines, kinds) {
    const drawn = kinds.map(([place, kind]) => [lines[place], kind]).filter(([line]) => line && line.length && line[2]);
    return drawn.map(([[width, height, path], kind]) => {
      const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, class: `outlines ${kind}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
      svg.append(make("path", { d: path, class: "under" }), make("path", { d: path, class: "over" }));
      return svg;
    });
  }

  function drawOutlines(i) {
    const { parts } = filled.get(i);
    const lines = findOutlines(i, () => filled.has(i) && drawOutlines(i));
    if (!lines) return;
    for (const { run, tile, outline } of parts) {
      for (const old of tile.querySelectorAll("svg")) old.remove();
      if (outline === "true") tile.append(...makeOutlines(lines, [[0, "exact"]]));
      else if (view.state.m && run >= 0) tile.append(...makeOutlines(lines, [[0, "exact"], [outline + 1, "found"]]));
      else if (view.state.m && run === -1) tile.append(...makeOutlines(lines, [[0, "exact"]]));
    }
  }

  // ---------------------------------------------------------------------------------------------------------------- presses

  let press = null; // a pointer that is down on a picture

  function release() {
    if (!press) return false;
    clearTimeout(press.timer);
    press.row.classList.remove("held");
    const { wasHeld } = press;
    press = null;
    return wasHeld;
  }

  list.addEventListener("pointerdown", (event) => {
    const tile = event.target.closest(".tile.edit");
    if (!tile || event.button) return;
    const row = tile.closest("li");
    press = { row, wasHeld: false };
    press.timer = setTimeout(() => {
      press.wasHeld = true;
      row.classList.add("held");
    }, HELD);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    addEventListener(name, () => {
      if (release()) press = null, suppressed = performance.now();
    });
  }
  let suppressed = -Infinity;
  list.addEventListener("contextmenu", (event) => {
    if (press && press.wasHeld) event.preventDefault();
  });
  list.addEventListener("click", (event) => {
    const tile = event.target.closest("button.tile");
    if (!tile || performance.now() - suppressed < 80) return;
    const i = Number(tile.closest("li").dataset.place);
    const run = tile.dataset.run === undefined ? view.state.run : Number(tile.dataset.run);
    view.set({ open: requests.ids[i], row: requests.ids[i], run });
  });

  /** Go some rows on. */
  function move(step) {
    const at = order.indexOf(requests.ids.indexOf(view.state.row));
    const next = order[Math.min(Math.max(at < 0 ? 0 : at + step, 0), order.length - 1)];
    if (next !== undefined) view.set({ row: requests.ids[next] });
    return next;
  }

  function markRow(scroll) {
    for (const old of list.querySelectorAll(".current")) old.classList.remove("current");
    const row = rows.get(requests.ids.indexOf(view.state.row));
    if (!row) return;
    row.classList.add("current");
    if (scroll && row.isConnected) row.scrollIntoView({ block: "center" });
  }

  // --------------------------------------------------------------------------------------------------------------- the whole

  /** Show the chosen set. */
  function show() {
    const { key, tiles } = set();
    requests = null;
    near.disconnect();
    filled.clear();
    list.replaceChildren();
    for (const [name, value] of Object.entries({ columns: tiles.columns, rows: tiles.rows, before: tiles.before })) list.style.setProperty(`--${name}`, value);
    Report.load(`${key}/requests`).then((loaded) => {
      if (key !== set().key) return;
      requests = loaded;
      rows = new Map(requests.ids.map((id, i) => [i, make("li", { "data-place": i, "data-id": id })]));
      arrange();
      for (const row of rows.values()) near.observe(row);
      const { row, open } = view.state;
      if (row || open) {
        if (!row) view.set({ row: open });
        markRow(true);
      }
      Report.viewer.update();
    }, (error) => {
      list.replaceChildren(make("li", { class: "problem" }, error.message));
    });
    look();
  }

  /** What one change of style does for all rows. */
  function look() {
    const { r, d, m, size } = view.state;
    list.style.setProperty("--r", r);
    list.style.setProperty("--tile", `${SIZES[size][1]}px`);
    list.classList.toggle("difference", Boolean(d));
    list.classList.toggle("outlined", Boolean(m));
  }

  function needMetrics() {
    const { x, y, metric } = view.state;
    for (const name of [x, y, metric, "mask_area"]) {
      values.need(name, () => {
        if (name === metric) arrange();
        refreshAll();
      });
    }
  }

  const ARRANGED = ["metric", "first", "second", "at", "order", "ff", "least", "most", "flag", "text", "hide"];

  view.watch((changed) => {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("set")) {
      needMetrics();
      show();
      return;
    }
    look();
    if (!requests) return;
    if (has("x", "y", "metric")) needMetrics();
    if (has(...ARRANGED)) arrange();
    if (has("hide", "of")) for (const [i, { element }] of [...filled]) fill(element, i);
    else if (has("r", "x", "y", "metric", "m", "method")) refreshAll();
    if (has("row")) markRow(true);
  });

  return {
    show, needMetrics, move, findFile, findSprite, findOutlines, makeOutlines, drawWords, findMaskRun, refreshAll, SIZES,
    get requests() { return requests; },
    get order() { return order; },
    hold: (on) => list.classList.toggle("held", on),
    repaint: () => { for (const [i, { element }] of [...filled]) fill(element, i); },
  };
})();

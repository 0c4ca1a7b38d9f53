// One request at full size: beside, over and against each other.
"use strict";

Report.viewer = (() => {
  const { make, find, format, view, values, gallery } = Report;
  const dialog = find("viewer");
  const stage = find("stage");
  const MODES = [["one", "one picture", ""], ["split", "before / after", "b"], ["flicker", "flicker", "f"], ["difference", "difference", "d"]];
  const FLICKER = 500; // milliseconds a picture

  const reduced = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;
  let drawn = ""; // what the stage shows, to leave it as it is where nothing changed

  const set = () => view.current;
  const findPlace = () => (gallery.requests ? gallery.requests.ids.indexOf(view.state.open) : -1);

  /** The picture that is compared with: the input, the true edit or another method. */
  function readAgainst(i) {
    const { against, run } = view.state;
    if (against === "true" && gallery.requests.true[i]) return { kind: "true" };
    const k = Number(against);
    if (against !== "" && Number.isInteger(k) && k >= 0 && k < set().runs.length && k !== run) return { kind: "run", k };
    return { kind: "input" };
  }

  function nameOf(picture) {
    if (picture.kind !== "run") return picture.kind === "input" ? "input" : "true edit";
    return `${set().runs[picture.k].label}, ${set().strength_name} = ${set().strengths[view.state.r]}`;
  }

  /** Where a picture lies at full size; "" where there is its thumbnail alone. */
  function findFull(picture, i) {
    if (picture.kind === "run") return gallery.findFile(picture.k, view.state.r, i);
    if (Report.index.single) return "";
    return `inputs/${set().key}/${set().sprites[i].replace(".webp", `-${picture.kind}.webp`)}`;
  }

  /** A picture on the stage: its thumbnail, and over it the full one as soon as it is there. */
  function makeLayer(picture, i, name) {
    const { tiles } = set();
    const places = { input: [0, 0], true: [1, 0] };
    const [column, row] = places[picture.kind] || [tiles.before + view.state.r, picture.k + 1];
    const layer = make("div", { class: `layer ${name}`, role: "img", "aria-label": `${nameOf(picture)}: ${gallery.requests.ids[i]}`,
      style: { "--column": column, "--row": row, "--sprite": `url("${gallery.findSprite(i)}")` } });
    const file = findFull(picture, i);
    if (picture.kind === "run" && !file) {
      layer.classList.add("absent");
      layer.append(make("p", {}, gallery.requests.errors[picture.k][i] || `no ${set().strength_name} = ${set().strengths[view.state.r]}`));
      return layer;
    }
    if (file) {
      const full = make("img", { alt: "", draggable: "false" });
      full.addEventListener("load", () => full.classList.add("there"));
      full.addEventListener("error", () => {
        full.remove();
        Report.tell(`${file} is not there: its thumbnail is shown`);
      });
      full.src = file;
      layer.append(full);
    }
    return layer;
  }

  function drawStage(i) {
    const { run, mode, m, map, r } = view.state;
    const against = readAgainst(i);
    const key = JSON.stringify([set().key, i, run, r, mode, against, m, map]);
    if (key === drawn) return;
    drawn = key;
    clearInterval(timer);
    const layers = [makeLayer(against, i, "against"), makeLayer({ kind: "run", k: run }, i, "edit")];
    const labels = [make("span", { class: "label edit-label" }, nameOf({ kind: "run", k: run })), make("span", { class: "label against-label" }, nameOf(against))];
    stage.className = `stage ${mode}`;
    stage.classList.toggle("coarse", set().resolution <= 128);
    for (const name of ["columns", "rows", "before"]) stage.style.setProperty(`--${name}`, set().tiles[name]);
    stage.replaceChildren(...layers, ...labels);
    const of = gallery.requests.maps[run][i] ? run : gallery.findMaskRun();
    if (map && of >= 0) {
      stage.append(make("div", { class: "layer map", "aria-hidden": "true", style: { "--column": 0, "--row": of + 1, "--sprite": `url("${gallery.findSprite(i)}")` } }));
    }
    if (m) drawOutlines(i, run);
    if (mode === "split") {
      const bar = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: stage.dataset.share || 50, "aria-label": "share of the edit, from the left", class: "share" });
      const line = make("div", { class: "divider", "aria-hidden": "true" });
      const follow = () => {
        stage.dataset.share = bar.value;
        stage.style.setProperty("--share", `${bar.value}%`);
      };
      bar.addEventListener("input", follow);
      stage.append(line, bar);
      follow();
    }
    if (mode === "flicker") timer = setInterval(() => stage.classList.toggle("swapped"), reduced.matches ? 3 * FLICKER : FLICKER);
    for (const near of [r - 1, r + 1]) { // those that come next
      if (near >= 0 && near < set().strengths.length && gallery.findFile(run, near, i)) new Image().src = gallery.findFile(run, near, i);
    }
  }

  function drawOutlines(i, run) {
    const lines = gallery.findOutlines(i, () => {
      drawn = "";
      update();
    });
    if (lines) stage.append(...gallery.makeOutlines(lines, [[0, "exact"], [run + 1, "found"]]));
  }

  function drawPanel(i) {
    const { run, mode, m, map, r } = view.state;
    const press = (name, on, key, act) => make("button", { type: "button", "aria-pressed": String(on), onclick: act }, name, key ? make("kbd", {}, key) : null);
    find("viewer-methods").replaceChildren(...set().runs.map((one, k) => press(one.label, k === run, k < 9 ? String(k + 1) : "", () => view.set({ run: k, method: k }))));
    find("viewer-modes").replaceChildren(...MODES.map(([name, label, key]) => press(label, mode === name, key, () => view.set({ mode: name }))));
    const layers = [press("mask outline", Boolean(m), "m", () => view.set({ m: m ? 0 : 1 }))];
    if (gallery.findMaskRun() >= 0) layers.push(press("contrast map", Boolean(map), "c", () => view.set({ map: map ? 0 : 1 })));
    find("viewer-layers").replaceChildren(...layers);
    const against = readAgainst(i);
    const value = against.kind === "run" ? String(against.k) : against.kind;
    const options = [["input", "the input"]];
    if (gallery.requests.true[i]) options.push(["true", "the true edit"]);
    set().runs.forEach((one, k) => k !== run && options.push([String(k), one.label]));
    find("viewer-against").replaceChildren(...options.map(([key, label]) => make("option", { value: key, selected: key === value }, label)));
    find("viewer-ratio").max = set().strengths.length - 1;
    find("viewer-ratio").value = r;
    find("viewer-ratio-name").textContent = set().strength_name;
    find("viewer-ratio-value").textContent = set().strengths[r];
    find("viewer-ratio").setAttribute("aria-valuetext", `${set().strength_name} = ${set().strengths[r]}`);
    const file = gallery.findFile(run, r, i);
    find("viewer-file").hidden = !file;
    if (file) find("viewer-file").href = file;
    drawScores(i, run, against);
  }

  /** Every number of this edit, beside those of what it is compared with. */
  function drawScores(i, run, against) {
    const { r } = view.state;
    const rows = [];
    values.needAll(() => dialog.open && update());
    for (const { name, higher } of set().measured) {
      const own = values.get(name, run, r, i);
      const other = against.kind === "true" ? NaN : values.get(name, against.kind === "run" ? against.k : -1, r, i);
      if (Number.isNaN(own) && Number.isNaN(other)) continue;
      const arrow = higher === null ? "" : higher ? " ↑" : " ↓";
      rows.push(make("tr", {}, make("th", { scope: "row" }, name + arrow), make("td", {}, format(own)), make("td", {}, format(other))));
    }
    const head = make("tr", {}, make("th", {}, "score"), make("th", { scope: "col" }, set().runs[run].label), make("th", { scope: "col" }, against.kind === "run" ? set().runs[against.k].label : nameOf(against)));
    find("viewer-scores").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  function update() {
    const i = findPlace();
    if (i < 0) {
      clearInterval(timer);
      drawn = "";
      if (dialog.open) dialog.close();
      return;
    }
    drawStage(i);
    drawPanel(i);
    const place = gallery.order.indexOf(i);
    const where = place < 0 ? gallery.requests.ids[i] : `${gallery.requests.ids[i]} (${place + 1} of ${gallery.order.length})`;
    find("viewer-words").replaceChildren(gallery.drawWords(i), make("span", { class: "id" }, where));
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus(); // and not its first button, which would take the space bar
    }
  }

  function close() {
    if (view.state.open) view.set({ open: "" });
  }

  function step(by) {
    const next = gallery.move(by);
    if (next !== undefined) view.set({ open: gallery.requests.ids[next] });
  }

  find("viewer-close").addEventListener("click", close);
  dialog.addEventListener("close", close);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close(); // beside the picture
  });
  find("viewer-before").addEventListener("click", () => step(-1));
  find("viewer-next").addEventListener("click", () => step(1));
  find("viewer-link").addEventListener("click", () => Report.copy(location.href, "the link to this view"));
  find("viewer-ratio").addEventListener("input", (event) => view.set({ r: Number(event.target.value) }));
  find("viewer-against").addEventListener("change", (event) => view.set({ against: event.target.value }));

  view.watch((changed) => {
    const names = ["open", "run", "r", "mode", "against", "m", "map"];
    if (changed.has("set") || !gallery.requests) return;
    if (names.some((name) => changed.has(name)) && (view.state.open || changed.has("open"))) update();
  });

  return { update, step, close, MODES, get isOpen() { return dialog.open; }, hold: (on) => stage.classList.toggle("held", on) };
})();

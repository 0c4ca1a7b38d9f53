// What the page shows now: a state, which the address holds, and those who want to know of its changes.
"use strict";

Report.index = Report.received.get("index");
if (!Report.index) {
  document.querySelector("main").replaceChildren("data/index.js is not there: this page was moved without its folders.");
  throw new Error("data/index.js is not there");
}

/** An element; texts are texts, whatever is in them. */
Report.make = (tag, attributes = {}, ...children) => {
  const svg = Report.SVG.has(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") {
      for (const [key, part] of Object.entries(value)) element.style.setProperty(key, part);
    } else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};
Report.SVG = new Set(["svg", "g", "path", "line", "circle", "text", "rect"]);
Report.find = (id) => document.getElementById(id);

/** A number as far as it is worth reading. */
Report.format = (value) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const digits = Math.abs(value) >= 1000 ? 5 : 3;
  return String(Number(value.toPrecision(digits)));
};

/** Say something for a moment. */
Report.tell = (text) => {
  const place = Report.find("told");
  place.textContent = text;
  place.classList.add("seen");
  clearTimeout(Report.telling);
  Report.telling = setTimeout(() => place.classList.remove("seen"), 1800);
};

/** Put a text on the clipboard; from file:// not every browser has one, and an old way is left. */
Report.copy = async (text, what) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Report.make("textarea", { class: "off" });
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  Report.copied = text;
  Report.tell(`copied: ${what}`);
};

Report.view = {
  // Defaults; those that depend on the set are filled in by `choose`. What is as by default is not in the address.
  defaults: {
    set: 0, r: null, x: null, y: null, lx: 0, ly: 0, metric: "", first: 0, second: -1, at: null, order: "given", ff: 1,
    least: "", most: "", flag: "", text: "", hide: "", m: 0, d: 0, size: 1, of: -1, method: 0,
    open: "", row: "", run: 0, mode: "one", against: "input", map: 0, pub: 1,
  },
  state: {},
  listeners: [],

  /** Call back after each change, with the names of what changed. */
  watch(listener) {
    this.listeners.push(listener);
  },

  /** Change something: the address follows. */
  set(changes) {
    const changed = new Set(Object.keys(changes).filter((name) => this.state[name] !== changes[name]));
    if (!changed.size) return;
    Object.assign(this.state, changes);
    if (changed.has("set")) this.choose();
    this.write();
    for (const listener of this.listeners) listener(changed);
  },

  /** The defaults of the chosen set. */
  choose() {
    const set = Report.index.sets[this.state.set];
    const middle = Math.floor(set.strengths.length / 2);
    const axes = set.axes || { x: "", y: "" };
    const of = set.runs.findIndex((run) => !run.is_bound);
    this.fallback = { ...this.defaults, r: middle, at: middle, x: axes.x, y: axes.y, first: Math.max(of, 0) };
    this.fallback.method = this.fallback.first;
    this.fallback.run = this.fallback.first;
    if (set.pairs.length && axes.x) { // two reports: what differs most comes first
      const [first, second] = set.pairs[0];
      Object.assign(this.fallback, { metric: axes.x, first: second, second: first, order: "apart", run: second, method: second, against: String(first) });
    }
    const kept = ["set", "m", "d", "size"];
    this.state = { ...this.fallback, ...Object.fromEntries(kept.map((name) => [name, this.state[name]])) };
  },

  /** Take the state of the address; what is nonsense there is left out. */
  read() {
    const given = new URLSearchParams(location.hash.slice(1));
    const sets = Report.index.sets.length;
    const set = Number(given.get("set") || 0);
    this.state = { ...this.defaults, set: set >= 0 && set < sets ? Math.floor(set) : 0 };
    this.choose();
    const { runs, strengths, metrics, measured } = Report.index.sets[this.state.set];
    const most = { r: strengths.length, at: strengths.length, first: runs.length, second: runs.length, run: runs.length };
    Object.assign(most, { method: runs.length, of: runs.length, size: 4 });
    const axes = (name) => Object.hasOwn(metrics, name);
    const isIn = { x: axes, y: axes, metric: (name) => measured.some((one) => one.name === name) };
    for (const [name, text] of given) {
      if (name === "set" || !Object.hasOwn(this.fallback, name)) continue;
      const number = typeof this.fallback[name] === "number";
      const value = number ? Math.floor(Number(text)) : text;
      const least = name === "second" || name === "of" ? -1 : 0;
      if (number && !(value >= least && value < (most[name] || 2))) continue;
      if (isIn[name] && !isIn[name](value)) continue;
      this.state[name] = value;
    }
  },

  /** Bring the address up to date; no entry in the history for each step of the slider. */
  write() {
    const told = new URLSearchParams();
    for (const [name, value] of Object.entries(this.state)) {
      if (value !== this.fallback[name] || (name === "set" && value)) told.set(name, value);
    }
    const hash = `#${told}`;
    if (hash !== (location.hash || "#")) history.replaceState(null, "", hash);
  },

  get current() {
    return Report.index.sets[this.state.set];
  },

  /** Runs that are shown, by their places. */
  get shownRuns() {
    const hidden = this.hidden;
    return this.current.runs.map((_, k) => k).filter((k) => !hidden.has(`r${k}`));
  },

  /** What is hidden: runs as r0, r1, ..., and methods of the curve without a run as m0, ... */
  get hidden() {
    return new Set(this.state.hide ? this.state.hide.split(" ") : []);
  },
};

/** The numbers of a metric in the chosen set: (run, strength, request) to a value; null until they are there. */
Report.values = {
  kept: new Map(),
  all: new Set(), // sets of which all were asked for

  /** Load a metric, then call back; at once where it is there. */
  need(name, done) {
    const set = Report.view.current;
    const place = set.measured.findIndex((one) => one.name === name);
    if (place < 0) return;
    const key = `${set.key}/values/${place}`;
    if (this.kept.has(key)) return;
    Report.load(key).then((text) => {
      this.kept.set(key, Report.decode(text));
      done();
    }, (error) => Report.tell(error.message));
  },

  /** Load all metrics of the set, then call back, once. */
  needAll(done) {
    const { key, measured } = Report.view.current;
    if (this.all.has(key)) return;
    this.all.add(key);
    const loads = measured.map((_, place) => `${key}/values/${place}`);
    Promise.all(loads.map((name) => Report.load(name))).then((texts) => {
      texts.forEach((text, place) => this.kept.has(loads[place]) || this.kept.set(loads[place], Report.decode(text)));
      done();
    }, (error) => Report.tell(error.message));
  },

  /** One number; NaN where there is none. Of the unedited input with run = -1. */
  get(name, run, strength, request) {
    const set = Report.view.current;
    const place = set.measured.findIndex((one) => one.name === name);
    const numbers = place < 0 ? null : this.kept.get(`${set.key}/values/${place}`);
    if (!numbers) return NaN;
    const row = run < 0 ? set.runs.length * set.strengths.length : run * set.strengths.length + strength;
    return numbers[row * set.shown + request];
  },

  has(name) {
    return Report.view.current.measured.some((one) => one.name === name);
  },
};

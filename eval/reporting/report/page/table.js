// The table of all methods and strengths, and what can be copied of it; how the runs were made.
"use strict";

Report.table = (() => {
  const { make, find, view, copy } = Report;

  function draw() {
    const { table } = view.current;
    find("table-section").hidden = !table;
    if (!table) return;
    const head = make("tr", {}, make("th", { scope: "col" }, "method"), make("th", { scope: "col" }, view.current.strength_name),
      ...table.heads.map(({ name, arrow }) => make("th", { scope: "col" }, `${name} ${arrow}`)));
    let before = "";
    const rows = table.rows.map((row) => {
      const name = row.label === before ? "" : row.label;
      before = row.label;
      const cells = row.cells.map((text, i) => make("td", { title: row.tips[i] || null }, text));
      const command = name ? commandOf(row.method) : "";
      const button = command ? make("button", { type: "button", class: "quiet", title: command, onclick: () => copy(command, "the command of this row") }, "copy command") : null;
      const strength = view.current.strengths.indexOf(Number(row.strength));
      const choose = row.strength !== "" && strength >= 0
        ? make("button", { type: "button", class: "quiet", title: "show these edits", onclick: () => view.set({ r: strength }) }, row.strength)
        : row.strength;
      return make("tr", { class: name ? "first" : null }, make("th", { scope: "row", "aria-label": row.label }, name, button), make("td", {}, choose), ...cells);
    });
    find("table").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
    find("table-notes").replaceChildren(...table.notes.map((note) => make("li", {}, note)));
    find("table-note").textContent = `value ± larger half of the 95 % interval, n = ${view.current.n}`;
  }

  /** The command that makes a method's first run again. */
  function commandOf(name) {
    const method = view.current.methods.find((one) => one.name === name);
    const run = method && view.current.runs.find((one) => method.runs.includes(one.root));
    return run ? run.command : "";
  }

  /** Two reports: what differs between runs that belong together, what is certain first. */
  function drawPairs() {
    const { compared, pairs, strength_name: strength, shown } = view.current;
    find("pairs-section").hidden = !pairs.length;
    if (!pairs.length) return;
    const certain = compared.filter((row) => row.p <= 0.05).length;
    find("pairs-note").textContent = compared.length
      ? `${certain} of ${compared.length} are certain (p ≤ 0.05 after Holm's correction); paired intervals of 95 %`
      : "no score that both have: diffedit score makes them";
    const heads = ["method", strength, "score", "A", "B", "B − A", "interval", "p", "n", "edits of equal bytes"];
    const rows = compared.map((row) => {
      const r = view.current.strengths.indexOf(row.strength);
      const show = () => {
        view.set({ r, at: r, metric: row.metric, first: row.second, second: row.first, order: "apart", against: String(row.first), run: row.second, method: row.second });
        find("gallery-section").scrollIntoView();
      };
      const { format } = Report;
      const name = make("button", { type: "button", class: "quiet", title: "show these pictures, those that differ most first", onclick: show }, row.label);
      const interval = row.low === null ? "–" : `[${format(row.low)}, ${format(row.high)}]`;
      const texts = [String(row.strength), row.metric, format(row.a), format(row.b), format(row.difference), interval, row.p < 0.001 ? "< 0.001" : row.p.toFixed(3), String(row.n), `${row.identical} of ${shown}`];
      return make("tr", { class: row.p <= 0.05 ? "certain" : null }, make("th", { scope: "row" }, name), ...texts.map((text) => make("td", {}, text)));
    });
    const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
    find("pairs").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  function drawFoot() {
    const set = view.current;
    const parts = set.runs.map(drawRun);
    if (set.differences.length) {
      const head = make("tr", {}, make("th", { scope: "col" }, "setting"), ...set.runs.map((run) => make("th", { scope: "col" }, run.label)));
      const rows = set.differences.map(({ key, values }) => make("tr", {}, make("th", { scope: "row" }, key), ...values.map((value) => make("td", {}, value || "–"))));
      const table = make("table", { class: "differences" }, make("thead", {}, head), make("tbody", {}, ...rows));
      parts.push(make("details", {}, make("summary", {}, "Settings that differ"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "settings that differ" }, table)));
    }
    const commands = Report.index.commands.map(([what, command]) => make("div", {}, make("p", {}, what), makeCommand(command)));
    if (commands.length) parts.push(make("h3", {}, "Then"), ...commands);
    find("runs").replaceChildren(...parts);
  }

  function drawRun(run) {
    const cost = (value, unit) => (value === null ? null : `${Report.format(value)} ${unit}`);
    const facts = [`n = ${run.n}`, run.done < run.n ? `${run.n - run.done} without edits` : null,
      cost(run.cost.evaluations, "evaluations an edit"), cost(run.cost.all, "for all its strengths together"), cost(run.cost.seconds, "s an edit")];
    const pairs = (values) => make("dl", { class: "pairs" }, ...Object.entries(values).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
    const body = [make("p", { class: "soft" }, run.root)];
    if (run.command) body.push(makeCommand(run.command));
    else body.push(make("p", { class: "soft" }, "No command alone makes this run: it was put together in Python, or by files beside conf/. Its config is below."));
    if (Object.keys(run.versions).length) body.push(make("h4", {}, "versions"), pairs(run.versions));
    if (Object.keys(run.weights).length) body.push(make("h4", {}, "weights, by their hashes"), pairs(run.weights));
    body.push(make("h4", {}, "config"), make("pre", { tabindex: "0" }, run.config));
    const summary = make("summary", {}, make("strong", {}, run.label), make("span", { class: "soft" }, ` ${facts.filter(Boolean).join(" · ")}`));
    return make("details", { class: "run" }, summary, ...body);
  }

  function makeCommand(command) {
    return make("div", { class: "command" }, make("code", { tabindex: "0" }, command), make("button", { type: "button", onclick: () => copy(command, "the command") }, "copy command"));
  }

  find("copy-latex").addEventListener("click", () => copy(view.current.table.latex, "the table in LaTeX"));

  return { draw, drawPairs, drawFoot };
})();

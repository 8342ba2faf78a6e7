"use strict";
const report = JSON.parse(document.getElementById("report-data").textContent);

// Figures: drawn when scrolled near, all of them before printing, and anew when their task shows another view.
const options = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };

function draw(div) {
  const figure = report.figures[div.id][div.dataset.view];
  div.style.minHeight = "";
  div.setAttribute("aria-label", figure.layout.meta.alt);
  Plotly.react(div, structuredClone(figure.data), structuredClone(figure.layout), options);
  div.dataset.drawn = div.dataset.view;
}

const plots = [...document.querySelectorAll(".plot")];
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && target.dataset.drawn !== target.dataset.view) draw(target);
  }
}, { rootMargin: "600px" });
plots.forEach((div) => near.observe(div));
addEventListener("beforeprint", () => plots.filter((div) => div.dataset.drawn !== div.dataset.view).forEach(draw));

// Views: the one that has what was just chosen and agrees with most of the other selectors.
function show(form, changed) {
  const wanted = Object.fromEntries([...form.querySelectorAll("select")].map((s) => [s.name, s.value]));
  const figures = [...form.closest("section").querySelectorAll(".plot")];
  const fields = ["metric", "objective", "domain", "protocol", "shots"];
  const views = Object.keys(report.figures[figures[0].id]).map((key) => [key, key.split("|")]);
  const agree = (parts) => fields.filter((f, i) => wanted[f] === undefined || wanted[f] === parts[i]).length;
  const able = views.filter(([, parts]) => parts[fields.indexOf(changed)] === wanted[changed]);
  const [key, parts] = able.reduce((best, view) => (agree(view[1]) > agree(best[1]) ? view : best));
  form.querySelectorAll("select").forEach((s) => { s.value = parts[fields.indexOf(s.name)]; });
  figures.forEach((div) => { div.dataset.view = key; draw(div); });
}
document.querySelectorAll("form.view").forEach((form) => {
  form.addEventListener("change", (event) => show(form, event.target.name));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.reset();
});

// The table of all results: searched, sorted, shown 100 rows at a time, saved as CSV.
const { columns, data } = report.results;
const table = document.getElementById("table");
if (table) {
  const all = data[0].map((_, i) => data.map((column) => column[i]));
  const text = all.map((row) => row.join(" ").toLowerCase());
  const heads = table.tHead.rows[0];
  let rows = all, shown = 100, sorted = null, up = true;

  const compare = (a, b) => (a === null) - (b === null) || (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const fill = () => {
    const body = document.createElement("tbody");
    for (const row of rows.slice(0, shown)) {
      const line = body.insertRow();
      for (const value of row) {
        const cell = line.insertCell();
        cell.textContent = value ?? "–";
        if (typeof value === "number") cell.className = "number";
      }
    }
    table.tBodies[0].replaceWith(body);
    document.getElementById("count").textContent = `${rows.length} of ${all.length} rows, ${Math.min(shown, rows.length)} shown`;
    document.getElementById("more").hidden = shown >= rows.length;
  };
  const update = () => {
    const words = document.getElementById("search").value.toLowerCase().split(/\s+/);
    rows = all.filter((_, i) => words.every((word) => text[i].includes(word)));
    if (sorted !== null) rows.sort((a, b) => compare(a[sorted], b[sorted]) * (up ? 1 : -1));
    [...heads.cells].forEach((cell, i) => cell.setAttribute("aria-sort", i !== sorted ? "none" : up ? "ascending" : "descending"));
    shown = 100;
    fill();
  };
  columns.forEach((name, i) => {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => { up = sorted === i ? !up : true; sorted = i; update(); });
    cell.scope = "col";
    cell.append(button);
    heads.append(cell);
  });
  document.getElementById("search").addEventListener("input", update);
  document.getElementById("more").addEventListener("click", () => { shown += 500; fill(); });
  document.getElementById("download").addEventListener("click", () => {
    const quote = (value) => (/[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
    const csv = [columns, ...rows].map((row) => row.map(quote).join(",")).join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
    link.download = "results.csv";
    link.click();
  });
  update();
}

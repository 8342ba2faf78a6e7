"use strict";

// The figures' data and the plotting library are gzip in base64; the browser has the inverse of both.
async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

let report = null;
const library = unpack("plotly").then((source) => {
  const script = document.createElement("script");
  script.textContent = source;
  document.head.append(script);
});

// Colours: figures are made for white paper. On a dark screen lightness is turned around, hues stay.
const darkScreen = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const PAPER = "#14191f";

function onDark(colour) {
  if (colour === "white") return PAPER;
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  const rgb = /^rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*([\d.]+)\s*)?\)$/.exec(colour);
  if (!hex && !rgb) return colour;
  const [red, green, blue] = (hex ? hex.slice(1).map((pair) => parseInt(pair, 16)) : rgb.slice(1, 4).map(Number)).map((value) => value / 255);
  const most = Math.max(red, green, blue), least = Math.min(red, green, blue), span = most - least;
  const lightness = (most + least) / 2;
  const saturation = span === 0 ? 0 : span / (1 - Math.abs(2 * lightness - 1));
  let hue = 0;
  if (span > 0 && most === red) hue = ((green - blue) / span + 6) % 6;
  else if (span > 0 && most === green) hue = (blue - red) / span + 2;
  else if (span > 0) hue = (red - green) / span + 4;
  const alpha = rgb && rgb[4] !== undefined ? Math.min(1, 1.6 * Number(rgb[4])) : 1;
  return `hsla(${(60 * hue).toFixed(0)},${(100 * saturation).toFixed(0)}%,${(15 + 75 * (1 - lightness)).toFixed(0)}%,${alpha})`;
}

function recoloured(value, key) {
  if (typeof value === "string") return /colou?r$/.test(key) ? onDark(value) : value;
  if (Array.isArray(value)) return /colou?r$/.test(key) ? value.map((entry) => recoloured(entry, key)) : value.map((entry) => recoloured(entry, ""));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, recoloured(inner, name)]));
  return value;
}

// Figures: drawn when scrolled near, all of them before printing, and anew when their task shows another view.
const options = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]] };
const PRINT_WIDTH = 660; // pixels: what A4 leaves between its margins

function figureOf(div) {
  return report.figures[div.id][div.dataset.view];
}

function draw(div) {
  let figure = structuredClone(figureOf(div));
  if (darkScreen.matches && !printing) figure = recoloured(figure, "");
  if (printing) {
    figure.layout.width = PRINT_WIDTH;
    figure.layout.height = Math.max(240, 0.85 * figure.layout.height);
  }
  div.style.minHeight = "";
  div.setAttribute("aria-label", figure.layout.meta.alt);
  Plotly.react(div, figure.data, figure.layout, { ...options, responsive: !printing });
  div.dataset.drawn = div.dataset.view;
  const numbers = document.querySelector(`details.numbers[data-figure="${div.id}"]`);
  if (numbers && numbers.open) fillNumbers(numbers);
}

const plots = [...document.querySelectorAll(".plot")];

function watch() {
  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && target.dataset.drawn !== target.dataset.view) draw(target);
    }
  }, { rootMargin: "600px" });
  plots.forEach((div) => near.observe(div));
  addEventListener("beforeprint", () => { printing = true; plots.forEach(draw); });
  addEventListener("afterprint", () => { printing = false; plots.forEach(draw); });
  darkScreen.addEventListener("change", () => plots.filter((div) => div.dataset.drawn !== undefined).forEach(draw));
}

// Views: the one that has what was just chosen and agrees with most of the other selectors.
const FIELDS = ["metric", "series", "domain", "protocol", "shots"];

function show(form, changed) {
  const wanted = Object.fromEntries([...form.querySelectorAll("select")].map((select) => [select.name, select.value]));
  const figures = [...form.closest("section").querySelectorAll(".plot")];
  if (!figures.length) return;
  const views = Object.keys(report.figures[figures[0].id]).map((key) => [key, key.split("|")]);
  const agree = (parts) => FIELDS.filter((field, i) => wanted[field] === undefined || wanted[field] === parts[i]).length;
  const able = views.filter(([, parts]) => parts[FIELDS.indexOf(changed)] === wanted[changed]);
  const [key, parts] = able.reduce((best, view) => (agree(view[1]) > agree(best[1]) ? view : best));
  form.querySelectorAll("select").forEach((select) => { select.value = parts[FIELDS.indexOf(select.name)]; });
  figures.forEach((div) => { div.dataset.view = key; draw(div); });
}

function listen() {
  document.querySelectorAll("form.view").forEach((form) => {
    form.addEventListener("change", (event) => show(form, event.target.name));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.reset();
  });
  document.querySelectorAll("button.save").forEach((button) => button.addEventListener("click", () => {
    const div = document.getElementById(button.dataset.figure);
    if (div.dataset.drawn !== div.dataset.view) draw(div);
    Plotly.downloadImage(div, { format: "svg", filename: div.id, width: Math.max(div.clientWidth, 640), height: figureOf(div).layout.height });
  }));
  document.querySelectorAll("details.numbers").forEach((details) => details.addEventListener("toggle", () => {
    if (details.open) fillNumbers(details);
  }));
}

// The numbers of a figure: its own table where it has one, else a row per point that is drawn.
function fillNumbers(details) {
  const figure = figureOf(document.getElementById(details.dataset.figure));
  const { headings, rows } = figure.layout.meta.table ?? pointsOf(figure);
  const table = document.createElement("table");
  addRow(table.createTHead(), headings, "th");
  const body = table.createTBody();
  rows.forEach((row) => addRow(body, row, "td"));
  details.querySelector(".wide").replaceChildren(table);
}

function addRow(part, cells, tag) {
  const row = part.insertRow();
  for (const text of cells) {
    const cell = document.createElement(tag);
    cell.textContent = text;
    row.append(cell);
  }
}

function pointsOf({ data, layout }) {
  const title = (axis) => (axis?.title?.text ?? "").replaceAll("<br>", " ").replace(" (log scale)", "");
  const plain = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value ?? "–").replaceAll("<br>", " "));
  const sideways = layout.yaxis?.type === "category";
  const rows = [];
  for (const trace of data) {
    if (trace.hoverinfo === "skip" || !trace.x) continue;
    const error = sideways ? trace.error_x : trace.error_y;
    trace.x.forEach((x, i) => {
      const y = trace.y[i];
      if (x === null || y === null) return;
      const [place, value] = sideways ? [y, x] : [trace.customdata?.[i] ?? x, y];
      const half = error?.array?.[i];
      rows.push([trace.name ?? "", plain(place), plain(value), half ? plain(value - half) : "–", half ? plain(value + half) : "–"]);
    });
  }
  const [placeTitle, valueTitle] = sideways ? ["", title(layout.xaxis)] : [title(layout.xaxis), title(layout.yaxis)];
  return { headings: ["", placeTitle, valueTitle, "90 %: low", "high"], rows };
}

// The table of all results: searched, sorted, shown 100 rows at a time, saved as CSV.
function tabulate({ columns, data }) {
  const table = document.getElementById("table");
  if (!table) return;
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

async function start() {
  report = JSON.parse(await unpack("report-data"));
  tabulate(report.results);
  await library;
  watch();
  listen();
  document.documentElement.dataset.ready = "yes";
}
start();

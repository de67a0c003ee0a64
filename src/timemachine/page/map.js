// The hidden units: a heat map of their values over the text. A row of it, a unit, can be chosen.

const COLUMN = { character: 11, token: 15 }; // least width in pixels

/** Return the number of columns in a map: wide ones, or up to twice as many narrow ones for a long text. */
function columnsOf({ canvas }) {
  const most = Math.max(8, Math.floor(canvas.clientWidth / zoom() / COLUMN[model.noun]));
  return Math.max(Math.ceil(most / 2), Math.min(last() + 1, most));
}

/** Draw the states around t, in colours up to ± `most`, one pixel each, with their tokens below. */
function drawHeat(view, t) {
  const { model, reading, canvas, labels } = view, columns = columnsOf(view);
  let start = view.heatStart;
  if (t < start || t >= start + columns) start = t - columns + 1;
  start = view.heatStart = Math.max(0, Math.min(start, last() + 1 - columns));
  const states = reading.states.slice(start, Math.min(horizon(), start + columns)).map((h) => model.hiddens(h));
  const H = model.numUnits, largest = states.reduce((most, h) => Math.max(most, ...h.map(Math.abs)), 0);
  view.most = model.isBounded ? 1 : largest;
  view.range.textContent = Number(view.most.toPrecision(2));
  view.order = Array.from({ length: H }, (_, unit) => unit);
  const kept = find("sorted").checked ? reading.persistence() : null;
  if (kept) view.order.sort((a, b) => kept[b] - kept[a]);
  const style = getComputedStyle(document.documentElement);
  const [paper, plus, minus] = ["paper", "plus", "minus"].map((name) => style.getPropertyValue(`--${name}`).split(" ").map(Number));
  const pixels = new ImageData(columns, H);
  states.forEach((state, column) => view.order.forEach((unit, row) => {
    const h = state[unit], share = Math.min(1, Math.abs(h) / (view.most || 1)), towards = h < 0 ? minus : plus;
    const pixel = 4 * (row * columns + column);
    for (let c = 0; c < 3; c++) pixels.data[pixel + c] = paper[c] + share * (towards[c] - paper[c]);
    pixels.data[pixel + 3] = 255;
  }));
  Object.assign(canvas, { width: columns, height: H });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  view.map.style.setProperty("--units", H);
  canvas.style.imageRendering = H > canvas.clientHeight ? "auto" : "pixelated"; // several units per pixel?
  labels.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  labels.replaceChildren(...states.map((_, column) => {
    const token = shown(reading.tokens[start + column]).replace(/^U\+.+/, "□");
    return create("span", token, { className: start + column === t ? "at" : "" });
  }));
  drawUnit(view, t, largest ? "" : `; all are 0: every ${model.activation === "relu" ? "ReLU" : "unit"} is dead`);
}

/** Mark the row of the chosen unit, and describe the map. */
function drawUnit({ map, row, order, unit, model, reading }, t, dead) {
  row.hidden = unit === null;
  row.style.setProperty("--row", order.indexOf(unit));
  const said = unit === null ? `none of ${model.numUnits}; the text has the colours of surprise${dead}`
    : `unit ${unit + 1}: ${signed(model.hiddens(reading.states[t])[unit])} after ${quoted(t)}`;
  Object.assign(map, { ariaValueMax: model.numUnits, ariaValueNow: order.indexOf(unit) + 1, ariaValueText: said });
  map.title = `${model.numUnits} hidden units after each ${model.noun}${dead}`;
}

/** Choose a unit of one view; null: the text has the colours of surprise again. */
function chooseUnit(view, unit) {
  view.unit = unit;
  work();
}

for (const view of VIEWS) {
  view.map.addEventListener("click", ({ clientX, clientY }) => {
    const { left, top, width, height } = view.canvas.getBoundingClientRect(), H = view.model.numUnits;
    const row = Math.max(0, Math.floor(((clientY - top) / height) * H));
    if (row < H) chooseUnit(view, view.order[row] === view.unit ? null : view.order[row]); // or a token below the map
    choose(view.heatStart + Math.floor(((clientX - left) / width) * columnsOf(view)));
  });
  view.map.addEventListener("keydown", (event) => {
    const { order, unit } = view, steps = { ArrowUp: -1, ArrowDown: 1 }, letters = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key === "Escape") chooseUnit(view, null);
    else if (event.key in steps) chooseUnit(view, order[Math.max(0, Math.min(order.indexOf(unit) + steps[event.key], order.length - 1))]);
    else if (event.key in letters) choose(at() + letters[event.key]);
    else return;
    event.preventDefault();
  });
}
find("sorted").addEventListener("input", () => work());
find("no-unit").addEventListener("click", () => VIEWS.forEach((view) => chooseUnit(view, null)));

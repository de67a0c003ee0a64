// The hidden units: a heat map of their values over the text.

const COLUMN = { character: 11, token: 15 }; // least width in pixels
const canvas = find("heat"), columnLabels = find("columns");
let heatStart = 0; // first token in the map

/** Return the number of columns in the map: wide ones, or up to twice as many narrow ones for a long text. */
function columnsOf() {
  const most = Math.max(8, Math.floor(canvas.clientWidth / COLUMN[model.noun]));
  return Math.max(Math.ceil(most / 2), Math.min(last() + 1, most));
}

/** Draw the states around t, in colours up to ± `most`, one pixel each, with their tokens below. */
function drawHeat(t) {
  const columns = columnsOf(), style = getComputedStyle(document.documentElement);
  if (t < heatStart || t >= heatStart + columns) heatStart = t - columns + 1;
  heatStart = Math.max(0, Math.min(heatStart, last() + 1 - columns));
  const states = reading.states.slice(heatStart, Math.min(horizon(), heatStart + columns)).map((h) => model.hiddens(h));
  const largest = states.reduce((most, h) => Math.max(most, ...h.map(Math.abs)), 0), most = model.isBounded ? 1 : largest;
  const colourOf = (name) => style.getPropertyValue(`--${name}`).split(" ").map(Number);
  const [paper, plus, minus] = ["paper", "plus", "minus"].map(colourOf);
  const H = states[0].length;
  const pixels = new ImageData(columns, H);
  states.forEach((state, column) => state.forEach((h, unit) => {
    const share = Math.min(1, Math.abs(h) / (most || 1)), towards = h < 0 ? minus : plus, pixel = 4 * (unit * columns + column);
    for (let c = 0; c < 3; c++) pixels.data[pixel + c] = paper[c] + share * (towards[c] - paper[c]);
    pixels.data[pixel + 3] = 255;
  }));
  Object.assign(canvas, { width: columns, height: H });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.parentElement.style.setProperty("--units", H);
  canvas.style.imageRendering = H > canvas.clientHeight ? "auto" : "pixelated"; // several units per pixel?
  columnLabels.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  columnLabels.replaceChildren(...states.map((_, column) => {
    const token = shown(reading.tokens[heatStart + column]).replace(/^U\+.+/, "□");
    return create("span", token, { className: heatStart + column === t ? "at" : "" });
  }));
  document.querySelectorAll(".most").forEach((place) => (place.textContent = Number(most.toPrecision(2))));
  const said = largest ? "" : `; all are 0: every ${model.activation === "relu" ? "ReLU" : "unit"} is dead`;
  find("units").textContent = `${H} hidden units after each ${model.noun}${said}`;
  canvas.setAttribute("aria-label", `Heat map of ${H} units over ${states.length} ${model.noun}s${said}`);
}

columnLabels.addEventListener("click", ({ target }) => {
  if (target !== columnLabels) choose(heatStart + [...columnLabels.children].indexOf(target));
});

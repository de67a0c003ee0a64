// The hidden units: a heat map of their values over the text, and the unit that colours the text.

const COLUMN = { character: 11, token: 15 }, LABEL = { character: 20, token: 52 }; // width and height in pixels
const canvas = find("heat");
const DIM = 0.2; // factor for the colours of unselected units
const MIN_STATE = 1e-9; // smaller values count as 0
let heatStart = 0; // first token in the map

const short = (number) => (number > MIN_STATE ? String(Number(number.toPrecision(2))) : "0");
const signed = (number) => number.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");
const numUnits = () => model.hiddens(model.noState).length;

function maxAbsolute(vectors) {
  return vectors.reduce((most, vector) => vector.reduce((a, z) => Math.max(a, Math.abs(z)), most), MIN_STATE);
}

/** Return the value of the strongest colour of states. */
const maxState = (states) => (model.isBounded ? 1 : maxAbsolute(states));

/** Return colours of the page as [red, green, blue]. */
function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(`--${name}`).trim().split(" ").map(Number));
}

/**
 * Draw vectors as columns of a canvas, in colours up to ± `most`, with `beneath` pixels below them. If a unit is
 * selected, the others are dimmed. Return the pen, in pixels of the page.
 */
function drawVectors(target, vectors, columns, most, beneath = 0) {
  const [paper, plus, minus, ink] = colours("paper", "plus", "minus", "ink"), H = numUnits();
  const picture = Object.assign(create("canvas"), { width: columns, height: H }); // one pixel per number
  const pixels = new ImageData(columns, H);
  vectors.forEach((vector, column) => vector.forEach((h, unit) => {
    const dim = chosen.unit === null || chosen.unit === unit ? 1 : DIM, towards = h < 0 ? minus : plus;
    const share = dim * Math.min(1, Math.abs(h) / most), pixel = 4 * (unit * columns + column);
    for (let c = 0; c < 3; c++) pixels.data[pixel + c] = paper[c] + share * (towards[c] - paper[c]);
    pixels.data[pixel + 3] = 255;
  }));
  picture.getContext("2d").putImageData(pixels, 0, 0);
  const width = target.clientWidth, height = heightOfUnits(), pen = target.getContext("2d");
  Object.assign(target, { width: width * devicePixelRatio, height: (height + beneath) * devicePixelRatio });
  target.style.height = `${height + beneath}px`;
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.fillStyle = pen.strokeStyle = `rgb(${ink.join(" ")})`;
  pen.imageSmoothingEnabled = H > height;
  pen.drawImage(picture, 0, 0, width, height);
  return pen;
}

/** Return the height of the map in pixels: at least 4 per unit up to 64 units, and less in a small window. */
function heightOfUnits() {
  const perUnit = innerWidth < 960 || innerHeight < 900 ? 4 : 8;
  return Math.min(256, Math.max(96, perUnit * numUnits()));
}

/** Return the number of columns in the map: wide ones, or up to twice as many narrow ones for a long text. */
function columnsOf() {
  const most = Math.max(8, Math.floor(canvas.clientWidth / COLUMN[model.noun]));
  return Math.max(Math.ceil(most / 2), Math.min(reading.known, most));
}

/** Draw a token below its column; a token of several characters is rotated. */
function drawLabel(pen, token, x, y, width) {
  const isRotated = model.noun === "token";
  pen.save();
  pen.translate(x, y + (isRotated ? 4 : 15));
  if (isRotated) pen.rotate(Math.PI / 2);
  Object.assign(pen, isRotated ? { textBaseline: "middle" } : { textAlign: "center" });
  pen.fillText(isRotated ? shown(token) : shortened(token), 0, 0, isRotated ? LABEL[model.noun] - 8 : width);
  pen.restore();
}

/** Draw the states around t, with their tokens below. */
function drawHeat(t) {
  const columns = columnsOf(), height = heightOfUnits(), step = canvas.clientWidth / columns;
  if (t < heatStart || t >= heatStart + columns) heatStart = t - columns + 1;
  heatStart = Math.max(0, Math.min(heatStart, reading.known - columns));
  const inView = reading.states.slice(heatStart, Math.min(reading.known, heatStart + columns)).map(hiddensOf);
  const states = inView.slice(0, horizon() - heatStart), most = maxState(inView);
  const pen = drawVectors(canvas, states, columns, most, LABEL[model.noun]);
  pen.font = `${step > 18 ? 16 : 13}px ui-monospace, monospace`;
  states.forEach((_, column) => {
    drawLabel(pen, reading.tokens[heatStart + column], (column + 0.5) * step, height, step);
  });
  pen.lineWidth = 2;
  pen.strokeRect((t - heatStart) * step, 1, step, height + LABEL[model.noun] - 2);
  document.querySelectorAll(".most").forEach((place) => (place.textContent = short(most)));
  find("dead").hidden = maxAbsolute(reading.states.slice(0, reading.known)) > MIN_STATE;
  const units = `${numUnits()} units`, place = heatStart + states.length;
  find("dead").textContent = `All ${units} are 0: every ${model.activation === "relu" ? "ReLU" : "unit"} is dead.`;
  canvas.setAttribute("aria-label", `Heat map: ${units} over the ${states.length} ${model.noun}s up to ${place}`);
}

const hiddensOf = (state) => model.hiddens(state);

/** List the model's units, and show which one colours the text. */
function drawUnits() {
  const list = find("unit"), count = numUnits();
  if (chosen.unit >= count) chosen.unit = null;
  if (list.options.length !== count + 1) {
    const units = Array.from({ length: count }, (_, unit) => new Option(`unit ${unit}`, unit));
    list.replaceChildren(list.firstElementChild, ...units);
  }
  list.value = chosen.unit ?? "";
  find("of-surprise").hidden = chosen.unit !== null;
}

/** Colour the text by a unit's values; null: by surprise. */
function showUnit(unit) {
  chosen.unit = unit;
  drawUnits();
  draw();
}

find("unit").addEventListener("input", ({ target }) => showUnit(target.value === "" ? null : Number(target.value)));
canvas.addEventListener("click", ({ clientX, clientY }) => {
  const { left, top, width } = canvas.getBoundingClientRect();
  const unit = Math.max(0, Math.floor(((clientY - top) / heightOfUnits()) * numUnits()));
  if (unit < numUnits()) showUnit(unit); // the tokens are below the units
  choose(Math.max(0, Math.min(heatStart + Math.floor(((clientX - left) / width) * columnsOf()), last())));
});

// The hidden units: a heat map of their values over the text, and the one whose colours the text takes.

const COLUMN = { character: 11, token: 15 }, LABEL = { character: 20, token: 52 }; // width and height in pixels
const canvas = find("heat");
const DIM = 0.2; // of the colours of the units that are not chosen
const MIN_STATE = 1e-9; // what is below counts as 0
// Where a feature holds, by the last character of a token. The distances have no such places.
const PATTERNS = {
  spaces: /\s$/u, vowels: /[aeiou]\p{M}*$/iu, capitals: /\p{Uppercase}\p{M}*$/u, digits: /\p{Nd}$/u,
  "punctuation marks": /\p{P}$/u,
};
let heatStart = 0;

const short = (number) => (number > MIN_STATE ? String(Number(number.toPrecision(2))) : "0");
const signed = (number) => number.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

function maxAbsolute(vectors) {
  return vectors.reduce((most, vector) => vector.reduce((a, z) => Math.max(a, Math.abs(z)), most), MIN_STATE);
}

/** Return the value at which the colours of states end: 1 for tanh, else the largest there is. */
function maxState(states) {
  return run.activation === "tanh" ? 1 : maxAbsolute(states);
}

/** Return the units from top to bottom: similar ones together, or by correlation with the feature that sorts them. */
const order = () => (chosen.sorted === null ? run.order : run.units[chosen.sorted].order);

/** Return colours of the page as [red, green, blue]. */
function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(`--${name}`).trim().split(" ").map(Number));
}

/**
 * Draw vectors over the units into a canvas, one a column, with colours up to ± `most` and room `beneath` them. A unit
 * that is chosen stands out from the others, unless a feature sorts them. Return the pen, in pixels of the page.
 */
function drawVectors(target, vectors, columns, most, beneath = 0) {
  const [paper, warm, cold, ink] = colours("paper", "warm", "cold", "ink"), units = order();
  const picture = Object.assign(create("canvas"), { width: columns, height: units.length }); // a pixel is a number
  const pixels = new ImageData(columns, units.length);
  vectors.forEach((vector, column) => units.forEach((unit, row) => {
    const dim = chosen.unit === null || chosen.sorted !== null || chosen.unit === unit ? 1 : DIM;
    const h = vector[unit], share = dim * Math.min(1, Math.abs(h) / most), towards = h < 0 ? cold : warm;
    const colour = paper.map((part, c) => part + share * (towards[c] - part));
    pixels.data.set([...colour, 255], 4 * (row * columns + column));
  }));
  picture.getContext("2d").putImageData(pixels, 0, 0);
  const width = target.clientWidth, height = heightOfUnits(), pen = target.getContext("2d");
  Object.assign(target, { width: width * devicePixelRatio, height: (height + beneath) * devicePixelRatio });
  target.style.height = `${height + beneath}px`;
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.fillStyle = pen.strokeStyle = `rgb(${ink.join(" ")})`;
  pen.imageSmoothingEnabled = units.length > height;
  pen.drawImage(picture, 0, 0, width, height);
  return pen;
}

// On a small screen all of the map is in view together with the text.
const heightOfUnits = () => Math.min(innerHeight < 900 ? 128 : 256, Math.max(96, 8 * model.numHiddens));

/** Return the number of columns in the map: they are up to twice as wide where there is room. */
function columnsOf() {
  const most = Math.max(8, Math.floor(canvas.clientWidth / COLUMN[noun]));
  return Math.max(Math.ceil(most / 2), Math.min(reading.known, most));
}

/** Draw a token beneath a column: a character, or several downwards. */
function drawLabel(pen, token, x, y, width) {
  if (noun === "character") {
    pen.textAlign = "center";
    pen.fillText(shortened(token), x, y + 15, width);
    return;
  }
  pen.save();
  pen.translate(x, y + 4);
  pen.rotate(Math.PI / 2);
  pen.textBaseline = "middle";
  pen.fillText(shown(token), 0, 0, LABEL[noun] - 8);
  pen.restore();
}

/** Return where in the window the map has the values after the token at t. */
function columnBox(t) {
  const { left, top, width } = canvas.getBoundingClientRect(), step = width / columnsOf();
  return { left: left + (t - heatStart) * step, top, width: step, height: heightOfUnits() };
}

/** Draw the states over as many characters as fit, and the characters beneath. */
function drawHeat(t) {
  const columns = columnsOf(), height = heightOfUnits(), step = canvas.clientWidth / columns;
  if (t < heatStart || t >= heatStart + columns) heatStart = t - columns + 1;
  heatStart = Math.max(0, Math.min(heatStart, reading.known - columns));
  const inView = reading.states.slice(heatStart, Math.min(reading.known, heatStart + columns));
  const states = inView.slice(0, horizon() - heatStart), most = maxState(inView);
  const pen = drawVectors(canvas, states, columns, most, LABEL[noun]);
  pen.font = `${step > 18 ? 16 : 13}px ui-monospace, monospace`;
  const holds = PATTERNS[run.units[chosen.sorted]?.meaning];
  states.forEach((_, column) => {
    const token = reading.tokens[heatStart + column], x = column * step;
    drawLabel(pen, token, x + step / 2, height, step);
    if (holds?.test(token.normalize("NFD"))) pen.strokeRect(x + 0.5, 0.5, step - 1, height - 1);
  });
  pen.lineWidth = 2;
  pen.strokeRect((t - heatStart) * step, 1, step, height + LABEL[noun] - 2);
  document.querySelectorAll(".most").forEach((place) => (place.textContent = short(most)));
  find("dead").hidden = maxAbsolute(reading.states.slice(0, reading.known)) > MIN_STATE;
  const numUnits = `${model.numHiddens} units`, place = heatStart + states.length;
  find("dead").textContent = `All ${numUnits} are 0: every ${run.activation === "relu" ? "ReLU" : "unit"} is dead.`;
  canvas.setAttribute("aria-label", `Heat map: ${numUnits} over the ${states.length} ${noun}s up to ${place}`);
}

/** Say what the text's colours are, and how closely the units that have a meaning follow it at this epoch. */
function drawMeanings() {
  const { correlations } = run.epochs[chosen.epoch];
  document.querySelectorAll("#meanings button").forEach((button, place) => {
    const { unit, meaning } = run.units[place];
    button.textContent = `${meaning} ${signed(correlations[place])}`;
    button.title = `unit ${unit}`;
    button.setAttribute("aria-pressed", chosen.sorted === place);
  });
  find("unit").value = chosen.unit ?? "";
  find("of-surprise").hidden = chosen.unit !== null;
  find("of-unit").hidden = chosen.unit === null;
  find("unit-name").textContent = `unit ${chosen.unit}`;
}

function showUnit(unit, sorted = null) {
  Object.assign(chosen, { unit, sorted });
  draw();
}

function listenToUnits() {
  for (let unit = 0; unit < model.numHiddens; unit++) find("unit").add(new Option(`unit ${unit}`, unit));
  find("unit").addEventListener("input", ({ target }) => showUnit(target.value === "" ? null : Number(target.value)));
  run.units.forEach(({ unit }, place) => {
    const button = create("button");
    button.addEventListener("click", () => (chosen.sorted === place ? showUnit(null) : showUnit(unit, place)));
    find("meanings").append(button);
  });
  find("h-meanings").hidden = !run.units.length;
  for (const place of document.querySelectorAll("#heat, #cell canvas")) {
    place.addEventListener("click", ({ clientY }) => {
      const row = ((clientY - place.getBoundingClientRect().top) / heightOfUnits()) * model.numHiddens;
      const unit = order()[Math.floor(row)]; // there is none beneath, where the characters stand
      if (unit !== undefined) showUnit(unit);
    });
  }
  listenToPointer(canvas, (x) => {
    const { left, width } = canvas.getBoundingClientRect();
    const t = heatStart + Math.floor(((x - left) / width) * columnsOf());
    return t < 0 || t > last() ? null : t;
  });
}

// The hidden units: a heat map of their values over the text, and the one whose colours the text takes.

const COLUMN = { character: 11, token: 15 }, SIGN = { character: 20, token: 52 }; // pixels: a column, the signs beneath
const canvas = find("heat");
const DIM = 0.2; // of the colours of the units that are not chosen
const LEAST_STATE = 1e-9; // what is below counts as 0
// Where a feature holds, by the last character of a token. The distances have no such places.
const HOLDS = {
  spaces: /\s$/u, vowels: /[aeiou]\p{M}*$/iu, capitals: /\p{Uppercase}\p{M}*$/u, digits: /\p{Nd}$/u, "punctuation marks": /\p{P}$/u,
};
let heatStart = 0;

const short = (number) => (number > LEAST_STATE ? String(Number(number.toPrecision(2))) : "0");
const signed = (number) => number.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

function mostAbsolute(vectors) {
  return vectors.reduce((most, vector) => vector.reduce((a, z) => Math.max(a, Math.abs(z)), most), LEAST_STATE);
}

/** Return the value at which the colours of states end: 1 for tanh, else the largest there is. */
function mostOf(states) {
  return run.activation === "tanh" ? 1 : mostAbsolute(states);
}

function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(`--${name}`).trim().split(" ").map(Number));
}

/** Return the units from top to bottom: similar ones together, or by correlation with the feature that sorts the map. */
const order = () => (chosen.sorted === null ? run.order : run.units[chosen.sorted].order);

/** Return vectors over the units as a small picture, one a column, the units in the page's order, up to ± `most`; a unit
 * that is chosen stands out from the others, unless a feature sorts them. */
function picture(vectors, width, most) {
  const H = model.numHiddens, [paper, warm, cold] = colours("paper", "warm", "cold"), pixels = new ImageData(width, H);
  vectors.forEach((vector, column) => order().forEach((unit, row) => {
    const dim = chosen.unit === null || chosen.sorted !== null || chosen.unit === unit ? 1 : DIM;
    const h = vector[unit], share = dim * Math.min(1, Math.abs(h) / most), towards = h < 0 ? cold : warm;
    const pixel = 4 * (row * width + column);
    for (let c = 0; c < 3; c++) pixels.data[pixel + c] = paper[c] + share * (towards[c] - paper[c]);
    pixels.data[pixel + 3] = 255;
  }));
  const small = Object.assign(made("canvas"), { width, height: H });
  small.getContext("2d").putImageData(pixels, 0, 0);
  return small;
}

/** Draw vectors over the units into a canvas with room `beneath` them; return the pen, in pixels of the page. */
function drawVectors(place, vectors, columns, most, beneath = 0) {
  const width = place.clientWidth, height = heightOfUnits(), scale = devicePixelRatio, pen = place.getContext("2d");
  Object.assign(place, { width: width * scale, height: (height + beneath) * scale });
  place.style.height = `${height + beneath}px`;
  pen.scale(scale, scale);
  pen.fillStyle = pen.strokeStyle = `rgb(${colours("ink")[0].join(" ")})`;
  pen.imageSmoothingEnabled = model.numHiddens > height;
  pen.drawImage(picture(vectors, columns, most), 0, 0, width, height);
  return pen;
}

// On a small screen all of it is seen beside what one types.
const heightOfUnits = () => Math.min(innerHeight < 900 ? 128 : 256, Math.max(96, 8 * model.numHiddens));

/** Return the number of columns in the map: they are up to twice as wide where there is room. */
function columnsOf() {
  const most = Math.max(8, Math.floor(canvas.clientWidth / COLUMN[noun]));
  return Math.max(Math.ceil(most / 2), Math.min(reading.known, most));
}

/** Draw a character beneath a column, or a token, downwards. */
function drawSign(pen, token, x, y, width) {
  if (noun === "character") {
    pen.textAlign = "center";
    pen.fillText(inOneSign(token), x, y + 15, width);
    return;
  }
  pen.save();
  pen.translate(x, y + 4);
  pen.rotate(Math.PI / 2);
  pen.textBaseline = "middle";
  pen.fillText(shown(token), 0, 0, SIGN[noun] - 8);
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
  const states = inView.slice(0, horizon() - heatStart), most = mostOf(inView);
  const pen = drawVectors(canvas, states, columns, most, SIGN[noun]);
  pen.font = `${step > 18 ? 16 : 13}px ui-monospace, monospace`;
  const holds = HOLDS[run.units[chosen.sorted]?.meaning];
  states.forEach((_, column) => {
    const token = reading.tokens[heatStart + column], x = column * step;
    drawSign(pen, token, x + step / 2, height, step);
    if (holds?.test(token.normalize("NFD"))) pen.strokeRect(x + 0.5, 0.5, step - 1, height - 1);
  });
  pen.lineWidth = 2;
  pen.strokeRect((t - heatStart) * step, 1, step, height + SIGN[noun] - 2);
  document.querySelectorAll(".most").forEach((place) => (place.textContent = short(most)));
  find("dead").hidden = mostAbsolute(reading.states.slice(0, reading.known)) > LEAST_STATE;
  find("dead").textContent = `All ${model.numHiddens} units are 0: every ${run.activation === "relu" ? "ReLU" : "unit"} is dead.`;
  const kept = `${model.numHiddens} units over the ${states.length} ${noun}s up to ${heatStart + states.length}`;
  canvas.setAttribute("aria-label", `Heat map: ${kept}`);
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
    const button = made("button");
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

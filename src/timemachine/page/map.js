// The hidden units: a heat map of their values over the text.

const COLUMN = { character: 11, token: 15 }, LABEL = { character: 20, token: 52 }; // width and height in pixels
const canvas = find("heat");
let heatStart = 0; // first token in the map

/** Return colours of the page as [red, green, blue]. */
function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(`--${name}`).trim().split(" ").map(Number));
}

/** Return the height of the map in pixels: at least 4 per unit up to 64 units, and less in a small window. */
function heightOfUnits() {
  const isSmall = innerWidth < 960, perUnit = isSmall || innerHeight < 900 ? 4 : 8;
  return Math.min(isSmall ? 160 : 256, Math.max(96, perUnit * model.hiddens(model.noState).length));
}

/** Return the number of columns in the map: wide ones, or up to twice as many narrow ones for a long text. */
function columnsOf() {
  const most = Math.max(8, Math.floor(canvas.clientWidth / COLUMN[model.noun]));
  return Math.max(Math.ceil(most / 2), Math.min(reading.known, most));
}

/** Draw the states around t, in colours up to ± `most`, with their tokens below. */
function drawHeat(t) {
  const columns = columnsOf(), width = canvas.clientWidth, height = heightOfUnits(), step = width / columns;
  if (t < heatStart || t >= heatStart + columns) heatStart = t - columns + 1;
  heatStart = Math.max(0, Math.min(heatStart, reading.known - columns));
  const states = reading.states.slice(heatStart, Math.min(horizon(), heatStart + columns)).map((h) => model.hiddens(h));
  const largest = states.reduce((most, h) => Math.max(most, ...h.map(Math.abs)), 0), most = model.isBounded ? 1 : largest;
  const [paper, plus, minus, ink] = colours("paper", "plus", "minus", "ink"), H = states[0].length;
  const picture = create("canvas", "", { width: columns, height: H }), pixels = new ImageData(columns, H); // one per number
  states.forEach((state, column) => state.forEach((h, unit) => {
    const share = Math.min(1, Math.abs(h) / (most || 1)), towards = h < 0 ? minus : plus, pixel = 4 * (unit * columns + column);
    for (let c = 0; c < 3; c++) pixels.data[pixel + c] = paper[c] + share * (towards[c] - paper[c]);
    pixels.data[pixel + 3] = 255;
  }));
  picture.getContext("2d").putImageData(pixels, 0, 0);
  const label = LABEL[model.noun], pen = canvas.getContext("2d");
  Object.assign(canvas, { width: width * devicePixelRatio, height: (height + label) * devicePixelRatio });
  canvas.style.height = `${height + label}px`;
  pen.scale(devicePixelRatio, devicePixelRatio);
  Object.assign(pen, { imageSmoothingEnabled: H > height, lineWidth: 2, font: `${step > 18 ? 16 : 13}px ui-monospace, monospace` });
  pen.drawImage(picture, 0, 0, width, height);
  pen.fillStyle = pen.strokeStyle = `rgb(${ink.join(" ")})`;
  pen.strokeRect((t - heatStart) * step, 1, step, height + label - 2);
  const isRotated = model.noun === "token"; // of several characters
  Object.assign(pen, isRotated ? { textBaseline: "middle" } : { textAlign: "center" });
  states.forEach((_, column) => {
    const token = shown(reading.tokens[heatStart + column]);
    pen.save();
    pen.translate((column + 0.5) * step, height + (isRotated ? 4 : 15));
    if (isRotated) pen.rotate(Math.PI / 2);
    pen.fillText(isRotated ? token : token.replace(/^U\+.+/, "□"), 0, 0, isRotated ? label - 8 : step);
    pen.restore();
  });
  document.querySelectorAll(".most").forEach((place) => (place.textContent = Number(most.toPrecision(2))));
  const said = largest ? "" : `; all are 0: every ${model.activation === "relu" ? "ReLU" : "unit"} is dead`;
  find("units").textContent = `${H} hidden units after each ${model.noun}${said}`;
  canvas.setAttribute("aria-label", `Heat map of ${H} units over ${states.length} ${model.noun}s${said}`);
}

canvas.addEventListener("click", ({ clientX }) => {
  const { left, width } = canvas.getBoundingClientRect();
  choose(Math.max(0, Math.min(heatStart + Math.floor(((clientX - left) / width) * columnsOf()), last())));
});

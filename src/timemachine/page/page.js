// The page: what is typed goes through the model, and what the model makes of it is drawn. Nothing is sent anywhere.

const GHOST = 20, MORE = 200; // characters that the grey text has, and that one click writes
const SLICE = 12; // ms of reading between two drawings, so that a long text does not hold up a key
const MOST_BITS = 8; // where the colour of surprise ends
const LIKELIEST = 30, MOST_NAMED = 20; // characters that the bars show, and that one line names
const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
const find = (id) => document.getElementById(id);
const run = JSON.parse(find("run").textContent);
const model = new Model(run);
const reading = new Reading(model);
const box = find("text"), strip = find("strip"), canvas = find("heat");
const chosen = { alpha: null, seed: 0 }; // alpha null: greedy
let typed = []; // the characters that are read, as they are typed: where the vocabulary lacks one, not yet <unk>
let ghost = "", dismissed = false, selected = null, pointed = null, heatStart = 0;
let frame = 0, inspections = 0, speaking = 0;

/** Return a token as something that can be seen: a sign, a code point's number, or a mark on a circle. */
function shown(token) {
  if (token in SIGNS) return SIGNS[token];
  if (/^[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]$/u.test(token)) {
    return `U+${token.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  }
  return /^\p{Mn}$/u.test(token) ? `◌${token}` : token;
}
const percent = (p) => `${(100 * p).toFixed(p < 0.001 ? 3 : 1)} %`;
function made(name, textContent = "", className = "") {
  return Object.assign(document.createElement(name), { textContent, className });
}
const last = () => reading.characters.length - 1;
const at = () => Math.min(pointed ?? selected ?? Infinity, reading.known - 1);

/** Return a random source for this text and seed, so that the same two give the same continuation. */
function source() {
  return uniform((chosen.seed + Math.imul(reading.characters.length, 0x9e3779b1)) | 0);
}

/** Read what is in the box as it is now, and draw. */
function update() {
  dismissed = false;
  typed = model.read(box.value);
  reading.take(model.indices(box.value));
  drawUnknown();
  selected = caret();
  pointed = null;
  work();
}

function work() {
  cancelAnimationFrame(frame);
  const done = reading.advance(performance.now() + SLICE);
  drawTotal();
  if (done) drawNext();
  else {
    drawStrip();
    drawGhost("");
    frame = requestAnimationFrame(work);
  }
  inspect();
}

/** Return the index of the character before the caret. */
function caret() {
  return Math.min(model.read(box.value.slice(0, box.selectionEnd)).length - 1, last());
}

/** Return how many UTF-16 units the box still takes. */
function room() {
  return box.maxLength - box.value.length;
}

/** Draw what depends on how the next character is chosen: the bars and the grey text. */
function drawNext() {
  const state = reading.states[last()], logits = model.logits(state);
  drawGhost(dismissed ? "" : model.continuation(state, GHOST, room(), chosen.alpha, source()));
  let emitted = model.probabilities(logits, chosen.alpha ?? 1, true);
  if (chosen.alpha === null) {
    const likeliest = model.choice(logits, null);
    emitted = emitted.map((_, index) => (index === likeliest ? 1 : 0));
  }
  drawBars([...find("bars").children], reading.expected(last()), emitted);
}

function drawGhost(text) {
  ghost = text;
  find("typed").textContent = box.value;
  find("ghost").textContent = `${text}\u200b`; // so that an empty last line has its height
  find("take").disabled = !text;
  clearTimeout(speaking); // a screen reader hears the grey text when the typing rests
  if (!text || document.activeElement !== box) return;
  speaking = setTimeout(() => (find("spoken").textContent = `goes on: ${text}`), 1200);
}

/** Say which characters the vocabulary lacks. */
function drawUnknown() {
  const unknown = model.unknown(box.value), more = unknown.length > MOST_NAMED ? " …" : "";
  const named = unknown.slice(0, MOST_NAMED).map(shown).join(" ");
  find("unknown").hidden = !unknown.length;
  find("unknown").textContent =
    `The vocabulary has no ${named}${more}: the model reads <unk>, and bits and P are those of <unk>.`;
}

function say(text) {
  find("said").textContent = text;
}

/** Fill rows with the likeliest characters, in order. `emitted`: by what each is drawn, in rows that can be clicked. */
function drawBars(rows, P, emitted = null, was = null) {
  const order = Array.from(P.keys()).sort((a, b) => P[b] - P[a]);
  rows.forEach((row, rank) => {
    const character = order[rank], [key, track, number] = row.children;
    key.textContent = shown(model.tokens[character]);
    number.textContent = percent(P[character]);
    track.children[0].style.width = `${100 * P[character]}%`;
    track.children[1].style.width = emitted ? `${100 * emitted[character]}%` : "0";
    row.classList.toggle("was", character === was);
    if (!emitted) return;
    row.disabled = character === model.unk;
    row.dataset.character = character;
    const drawn = `drawn with ${percent(emitted[character])}`;
    const token = model.tokens[character], name = { " ": "space", "\n": "line break" }[token] ?? shown(token);
    row.setAttribute("aria-label", `${name}, ${percent(P[character])}, ${drawn}`);
  });
}

function barRow(name) {
  const row = made(name, "", "bar"), track = made("span", "", "track");
  track.append(made("i"), made("i"));
  row.append(made("b"), track, made("small"));
  return row;
}

/** Draw each character on the colour of its surprise; the spans that are there already are changed. */
function drawStrip() {
  while (strip.children.length > reading.known) strip.lastChild.remove();
  while (strip.children.length < reading.known) strip.append(made("span"));
  typed.slice(0, reading.known).forEach((token, t) => {
    const span = strip.children[t], bits = reading.surprises[t] ?? 0;
    const text = shown(token) + ({ " ": "\u200b", "\n": "\n" }[token] ?? ""); // a line may end there, or does
    const colour = `rgb(var(--hot) / ${(0.75 * Math.min(1, bits / MOST_BITS)).toFixed(3)})`;
    if (span.textContent !== text) span.textContent = text;
    span.classList.toggle("named", text.startsWith("U+"));
    span.classList.toggle("unknown", !model.index.has(token));
    if (span.dataset.colour !== colour) span.style.background = span.dataset.colour = colour;
  });
}

function drawTotal() {
  const bits = reading.bits(), count = reading.known - 1;
  find("total").textContent = bits === null
    ? "Type two characters: from the second one on the model had something to expect."
    : `${bits.toFixed(3)} bits per character, perplexity ${(2 ** bits).toFixed(2)}, over ${count} characters`;
}

/** Colour the text and show what was expected of the chosen character, once the answer to the key has been painted. */
function inspect() {
  const turn = ++inspections;
  requestAnimationFrame(() => setTimeout(() => turn === inspections && drawInspection()));
}

function drawInspection() {
  drawStrip();
  const t = at(), norms = reading.influence(t), most = Math.max(...norms, 1e-30);
  [...strip.children].forEach((span, s) => {
    const height = s < t ? Math.round((6 * norms[s]) / most) : 0;
    const shadow = height ? `inset 0 -${height}px rgb(var(--cold))` : "";
    if (span.dataset.shadow !== shadow) span.style.boxShadow = span.dataset.shadow = shadow;
    span.classList.toggle("at", s === t);
  });
  describe(t, norms);
  drawHeat(t);
}

function describe(t, norms) {
  const character = reading.characters[t], name = `“${shown(typed[t])}”`;
  find("expected").hidden = t === 0;
  let text = `${name} is the first character: nothing was expected yet.`;
  if (t) {
    const P = reading.expected(t - 1), p = P[character], place = P.filter((other) => other > p).length + 1;
    const bits = reading.surprises[t].toFixed(2), it = model.index.has(typed[t]) ? "it" : "<unk>";
    text = `${name}: ${bits} bits; the model gave ${it} ${percent(p)}, place ${place} of ${model.size}.`;
    const order = Array.from(norms.keys()).sort((a, b) => norms[b] - norms[a]).slice(0, 3);
    const mattered = order.map((s) => `“${shown(typed[s])}” ${t - s} back (${norms[s].toPrecision(2)})`);
    find("inspected").textContent = `${text} What mattered most: ${mattered.join(", ")}.`;
    drawBars([...find("expected").children], P, null, character);
  } else find("inspected").textContent = text;
  strip.setAttribute("aria-valuemax", reading.known);
  strip.setAttribute("aria-valuenow", t + 1);
  strip.setAttribute("aria-valuetext", text);
}

/** Draw the states over as many characters as fit, and the characters beneath. */
function drawHeat(t) {
  const scale = devicePixelRatio, width = canvas.clientWidth, H = model.numHiddens, letters = 20;
  const columns = Math.max(8, Math.floor(width / 11)), height = Math.min(512, Math.max(96, 4 * H));
  if (t < heatStart || t >= heatStart + columns) heatStart = t - columns + 1;
  heatStart = Math.max(0, Math.min(heatStart, reading.known - columns));
  const states = reading.states.slice(heatStart, Math.min(reading.known, heatStart + columns));
  const style = getComputedStyle(document.documentElement);
  const [paper, warm, cold, ink] = ["paper", "warm", "cold", "ink"].map((name) =>
    style.getPropertyValue(`--${name}`).trim().split(" ").map(Number));
  const isRelu = run.activation === "relu";
  const most = isRelu ? states.reduce((m, state) => state.reduce((a, h) => Math.max(a, h), m), 1e-9) : 1;
  const picture = new ImageData(columns, H);
  states.forEach((state, column) => state.forEach((h, unit) => {
    const share = Math.min(1, Math.abs(h) / most), towards = h < 0 ? cold : warm, pixel = 4 * (unit * columns + column);
    for (let c = 0; c < 3; c++) picture.data[pixel + c] = paper[c] + share * (towards[c] - paper[c]);
    picture.data[pixel + 3] = 255;
  }));
  const small = Object.assign(document.createElement("canvas"), { width: columns, height: H });
  small.getContext("2d").putImageData(picture, 0, 0);
  Object.assign(canvas, { width: width * scale, height: (height + letters) * scale });
  canvas.style.height = `${height + letters}px`;
  const pen = canvas.getContext("2d"), step = width / columns;
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = H > height;
  pen.drawImage(small, 0, 0, width, height);
  pen.fillStyle = pen.strokeStyle = `rgb(${ink.join(" ")})`;
  pen.font = "13px ui-monospace, monospace";
  pen.textAlign = "center";
  states.forEach((_, column) => {
    const sign = shown(typed[heatStart + column]).replace(/^U\+.+/, "□"); // there is no room for a number
    pen.fillText(sign, (column + 0.5) * step, height + 15, step);
  });
  pen.lineWidth = 2;
  pen.strokeRect((t - heatStart) * step, 1, step, height + letters - 2);
  document.querySelectorAll(".most").forEach((place) => (place.textContent = isRelu ? most.toPrecision(2) : "1"));
  const kept = `${H} units over the ${states.length} characters up to ${heatStart + states.length}`;
  canvas.setAttribute("aria-label", `Heat map: ${kept}`);
}

/** Return a text that the model draws after a line break: where to begin in a script that no example is in. */
function ownText() {
  reading.take(model.indices("\n"));
  reading.advance();
  return model.continuation(reading.states[last()], GHOST, room(), 1, source());
}

/** Put a text behind what is there, or in its place; in the box so that it can be undone. */
function write(text, replaces = false) {
  if (replaces) {
    box.focus();
    box.select();
  } else box.setSelectionRange(box.value.length, box.value.length);
  if (document.activeElement !== box || !document.execCommand("insertText", false, text)) {
    box.setRangeText(text.slice(0, room()), box.selectionStart, box.selectionEnd, "end");
    update();
  }
  box.scrollTop = 0;
}

function point(t) {
  if (t === pointed) return;
  pointed = t;
  inspect();
}

box.addEventListener("input", update);
box.addEventListener("keydown", (event) => {
  if (event.isComposing || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey || !ghost) return;
  if (event.key === "Tab") {
    event.preventDefault();
    write(ghost);
  } else if (event.key === "Escape") {
    dismissed = true;
    drawGhost("");
  }
});
document.addEventListener("selectionchange", () => {
  if (document.activeElement !== box || caret() === selected) return;
  selected = caret();
  inspect();
});
strip.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  selected = Math.max(0, Math.min(at() + steps[event.key], last()));
  pointed = null;
  inspect();
});
strip.addEventListener("pointermove", ({ target }) => {
  if (target !== strip) point([...strip.children].indexOf(target));
});
strip.addEventListener("click", () => (selected = at()));
canvas.addEventListener("pointermove", ({ offsetX }) => {
  const columns = Math.max(8, Math.floor(canvas.clientWidth / 11));
  point(Math.min(last(), heatStart + Math.floor((offsetX / canvas.clientWidth) * columns)));
});
for (const place of [strip, canvas]) place.addEventListener("pointerleave", () => point(null));

find("take").addEventListener("click", () => write(ghost));
find("more").addEventListener("click", () => {
  reading.advance();
  const text = model.continuation(reading.states[last()], MORE, room(), chosen.alpha, source());
  write(text);
  const how = chosen.alpha === null ? "each the likeliest" : `α ${chosen.alpha}, seed ${chosen.seed}`;
  const count = [...text].length;
  say(count ? `${count} characters written, ${how}.` : `The text has all of its ${box.maxLength} characters.`);
});
document.querySelectorAll(".example").forEach((button) =>
  button.addEventListener("click", () => write(button.dataset.text, true)));
find("bars").addEventListener("click", ({ target }) => {
  const row = target.closest("button");
  if (row) write(model.tokens[row.dataset.character]);
});
find("bars").addEventListener("keydown", (event) => {
  const rows = [...find("bars").querySelectorAll("button:not(:disabled)")];
  const place = rows.indexOf(document.activeElement);
  const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const row = rows[Math.max(0, Math.min(next, rows.length - 1))];
  rows.forEach((other) => (other.tabIndex = other === row ? 0 : -1)); // one stop for Tab
  row.focus();
});
document.querySelector("fieldset").addEventListener("input", ({ target }) => {
  if (target.id === "alpha") find("drawn").checked = true;
  const alpha = Number(find("alpha").value);
  chosen.alpha = find("greedy").checked ? null : alpha;
  chosen.seed = Math.trunc(Number(find("seed").value)) || 0;
  find("alpha-value").textContent = alpha;
  if (reading.known > last()) drawNext();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", inspect);
addEventListener("resize", inspect);

find("about").textContent = run.about;
for (const [name, value] of run.table) {
  const line = made("tr"), heading = made("th", name);
  heading.scope = "row";
  line.append(heading, made("td", value));
  find("run-table").append(line);
}
for (let rank = 0; rank < Math.min(LIKELIEST, model.size); rank++) {
  find("bars").append(Object.assign(barRow("button"), { type: "button", tabIndex: rank ? -1 : 0 }));
}
for (let rank = 0; rank < Math.min(5, model.size); rank++) find("expected").append(barRow("div"));
find("reads").textContent = {
  letters: "Of what you type the model sees letters, in lower case, and single spaces.",
  characters: "The model sees every character that you type; the mark ↵ is a line break.",
}[run.kind];
const examples = [...document.querySelectorAll(".example")];
for (const example of examples) example.hidden = model.unknown(example.dataset.text).length > 0;
const suits = examples.find((example) => !example.hidden);
box.value = suits ? suits.dataset.text : ownText();
update();

// The page: what is typed and chosen, and in which order it is read and drawn. Nothing is sent anywhere.

const SLICE = 12; // ms of work between two drawings, so that nothing holds up a key
const run = JSON.parse(find("run").textContent), noun = run.kind === "bpe" ? "token" : "character";
// Places are indices of tokens as they are read. alpha null: greedy; unit null: the colours are surprise.
const chosen = {
  place: 0, pointed: null, repeats: null, unit: null, sorted: null, alpha: 2, seed: 0, epoch: run.epochs.length - 1,
};
let model = new Model(run), reading = new Reading(model), whole = new Reading(model);
let frame = 0; // the next slice of reading
let drawings = 0; // counted, so that what one still has to draw is given up when another begins

const last = () => reading.indices.length - 1;
const at = () => Math.max(0, Math.min(chosen.pointed ?? chosen.place, reading.known - 1));

/** Read what is in the box as it is now, and draw. */
function update() {
  reading.take(box.value);
  stopMotion();
  Object.assign(play, { on: false, blank: false });
  Object.assign(chosen, { place: caret(), pointed: null, repeats: null });
  drawUnread();
  work();
}

/** Read on for a while; the grey text comes with the last character, the rest after it has been painted. */
function work() {
  cancelAnimationFrame(frame);
  if (!reading.advance(performance.now() + SLICE)) frame = requestAnimationFrame(work);
  drawTotal();
  drawGhost();
  draw();
}

/** Draw all that depends on the chosen character, once the answer to the key has been painted. */
function draw() {
  const turn = ++drawings;
  drawChoice();
  requestAnimationFrame(() => setTimeout(() => {
    if (turn !== drawings || !reading.known) return;
    const t = at();
    drawStep(t);
    drawMeanings();
    drawNext(t);
    drawForgotten(t);
    if (chosen.pointed === null) drawGhost();
    if (play.on) return chart.classList.add("measuring"); // what takes time is drawn when it pauses
    ALPHAS.forEach((_, place) => setTimeout(() => turn === drawings && drawAlpha(t, place))); // a key comes in between
    drawMemory(t);
  }));
}

/** Draw the step that reads the token at t. */
function drawStep(t) {
  drawStrip();
  drawChosen(t);
  drawExpected(t);
  drawHeat(t);
  drawRecurrence(t);
  drawPlay();
}

function choose(t) {
  pause();
  if (isToGuess(t)) return;
  if (t === chosen.place && chosen.pointed === null) return;
  Object.assign(chosen, { place: t, pointed: null });
  draw();
}

function point(t) {
  if (t === chosen.pointed || play.on || isToGuess(t)) return;
  chosen.pointed = t;
  draw();
}

/** Read the text anew with the weights after another epoch. */
function showEpoch(place) {
  const start = reading.start;
  pause();
  chosen.epoch = place;
  chosen.repeats = null; // what was said of it no longer holds
  report("");
  model = new Model(run, run.epochs[place].weights);
  [reading, whole] = [new Reading(model), new Reading(model)];
  reading.take(box.value);
  reading.forget(start);
  drawEpoch();
  work();
}

function drawEpoch() {
  const { epoch, train, val } = run.epochs[chosen.epoch];
  const perplexities = [train?.toFixed(2), val && `in validation ${val.toFixed(2)}`].filter(Boolean).join(", ");
  const when = epoch ? `after epoch ${epoch}` : "none yet: random weights";
  find("epoch-said").textContent = when + (perplexities && `: perplexity ${perplexities}`);
  find("epoch").setAttribute("aria-valuetext", find("epoch-said").textContent);
}

function start() {
  for (const [name, value] of run.table) {
    const heading = Object.assign(create("th", name), { scope: "row" });
    find("run-table").insertRow().append(heading, create("td", value));
  }
  find("reads").textContent = {
    letters: "It sees only a to z and single spaces, ␣.",
    characters: "It sees every character; ␣ is a space, ↵ a line break.",
    bpe: "It sees tokens; ␣ is a space, ↵ a line break.",
  }[run.kind];
  find("training").hidden = run.epochs.length < 2;
  Object.assign(find("epoch"), { max: run.epochs.length - 1, value: chosen.epoch });
  find("epoch").addEventListener("input", ({ target }) => showEpoch(Number(target.value)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
  document.querySelector("main").hidden = false;
  listenToText();
  listenToStrip();
  listenToUnits();
  listenToNext();
  listenToMemory();
  listenToPlay();
  drawEpoch();
  update();
}

start();

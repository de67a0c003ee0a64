// The order in which the page reads and draws.

let frame = 0; // the next slice of reading
let drawings = 0; // counted, so that a new drawing cancels the rest of an earlier one

function update() {
  reading.take(box.value);
  stopMotion();
  Object.assign(play, { on: false, blank: false });
  Object.assign(chosen, { place: caret(), pointed: null, repeats: null });
  drawUnread();
  work();
}

/** Read for a while and draw; continue in the next frame. */
function work() {
  cancelAnimationFrame(frame);
  if (!reading.advance(performance.now() + SLICE)) frame = requestAnimationFrame(work);
  drawTotal();
  drawGhost();
  draw();
}

/** Read the text with another model. `isWhole`: read all of it before drawing. */
function show(other, isWhole = false) {
  const { start } = reading;
  pause();
  model = other;
  [reading, whole] = [new Reading(model), new Reading(model)];
  reading.take(box.value);
  if (start <= last()) reading.forget(start);
  play.blank = false;
  chosen.repeats = null; // other weights repeat elsewhere
  if (isWhole) reading.advance();
  drawModel();
  drawUnread();
  work();
}

/** Draw what depends only on the model: words, the list of its units and its epoch. */
function drawModel() {
  document.querySelectorAll(".noun").forEach((place) => (place.textContent = model.noun));
  document.querySelectorAll(".phi").forEach((place) => (place.textContent = model.activation));
  document.body.classList.toggle("tokens", model.noun === "token");
  drawUnits();
  drawEpoch();
}

/** Draw the parts that depend on the chosen token, after the text has been painted. */
function draw() {
  const turn = ++drawings;
  drawChoice();
  requestAnimationFrame(() => setTimeout(() => {
    if (turn !== drawings || !reading.known) return;
    const t = at();
    drawStep(t);
    drawNext(t);
    drawForgotten(t);
    if (chosen.pointed === null) drawGhost();
    chart.classList.add("measuring");
    if (play.on || training.on) return; // the slow parts follow after a pause
    if (find("part-choice").open) drawSample(t);
    if (find("part-memory").open) drawMemory(t);
  }));
}

function drawStep(t) {
  drawStrip();
  drawChosen(t);
  drawHeat(t);
  drawExpected(t);
  drawRecurrence(t);
  drawPlay();
}

function choose(t) {
  pause();
  if (t === chosen.place && chosen.pointed === null) return;
  Object.assign(chosen, { place: t, pointed: null });
  draw();
}

function point(t) {
  if (t === chosen.pointed || play.on) return;
  chosen.pointed = t;
  draw();
}

function start() {
  for (const [name, value] of run.table) {
    find("run-table").insertRow().append(Object.assign(create("th", name), { scope: "row" }), create("td", value));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", () => [draw(), drawTraining()]);
  addEventListener("change", ({ target }) => target.type === "number" && (target.value = seedOf(target)));
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", draw);
  document.querySelector("main").hidden = false;
  drawTraining();
  drawModel();
  if (restore()) return;
  update();
  reading.advance();
  const surprises = reading.surprises.slice(0, NUM_GHOST);
  choose(Math.max(1, surprises.indexOf(Math.max(...surprises.slice(1))))); // a surprise that can be explained
  playEpochs();
}

start();

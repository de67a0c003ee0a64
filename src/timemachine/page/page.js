// The order in which the page reads and draws.

let frame = 0; // the next slice of reading
let drawings = 0; // counted, so that a new drawing cancels the rest of an earlier one

function update() {
  reading.take(box.value);
  pause();
  play.blank = false;
  chosen.place = last();
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

/** Read the text with another model. */
function show(other) {
  const isOther = other.noun !== model.noun;
  pause();
  model = other;
  reading = new Reading(model);
  reading.take(box.value);
  play.blank = false;
  if (isOther) chosen.place = last();
  drawModel();
  drawUnread();
  work();
}

/** Draw what depends only on the model: words, the list of its units and its epoch. */
function drawModel() {
  document.querySelectorAll(".noun").forEach((place) => (place.textContent = model.noun));
  document.querySelectorAll(".phi").forEach((place) => (place.textContent = model.activation));
  document.body.classList.toggle("tokens", model.noun === "token");
  find("plain").hidden = !model.isPlain;
  drawEpoch();
}

/** Draw the parts that depend on the chosen token, after the text has been painted. */
function draw() {
  const turn = ++drawings;
  requestAnimationFrame(() => setTimeout(() => {
    if (turn !== drawings || !reading.known) return;
    const t = at();
    drawStrip();
    drawChosen(t);
    drawHeat(t);
    drawPlay();
    if (find("part-next").open) drawNext(t);
  }));
}

function choose(t) {
  pause();
  play.blank = false;
  chosen.place = t;
  draw();
}

function start() {
  for (const [name, value] of run.table) {
    find("run-table").insertRow().append(Object.assign(create("th", name), { scope: "row" }), create("td", value));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", () => [draw(), drawCurves()]);
  addEventListener("change", ({ target }) => target.type === "number" && (target.value = numberOf(target)));
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", draw);
  document.querySelector("main").hidden = false;
  drawModel();
  setUp(run.experiments.at(run.text ? 0 : -1));
  drawChoice();
  if (restore()) return;
  update();
  reading.advance();
  const surprises = reading.surprises.slice(0, NUM_GHOST);
  choose(Math.max(1, surprises.indexOf(Math.max(...surprises.slice(1))))); // a surprise that can be explained
  if (run.epochs.length > 1 && !reducedMotion.matches) replayFrom(0);
}

start();

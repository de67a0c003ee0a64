// The order in which the page reads and draws.

const SLICE = 12; // ms of reading per frame, so that the page answers keys
let frame = 0; // the next slice of reading, or the drawing after the last one

/** Read the box's text again after a change. */
function update() {
  for (const view of views) view.reading.take(box.value);
  choose(last());
}

/** Choose the token at t. */
function choose(t) {
  pause();
  play.blank = false;
  chosen.place = Math.max(0, Math.min(t, last()));
  work();
}

/** Read the text with other networks, by their names; the one at `front` continues it. */
function show(models, names, front = 0) {
  const isOther = models[front].noun !== model.noun;
  showViews(models, names, front);
  drawModel();
  isOther ? choose(last()) : work(); // other tokens have other places
}

/** Read for a while and draw the grey text; in the next frame, continue or draw the rest. */
function work() {
  cancelAnimationFrame(frame);
  const until = performance.now() + SLICE, isRead = views.every((view) => view.reading.advance(until));
  drawGhost();
  frame = requestAnimationFrame(isRead ? draw : work);
}

/** Draw what depends only on the model: words and its epoch. */
function drawModel() {
  document.querySelectorAll(".noun").forEach((place) => (place.textContent = model.noun));
  document.querySelectorAll(".phi").forEach((place) => (place.textContent = model.activation));
  document.body.classList.toggle("tokens", model.noun === "token");
  find("views").classList.toggle("several", views.length > 1);
  find("plain").hidden = !model.isPlain;
  drawEpoch();
}

function draw() {
  const t = at(), isOfUnit = views.some(({ unit }) => unit !== null);
  drawUnread();
  for (const view of views) {
    drawTotal(view);
    drawHeat(view, t);
    drawStrip(view);
    drawChosen(view, t);
    drawNext(view, t);
  }
  find("by-unit").hidden = !isOfUnit;
  find("by-surprise").hidden = isOfUnit;
  drawGradients(t);
  drawPlay();
  if (drawing.clientWidth) drawNetwork(t); // not if it is hidden
}

function start() {
  for (const [name, value] of run.table) {
    find("run-table").insertRow().append(create("th", name, { scope: "row" }), create("td", value));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", work);
  addEventListener("resize", () => [work(), drawCurves()]);
  addEventListener("change", ({ target }) => target.type === "number" && (target.value = valueOf(target)));
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", work);
  document.querySelector("main").hidden = false;
  find("part-inside").open = innerWidth >= 960; // a phone has no room for it at first
  setUp(run.experiments.at(run.text ? 0 : -1)); // the last one generates its text
  showEpoch(chosen.epoch);
  drawChoice();
  if (restore()) return;
  reading.advance();
  const surprises = reading.surprises.slice(0, NUM_GHOST);
  choose(Math.max(1, surprises.indexOf(Math.max(...surprises.slice(1))))); // a surprise that can be explained
  if (run.epochs.length > 1 && !reducedMotion.matches) replayFrom(0);
}

start();

// Play: read the text one token at a time, with motion. Copies of elements move; the elements are already final.

const BEAT = { slow: 2600, fast: 700 }; // ms
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
// blank: nothing after the chosen token is drawn. landing: the result is still moving into the map.
const play = { on: false, blank: false, landing: false, turn: 0 };

/** Return the number of tokens whose states are drawn. */
function horizon() {
  return play.blank ? Math.min(reading.known, Math.max(chosen.place, at()) + (play.landing ? 0 : 1)) : reading.known;
}

/** Move a copy of an element, or of a box of the window, to another element. */
function move(element, to, duration, from = element.getBoundingClientRect()) {
  const copy = element.cloneNode(true), target = to.getBoundingClientRect?.() ?? to;
  Object.assign(copy, { id: "", className: "moving" });
  if (element.matches("canvas")) copy.getContext("2d").drawImage(element, 0, 0);
  for (const side of ["left", "top", "width", "height"]) copy.style[side] = `${target[side]}px`;
  document.body.append(copy);
  const [x, y] = [from.left - target.left, from.top - target.top];
  const start = `translate(${x}px, ${y}px) scale(${from.width / target.width}, ${from.height / target.height})`;
  const motion = copy.animate([{ transform: start }, { transform: "none" }], { duration, easing: "ease-in-out" });
  return motion.finished.then(() => copy.remove());
}

/** Show one step: x and h(t-1) arrive, their products are added, φ is applied, and the result moves to map and bars. */
async function moveStep(t, column, duration) {
  const turn = play.turn, part = duration / 5;
  const [before, fromState, x, fromInput, sum, state] = [...document.querySelectorAll("#cell canvas, #x")];
  const { left, top, height } = find("bars").getBoundingClientRect();
  const parts = [ // elements that arrive, and their motions
    [[before, x], () => [move(strip.children[t], x, part), column && move(before, before, part, column)]],
    [[fromState, fromInput], () => [move(before, fromState, part), move(x, fromInput, part)]],
    [[sum], () => [move(fromState, sum, part), move(fromInput, sum, part)]],
    [[state, find("one-unit")], () => [move(sum, state, part)]],
    [[], () => [move(state, columnBox(t), part), move(state, { left, top, width: 24, height }, part)]],
  ];
  for (const element of parts.flatMap(([arriving]) => arriving)) element.classList.add("awaited");
  for (const [arriving, start] of parts) {
    await Promise.all(start());
    if (turn !== play.turn) return;
    for (const element of arriving) element.classList.remove("awaited");
  }
}

/** Read the token at t: show its motion, then its result; while playing, then the next token. */
async function beat(t) {
  stopMotion();
  const turn = play.turn, duration = BEAT[find("fast").checked ? "fast" : "slow"];
  const column = t && t - 1 < horizon() ? columnBox(t - 1) : null;
  reading.advance();
  play.blank = true;
  Object.assign(chosen, { place: t, pointed: null });
  const isMoving = !reducedMotion.matches && find("part-step").open;
  if (isMoving) {
    play.landing = true;
    drawings++; // cancel a drawing that would show the result too early
    drawNext(t - 1);
    drawStep(t);
    await moveStep(t, column, 0.7 * duration);
    if (turn !== play.turn) return;
    play.landing = false;
  }
  if (t === last()) Object.assign(play, { on: false, blank: false });
  draw();
  if (!play.on) return;
  setTimeout(() => turn === play.turn && beat(t + 1), isMoving ? 0.3 * duration : duration);
}

function stopMotion() {
  play.turn++;
  play.landing = false;
  document.querySelectorAll(".moving").forEach((copy) => copy.remove());
  document.querySelectorAll(".awaited").forEach((element) => element.classList.remove("awaited"));
}

/** Stop at the current token; the tokens after it stay blank. */
function pause() {
  if (!play.on && !play.landing) return;
  stopMotion();
  play.on = false;
  draw();
}

function togglePlay() {
  if (play.on) return pause();
  if (training.on) setTraining(false);
  find("part-step").open = play.on = true;
  if (at() === last()) Object.assign(chosen, { place: -1, pointed: null }); // from the beginning
  document.body.classList.add("playing");
  const { top, bottom } = find("cell").getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) find("h-step").scrollIntoView();
  beat(chosen.place + 1);
}

/** Read one more token, or go back by one. */
function stepBy(step) {
  const t = at() + step;
  pause();
  if (t < 0 || t > last()) return;
  play.blank = t < last();
  (step > 0 ? beat : choose)(t);
}

function drawPlay() {
  find("play").textContent = play.on ? "❙❙ Pause" : "▶\ufe0e Play";
  find("back").disabled = at() === 0;
  find("forth").disabled = at() === last();
  document.body.classList.toggle("playing", play.blank);
}

find("play").addEventListener("click", togglePlay);
find("back").addEventListener("click", () => stepBy(-1));
find("forth").addEventListener("click", () => stepBy(1));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const isFree = event.target === document.body, step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === " " && (isFree || event.target === strip)) togglePlay();
  else if (step && (isFree || event.target.closest("#player"))) stepBy(step);
  else return;
  event.preventDefault();
});

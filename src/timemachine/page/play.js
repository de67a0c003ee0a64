// Play: the text is read in time, a token a beat. What moves is a copy; beneath it stands what `choose` would draw.

const BEAT = { slow: 2600, fast: 700 }; // ms
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
// blank: what comes after the chosen token is not drawn. landing: the result is still on its way into the map.
const play = { on: false, blank: false, landing: false, turn: 0 };

const TO_GUESS = "the thing the time traveller held in his hand was a glittering metallic framework ";
const guesses = { count: 0, yours: 0, network: 0 }; // bits, summed
const isGuessing = () => play.blank && find("guessing").checked;
const isToGuess = (t) => isGuessing() && t > chosen.place;

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

/** Show one step: x and h(t-1) arrive, their products are added, φ is applied, and the map gets the result. */
async function moveStep(t, column, duration) {
  const turn = play.turn, part = duration / 4;
  const [before, x, fromState, fromInput, sum, state] =
    ["before", "x", "from-state", "from-input", "sum", "state"].map(find);
  const parts = [ // what arrives, and what moves there
    [[before, x], () => [move(strip.children[t], x, part), column && move(before, before, part, column)]],
    [[fromState, fromInput], () => [move(before, fromState, part), move(x, fromInput, part)]],
    [[sum], () => [move(fromState, sum, part), move(fromInput, sum, part)]],
    [[state], () => [move(sum, state, part)]],
    [[], () => [move(state, columnBox(t), part)]],
  ];
  for (const element of parts.flatMap(([arriving]) => arriving)) element.classList.add("awaited");
  for (const [arriving, start] of parts) {
    await Promise.all(start());
    if (turn !== play.turn) return;
    for (const element of arriving) element.classList.remove("awaited");
  }
}

/** Read the token at t: its motion, then all that depends on it; while it plays, then the next. */
async function beat(t) {
  stopMotion();
  const turn = play.turn, duration = BEAT[find("fast").checked ? "fast" : "slow"];
  const column = t && t - 1 < horizon() ? columnBox(t - 1) : null;
  reading.advance();
  play.blank = true;
  Object.assign(chosen, { place: t, pointed: null });
  if (!reducedMotion.matches) {
    play.landing = true;
    drawings++; // a drawing that is due would show what is not there yet
    drawNext(t - 1);
    drawStep(t);
    await moveStep(t, column, 0.7 * duration);
    if (turn !== play.turn) return;
    play.landing = false;
  }
  if (t === last()) Object.assign(play, { on: false, blank: false });
  draw();
  if (!play.on) return;
  setTimeout(() => turn === play.turn && beat(t + 1), reducedMotion.matches ? duration : 0.3 * duration);
}

function stopMotion() {
  play.turn++;
  play.landing = false;
  document.querySelectorAll(".moving").forEach((copy) => copy.remove());
  document.querySelectorAll(".awaited").forEach((element) => element.classList.remove("awaited"));
}

/** Stop where it is; the future stays blank until the text changes. */
function pause() {
  if (!play.on && !play.landing) return;
  stopMotion();
  play.on = false;
  draw();
}

function togglePlay() {
  if (play.on) return pause();
  if (isGuessing()) return;
  play.on = true;
  if (at() === last()) Object.assign(chosen, { place: -1, pointed: null }); // from the beginning
  document.body.classList.add("playing", "running");
  const { top, bottom } = find("cell").getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) find("h-step").scrollIntoView();
  beat(chosen.place + 1);
}

/** Read one token more, or take one back. */
function stepBy(step) {
  const t = at() + step;
  pause();
  if (t < 0 || t > last() || isToGuess(t)) return;
  play.blank = t < last();
  if (step > 0) beat(t);
  else choose(t);
}

function drawPlay() {
  find("play").textContent = play.on ? "❙❙ Pause" : "▶\ufe0e Play";
  find("back").disabled = at() === 0;
  find("forth").disabled = at() === last() || isGuessing();
  find("play").disabled = isGuessing();
  find("guesses").hidden = !find("guessing").checked;
  find("guess").disabled = !isGuessing();
  document.body.classList.toggle("playing", play.blank);
  document.body.classList.toggle("running", play.on);
  document.body.classList.toggle("guessing", isGuessing());
}

/** Begin to guess each token before it is read, in a text that nobody has typed, or end. */
function toggleGuessing() {
  const text = example(TO_GUESS), isOn = find("guessing").checked;
  pause();
  if (isOn && !model.unknown(text).length) write(text, 0, box.value.length);
  Object.assign(guesses, { count: 0, yours: 0, network: 0 });
  play.blank = isOn && last() > 0;
  if (isOn) Object.assign(chosen, { place: 0, pointed: null });
  drawPlay();
  find("score").textContent = model.bytePairs ? "Enter takes it." : "";
  if (isOn) find("guess").focus({ preventScroll: true });
  draw();
}

/** Count a guess, which has probability 1/2 and shares the rest among the other tokens, and read the true one. */
function guess(text) {
  const t = chosen.place + 1, token = reading.tokens[t], trim = (it) => it.trim() || it;
  const isRight = model.bytePairs ? trim(text) === trim(token) : model.read(text)[0] === token;
  reading.advance();
  guesses.count++;
  guesses.yours += isRight ? 1 : Math.log2(2 * (model.size - 1));
  guesses.network += reading.surprises[t];
  const [yours, network] = [guesses.yours, guesses.network].map((bits) => (bits / guesses.count).toFixed(2));
  find("score").textContent = `${isRight ? "Right" : "No"}: ${quoted(t)}. ` +
    `You ${yours} bits per ${noun}, the network ${network}, over ${counted(guesses.count)}.`;
  find("guess").value = "";
  beat(t);
}

function listenToPlay() {
  find("guessing").addEventListener("input", toggleGuessing);
  find("guess").addEventListener("input", ({ target }) => target.value && !model.bytePairs && guess(target.value));
  find("guess").addEventListener("keydown", ({ key, target }) => {
    if (key === "Enter" && model.bytePairs && target.value) guess(target.value);
  });
  find("play").addEventListener("click", togglePlay);
  find("back").addEventListener("click", () => stepBy(-1));
  find("forth").addEventListener("click", () => stepBy(1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const isFree = event.target === document.body, step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === " " && (isFree || event.target === strip || event.target === canvas)) togglePlay();
    else if (step && (isFree || event.target.closest("#player"))) stepBy(step);
    else return;
    event.preventDefault();
  });
}

// The text as the model reads it, each token on the colour of its surprise or of a unit's value. One is chosen here.

const MAX_BITS = 8; // where the colour of surprise ends
const strip = find("strip");

/** Draw the tokens that are read so far; of a long text only the changes, which is faster. */
function drawStrip() {
  while (strip.children.length > reading.known) strip.lastChild.remove();
  while (strip.children.length < reading.known) strip.append(create("span"));
  const most = chosen.unit === null ? null : maxState(reading.states);
  [...strip.children].forEach((span, t) => {
    const token = reading.tokens[t], isAhead = play.blank && t > at(), h = reading.states[t][chosen.unit];
    const mayEnd = token === " " || /^ ./u.test(reading.tokens[t + 1] ?? ""); // whether a line may end here
    const text = shown(token) + (token.includes("\n") ? "\n" : mayEnd ? "\u200b" : "");
    if (span.textContent !== text) span.textContent = text;
    span.classList.toggle("named", text.startsWith("U+"));
    span.classList.toggle("unknown", !model.index.has(token));
    span.classList.toggle("forgotten", t < reading.start);
    span.classList.toggle("ahead", isAhead);
    span.classList.toggle("repeats", t === chosen.repeats);
    let background = tint("hot", reading.surprises[t] / MAX_BITS);
    if (chosen.unit !== null) background = tint(h < 0 ? "cold" : "warm", Math.abs(h) / most);
    if (t < reading.start || isAhead) background = "none";
    if (span.dataset.background !== background) span.style.background = span.dataset.background = background;
  });
}

function drawTotal() {
  const from = Math.max(1, reading.start), bits = reading.bits(from), count = reading.known - from;
  const size = reading.tokens.slice(from, reading.known).reduce((sum, token) => sum + toBytes(token).length, 0);
  const perByte = model.bytePairs ? `; ${((bits * count) / size).toFixed(3)} bits per byte` : "";
  find("total").textContent = bits === null
    ? `Type two ${noun}s: from the second one on the model had something to expect.`
    : `${bits.toFixed(3)} bits per ${noun}, perplexity ${(2 ** bits).toFixed(2)}, over ${counted(count)}${perByte}`;
}

/** Mark the chosen character, bring it into view, and say how much it surprised. */
function drawChosen(t) {
  const span = strip.children[t], index = reading.indices[t];
  strip.querySelector(".at")?.classList.remove("at");
  span.classList.add("at");
  if (chosen.pointed === null) {
    const above = span.offsetTop - 4, below = span.offsetTop + span.offsetHeight + 4 - strip.clientHeight;
    strip.scrollTop = Math.max(below, Math.min(above, strip.scrollTop));
  }
  let text = `${quoted(t)} is the first ${noun}: nothing was expected yet.`;
  if (t) {
    const P = reading.expected(t), place = P.filter((other) => other > P[index]).length + 1;
    const it = model.index.has(reading.tokens[t]) ? "it" : "<unk>", bits = reading.surprises[t].toFixed(2);
    text = `${quoted(t)}: ${bits} bits; the model gave ${it} ${percent(P[index])}, place ${place} of ${model.size}.`;
  }
  find("inspected").textContent = text;
  strip.setAttribute("aria-valuemax", reading.known);
  strip.setAttribute("aria-valuenow", t + 1);
  strip.setAttribute("aria-valuetext", text);
}

/**
 * Let a pointer choose: a mouse shows what it is over and chooses by a click, a finger chooses by a tap or by moving
 * along. `placeOf` gives the place at a point of the window, or null.
 */
function listenToPointer(element, placeOf) {
  let down = null; // where a finger came down, until it moves along: at first it may be going to scroll
  element.addEventListener("pointerdown", (event) => (down = event.pointerType === "mouse" ? null : event));
  element.addEventListener("pointermove", ({ pointerType, clientX, clientY }) => {
    if (down && Math.abs(clientX - down.clientX) <= Math.abs(clientY - down.clientY)) return;
    down = null;
    const t = placeOf(clientX, clientY);
    if (t === null) return;
    if (pointerType === "mouse") point(t);
    else if (t !== chosen.place) choose(t);
  });
  element.addEventListener("pointerleave", () => point(null));
  element.addEventListener("click", ({ clientX, clientY }) => {
    const t = placeOf(clientX, clientY);
    if (t !== null) choose(t);
  });
}

/** Let the keys of a slider choose a place from 0 to the last one. */
function listenToArrows(element, placeOf, lastOf, chooseAt) {
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    chooseAt(Math.max(0, Math.min(placeOf() + steps[event.key], lastOf())));
  });
}

function listenToStrip() {
  for (const place of [strip, canvas]) listenToArrows(place, at, last, choose);
  listenToPointer(strip, (x, y) => {
    const t = [...strip.children].indexOf(document.elementFromPoint(x, y));
    return t < 0 ? null : t;
  });
}

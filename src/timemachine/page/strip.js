// The text as the model reads it, each character on the colour of its surprise or of a unit's value. One is chosen here.

const MOST_BITS = 8; // where the colour of surprise ends
const strip = find("strip");

/** Draw the characters that are read so far; the spans that are there already are changed. */
function drawStrip() {
  while (strip.children.length > reading.known) strip.lastChild.remove();
  while (strip.children.length < reading.known) strip.append(made("span"));
  const scale = chosen.unit === null ? 1 : mostOf(reading.states);
  typed.slice(0, reading.known).forEach((token, t) => {
    const span = strip.children[t];
    const mayEnd = token === " " || /^ ./u.test(typed[t + 1] ?? ""); // whether a line may end here
    const text = shown(token) + (token.includes("\n") ? "\n" : mayEnd ? "\u200b" : "");
    let colour = "hot", share = Math.min(1, (reading.surprises[t] ?? 0) / MOST_BITS);
    const isAhead = play.blank && t > at();
    if (chosen.unit !== null) {
      const h = reading.states[t][chosen.unit];
      [colour, share] = [h < 0 ? "cold" : "warm", Math.min(1, Math.abs(h) / scale)];
    }
    if (span.textContent !== text) span.textContent = text;
    span.classList.toggle("named", text.startsWith("U+"));
    span.classList.toggle("unknown", !model.index.has(token));
    span.classList.toggle("forgotten", t < reading.start);
    span.classList.toggle("ahead", isAhead);
    span.classList.toggle("repeats", t === chosen.repeats);
    const background = t < reading.start || isAhead ? "none" : `rgb(var(--${colour}) / calc(${share.toFixed(3)} * var(--most-${colour})))`;
    if (span.dataset.background !== background) span.style.background = span.dataset.background = background;
  });
}

function drawTotal() {
  const from = Math.max(1, reading.start), bits = reading.bits(from), count = reading.known - from;
  const size = typed.slice(from, reading.known).reduce((sum, token) => sum + toBytes(token).length, 0);
  const perByte = model.bytePairs ? `; ${((bits * count) / size).toFixed(3)} bits per byte` : "";
  find("total").textContent = bits === null
    ? `Type two ${noun}s: from the second one on the model had something to expect.`
    : `${bits.toFixed(3)} bits per ${noun}, perplexity ${(2 ** bits).toFixed(2)}, over ${counted(count)}${perByte}`;
}

/** Mark the chosen character, bring it into view, and say how much it surprised. */
function drawChosen(t) {
  const span = strip.children[t], character = reading.characters[t], name = `“${shown(typed[t])}”`;
  strip.querySelector(".at")?.classList.remove("at");
  span.classList.add("at");
  if (chosen.pointed === null) {
    const above = span.offsetTop - 4, below = span.offsetTop + span.offsetHeight + 4 - strip.clientHeight;
    strip.scrollTop = Math.max(below, Math.min(above, strip.scrollTop));
  }
  let text = `${name} is the first ${noun}: nothing was expected yet.`;
  if (t) {
    const P = reading.expected(t), place = P.filter((other) => other > P[character]).length + 1;
    const it = model.index.has(typed[t]) ? "it" : "<unk>", bits = reading.surprises[t].toFixed(2);
    text = `${name}: ${bits} bits; the model gave ${it} ${percent(P[character])}, place ${place} of ${model.size}.`;
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
    if (t === null || t === (pointerType === "mouse" ? chosen.pointed : chosen.place)) return;
    if (pointerType === "mouse") point(t);
    else choose(t);
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

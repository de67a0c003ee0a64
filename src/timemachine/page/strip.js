// The tokens of the text on colours of surprise, with bars for the gradient. One is chosen here.

const MAX_BITS = 8; // surprise of the strongest colour
const MAX_GRADIENT = 100; // earlier states whose gradient is shown
const strip = find("strip");

/** Draw the tokens of the text. Only changes are written, which is faster in a long text. */
function drawStrip() {
  while (strip.children.length > reading.tokens.length) strip.lastChild.remove();
  while (strip.children.length < reading.tokens.length) strip.append(create("span"));
  [...strip.children].forEach((span, t) => {
    const token = reading.tokens[t], isAhead = play.blank && t > at();
    const mayEnd = token === " " || /^ ./u.test(reading.tokens[t + 1] ?? ""); // a line may end here
    const text = shown(token) + (token.includes("\n") ? "\n" : mayEnd ? "\u200b" : "");
    if (span.textContent !== text) span.textContent = text;
    const marks = { named: text.startsWith("U+"), unknown: !model.index.has(token), ahead: isAhead };
    for (const [mark, isOn] of Object.entries(marks)) span.classList.toggle(mark, isOn);
    const share = Math.min(1, reading.surprises[t] / MAX_BITS).toFixed(3); // of the colour that keeps text readable
    const background = isAhead ? "none" : `rgb(var(--hot) / calc(${share} * var(--most-hot)))`;
    if (span.dataset.background !== background) span.style.backgroundColor = span.dataset.background = background;
  });
}

/** Draw, below each earlier token, the gradient of the loss of the token at t with respect to the state after it. */
function drawGradient(t) {
  const norms = [];
  if (!play.on && !training.on) for (const norm of reading.gradients(t)) if (norms.push(norm) === MAX_GRADIENT) break;
  const most = Math.max(...norms), back = norms.findLastIndex((norm) => norm >= 0.01 * most) + 1;
  [...strip.children].forEach((span, s) => {
    const share = norms[t - 1 - s] / most || 0;
    if (span.dataset.gradient !== `${share}`) span.style.setProperty("--gradient", span.dataset.gradient = share);
  });
  const fall = back < norms.length ? `: below 1% of the largest beyond ${counted(back)} back` : "";
  find("gradient").style.visibility = norms.length ? "visible" : "hidden";
  find("gradient-said").textContent = `gradient of the loss of ${quoted(t)} at each earlier state${fall}`;
}

function drawTotal() {
  const bits = reading.bits(), count = last();
  const size = reading.tokens.slice(1).reduce((sum, token) => sum + toBytes(token).length, 0);
  const perByte = model.bytePairs ? `; ${((bits * count) / size).toFixed(3)} bits per byte` : "";
  find("total").textContent = bits === null
    ? `Type at least two ${model.noun}s: the first one has no prediction.`
    : `${bits.toFixed(3)} bits per ${model.noun}, perplexity ${inWords(2 ** bits)}, over ${counted(count)}${perByte}`;
}

/** Mark the chosen token, scroll to it, and describe its surprise and gradient. */
function drawChosen(t) {
  drawGradient(t);
  const span = strip.children[t], index = reading.indices[t];
  strip.querySelector(".at")?.classList.remove("at");
  span.classList.add("at");
  const above = span.offsetTop - 4, below = span.offsetTop + span.offsetHeight + 4 - strip.clientHeight;
  strip.scrollTop = Math.max(below, Math.min(above, strip.scrollTop));
  let text = `${quoted(t)} is the first ${model.noun}, without a prediction.`;
  if (t) {
    const P = reading.expected(t), place = P.filter((other) => other > P[index]).length + 1;
    const it = model.index.has(reading.tokens[t]) ? "it" : "<unk>", bits = reading.surprises[t].toFixed(2);
    text = `${quoted(t)}: ${bits} bits; the model gave ${it} ${percent(P[index])}, place ${place} of ${model.size}.`;
  }
  find("inspected").textContent = text;
  Object.assign(strip, { ariaValueMax: last() + 1, ariaValueNow: t + 1, ariaValueText: text });
}

strip.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  choose(at() + steps[event.key]);
});
strip.addEventListener("click", ({ target }) => target !== strip && choose([...strip.children].indexOf(target)));

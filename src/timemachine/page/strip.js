// The tokens of the text on colours of surprise or of a unit, with bars for the gradient. One is chosen here.

const MAX_BITS = 8; // surprise of the strongest colour
const MAX_GRADIENT = 100; // earlier states whose gradient is shown
const MOST_COLOUR = 0.5; // largest share of a unit's colour behind text that stays readable

/** Return the background of the token at t. */
function backgroundOf({ model, reading, unit, most }, t) {
  if (play.blank && t > at()) return "none";
  if (unit === null) { // the share of the colour that keeps text readable
    return `rgb(var(--hot) / calc(${Math.min(1, reading.surprises[t] / MAX_BITS).toFixed(3)} * var(--most-hot)))`;
  }
  const h = model.hiddens(reading.states[t])[unit], share = Math.min(1, Math.abs(h) / (most || 1)) * MOST_COLOUR;
  return `rgb(var(--${h < 0 ? "minus" : "plus"}) / ${share.toFixed(3)})`;
}

/** Draw the tokens of the text. Only changes are written, which is faster in a long text. */
function drawStrip(view) {
  const { strip, reading, model } = view, source = sourceOf(at());
  while (strip.children.length > reading.tokens.length) strip.lastChild.remove();
  while (strip.children.length < reading.tokens.length) strip.append(create("span"));
  [...strip.children].forEach((span, t) => {
    const token = reading.tokens[t], isAhead = play.blank && t > at();
    const mayEnd = token === " " || /^ ./u.test(reading.tokens[t + 1] ?? ""); // a line may end here
    const text = shown(token) + (token.includes("\n") ? "\n" : mayEnd ? "\u200b" : "");
    if (span.textContent !== text) span.textContent = text;
    const marks = { named: text.startsWith("U+"), unknown: !model.index.has(token), ahead: isAhead, source: t === source };
    for (const [mark, isOn] of Object.entries(marks)) span.classList.toggle(mark, isOn);
    const background = backgroundOf(view, t);
    if (span.dataset.background !== background) span.style.backgroundColor = span.dataset.background = background;
  });
}

/** Return the place of the letter that the one at t recalls, in the recall corpus; -1 for others. */
function sourceOf(t) {
  const { text, delay } = training.settings.data, { tokens } = reading;
  return text === "recall" && tokens[t - 1] === " " && tokens[t] === tokens[t - delay] ? t - delay : -1;
}

/** Draw, below each earlier token, the gradient of the log odds of the token at t, on the same scale for all networks. */
function drawGradients(t) {
  const norms = views.map(({ reading }) => {
    const found = [];
    if (Number.isFinite(reading.bits())) for (const norm of reading.gradients(t)) if (found.push(norm) === MAX_GRADIENT) break;
    return found; // [] if the network has diverged
  });
  const most = Math.max(...norms.flat().filter(Number.isFinite)), scale = most > 0 ? stepOf(most, 1) : 0;
  views.forEach(({ strip }, place) => [...strip.children].forEach((span, s) => {
    const share = Math.min(1, norms[place][t - 1 - s] / scale) || 0;
    if (span.dataset.gradient !== `${share}`) span.style.setProperty("--gradient", span.dataset.gradient = share);
  }));
  find("gradient").style.visibility = scale ? "visible" : "hidden";
  const said = `${scale < 1e4 ? scale : scale.toPrecision(1)} bits per unit of the state`;
  find("gradient-said").textContent = `sways ${quoted(t)}: gradient of its log odds at each earlier ${model.noun}, at most ${said}`;
}

function drawTotal({ total, continues, reading, model }) {
  const bits = reading.bits(), count = last();
  const size = reading.tokens.slice(1).reduce((sum, token) => sum + toBytes(token).length, 0);
  const perByte = model.bytePairs ? `; ${((bits * count) / size).toFixed(3)} bits per byte` : "";
  total.textContent = bits === null
    ? `Type at least two ${model.noun}s: the first one has no prediction.`
    : !Number.isFinite(bits) ? "The network has diverged"
      : `${bits.toFixed(3)} bits per ${model.noun}, perplexity ${inWords(2 ** bits)}, over ${counted(count)}${perByte}`;
  const state = reading.states[last()];
  continues.textContent = views.length < 2 ? "" : `Continues: “${model.continuation(state, NUM_GHOST, chosen.alpha, source())}”`;
}

/** Mark the chosen token, scroll to it, and describe its surprise. */
function drawChosen({ strip, inspected, reading, model, unit }, t) {
  const span = strip.children[t], index = reading.indices[t];
  strip.querySelector(".at")?.classList.remove("at");
  span.classList.add("at");
  const above = span.offsetTop - 4, below = span.offsetTop + span.offsetHeight + 4 - strip.clientHeight;
  strip.scrollTop = Math.max(below, Math.min(above, strip.scrollTop));
  let text = `${quoted(t)} is the first ${model.noun}, without a prediction.`;
  if (t) {
    const P = reading.expected(t), place = P.filter((other) => other > P[index]).length + 1;
    const it = model.index.has(reading.tokens[t]) ? "it" : "<unk>", bits = reading.surprises[t].toFixed(2);
    text = Number.isFinite(reading.surprises[t])
      ? `${quoted(t)}: ${bits} bits; the model gave ${it} ${percent(P[index])}, place ${place} of ${model.size}.`
      : `${quoted(t)}: the network has diverged.`;
  }
  if (unit !== null) text += ` Unit ${unit + 1}: ${signed(model.hiddens(reading.states[t])[unit])}.`;
  inspected.textContent = text;
  Object.assign(strip, { ariaValueMax: last() + 1, ariaValueNow: t + 1, ariaValueText: text });
}

for (const { strip } of VIEWS) {
  strip.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(at() + steps[event.key]);
  });
  strip.addEventListener("click", ({ target }) => target !== strip && choose([...strip.children].indexOf(target)));
}

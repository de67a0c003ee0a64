// What the model expected at the chosen character and expects after it, how the next one is chosen, and what α does.

const NUM_BARS = 30, NUM_EXPECTED = 6; // tokens that the bars show, of which so many are in view
const ALPHAS = [0.5, 1, 2, 8], SAMPLE = { character: 80, token: 40 }; // side by side, and the length of each

/** Return a random source for this text and seed, so that the same two give the same continuation. */
function source() {
  return uniform((chosen.seed + Math.imul(reading.indices.length, 0x9e3779b1)) | 0);
}

/** Draw what is expected after the token at t; before the first one, nothing. */
function drawNext(t) {
  const bars = find("bars"), actual = t < last() ? reading.indices[t + 1] : null;
  for (const element of [bars, find("after")]) element.style.visibility = t < 0 ? "hidden" : "visible";
  if (t < 0) return;
  find("after").textContent = `After “${shownText(t)}”`;
  drawBars(bars, reading.next(t), { chances: model.chances(reading.states[t], chosen.alpha), actual });
  const isWithin = /^[\udc80-\udcbf]/u.test(reading.tokens[t + 1] ?? ""); // a character that the next token continues
  for (const row of bars.children) {
    const index = Number(row.dataset.index);
    row.firstChild.style.background = index === actual ? tint("hot", reading.surprises[t + 1] / MAX_BITS) : "";
    row.disabled = index === model.unk || isWithin || BYTE.test(model.tokens[index]); // the box takes whole characters
  }
  const enabled = [...bars.querySelectorAll("button:enabled")];
  makeTabStop(enabled.find((row) => row.tabIndex === 0) ?? enabled[0]);
}

/** Let Tab stop at one of the bars only; the arrow keys continue from there. */
function makeTabStop(bar) {
  for (const row of find("bars").children) row.tabIndex = row === bar ? 0 : -1;
}

/** Draw what was expected before the token at t. */
function drawExpected(t) {
  find("expected").style.visibility = t ? "visible" : "hidden"; // not display: the map beneath would jump
  if (t) drawBars(find("expected"), reading.expected(t), { actual: reading.indices[t] });
}

/** Return the last tokens up to t, as they are seen. */
function shownText(t) {
  return (t > 9 ? "…" : "") + reading.tokens.slice(Math.max(0, t - 9), t + 1).map(shown).join("");
}

/** Draw, for one of `ALPHAS`, the likeliest tokens and a text that continues after the token at t. */
function drawAlpha(t, place) {
  const state = reading.states[t], alpha = ALPHAS[place], [, bars, text] = find("alphas").children[place].children;
  drawBars(bars, model.chances(state, alpha));
  text.textContent = model.continuation(state, SAMPLE[noun], Infinity, alpha, source()).text;
}

function drawChoice() {
  find("alpha").disabled = find("seed").disabled = chosen.alpha === null;
  find("alpha-value").textContent = find("alpha").value;
  find("temperature").textContent = (1 / Number(find("alpha").value)).toFixed(2);
}

function listenToNext() {
  addBars(find("bars"), NUM_BARS, "button");
  addBars(find("expected"), NUM_EXPECTED);
  for (const alpha of ALPHAS) {
    const part = create("section"), bars = create("div");
    addBars(bars, 4);
    part.append(create("h3", `α = ${alpha}`), bars, create("p", "", "sample"));
    find("alphas").append(part);
  }
  find("bars").addEventListener("click", ({ target }) => {
    const row = target.closest("button");
    if (row) write(model.tokens[row.dataset.index], endOf(at()));
  });
  find("bars").addEventListener("keydown", (event) => {
    const rows = [...find("bars").querySelectorAll("button:enabled")], place = rows.indexOf(document.activeElement);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const row = rows[Math.max(0, Math.min(next, rows.length - 1))];
    makeTabStop(row);
    row.focus();
  });
  document.querySelector("fieldset").addEventListener("input", () => {
    chosen.alpha = find("greedy").checked ? null : Number(find("alpha").value);
    chosen.seed = Math.trunc(Number(find("seed").value)) || 0;
    draw();
  });
}

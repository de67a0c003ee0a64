// The prediction after the chosen token, and how the next token is chosen.

const NUM_BARS = 30, BARS_IN_VIEW = 6; // the list scrolls
const CONTEXT = { character: 8, token: 3 }; // tokens of a title
const SAMPLE = { character: 160, token: 60 }; // tokens of the sample

/** Return a random source for this text and seed: the same two give the same continuation. */
function source() {
  return uniform((chosen.seed + Math.imul(reading.indices.length, 0x9e3779b1)) | 0);
}

/** Draw the prediction after the token at t. */
function drawNext(t) {
  const bars = find("bars"), actual = t < last() ? reading.indices[t + 1] : null;
  find("after").textContent = `After “${shownText(t)}”`;
  drawBars(bars, reading.next(t), model.chances(reading.states[t], chosen.alpha), actual, NUM_BARS, BARS_IN_VIEW);
  const isWithin = /^[\udc80-\udcbf]/u.test(reading.tokens[t + 1] ?? ""); // the next token continues a character
  for (const row of bars.children) {
    const index = Number(row.dataset.index);
    row.firstChild.style.background = index === actual ? tint("hot", reading.surprises[t + 1] / MAX_BITS) : "";
    row.disabled = index === model.unk || isWithin || BYTE.test(model.tokens[index]); // not a whole character
  }
  const enabled = [...bars.querySelectorAll("button:enabled")];
  makeTabStop(enabled.find((row) => row.tabIndex === 0) ?? enabled[0]);
}

/** Make one bar the only tab stop; the arrow keys move between bars. */
function makeTabStop(bar) {
  for (const row of find("bars").children) row.tabIndex = row === bar ? 0 : -1;
}

/** Return the last tokens up to t, in visible form. */
function shownText(t) {
  const from = Math.max(0, t + 1 - CONTEXT[model.noun]);
  return (from ? "…" : "") + reading.tokens.slice(from, t + 1).map(shown).join("");
}

function drawChoice(t) {
  find("alpha").disabled = find("seed").disabled = chosen.alpha === null;
  find("alpha-value").textContent = find("alpha").value;
  find("temperature").textContent = (1 / Number(find("alpha").value)).toFixed(2);
  if (!find("part-choice").open) return;
  const { text } = model.continuation(reading.states[t], SAMPLE[model.noun], Infinity, chosen.alpha, source());
  find("sample").textContent = text;
  find("sampled").textContent = `After “${shownText(t)}” it would write:`;
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
find("choice").addEventListener("input", () => {
  chosen.alpha = find("greedy").checked ? null : Number(find("alpha").value);
  chosen.seed = numberOf(find("seed"));
  work();
});

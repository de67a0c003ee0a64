// What the model expected at the chosen character and expects after it, how the next one is chosen, and what α does.

const LIKELIEST = 30, EXPECTED = 6; // tokens that the bars show, of which so many are in view
const ALPHAS = [0.5, 1, 2, 8], SAMPLE = { character: 80, token: 40 }; // side by side, and the length of each

/** Return a random source for this text and seed, so that the same two give the same continuation. */
function source() {
  return uniform((chosen.seed + Math.imul(reading.characters.length, 0x9e3779b1)) | 0);
}

/** Draw what is expected after the token at t. */
function drawNext(t) {
  const P = reading.next(t), logits = model.logits(reading.states[t]), rows = [...find("bars").children];
  const chances = model.probabilities(logits, chosen.alpha ?? 1, true), likeliest = model.choice(logits, null);
  const drawn = chosen.alpha === null ? chances.map((_, index) => Number(index === likeliest)) : chances;
  find("after").textContent = `After “${shownText(t)}”`;
  drawBars(rows, model, P, { drawn, was: t < last() ? reading.characters[t + 1] : null });
  const isWithin = /^[\udc80-\udcbf]/u.test(typed[t + 1] ?? ""); // a character, of which the next token has more bytes
  for (const row of rows) {
    const index = Number(row.dataset.character);
    const isTrue = row.matches(".was"), share = isTrue ? Math.min(1, reading.surprises[t + 1] / MOST_BITS) : 0;
    row.firstChild.style.background = isTrue ? `rgb(var(--hot) / calc(${share.toFixed(3)} * var(--most-hot)))` : "";
    row.disabled = index === model.unk || isWithin || BYTE.test(model.tokens[index]); // the box takes whole characters
  }
  const free = rows.filter((row) => !row.disabled); // one of them is a stop for Tab
  if (!free.some((row) => row.tabIndex === 0)) rows.forEach((row) => (row.tabIndex = row === free[0] ? 0 : -1));
}

/** Draw what was expected before the token at t. */
function drawGuessed(t) {
  find("expected").style.visibility = t ? "visible" : "hidden"; // it keeps its room: the map beneath shall not jump
  if (t) drawBars([...find("expected").children], model, reading.expected(t), { was: reading.characters[t] });
}

/** Return the last characters up to t, as they are seen. */
function shownText(t) {
  return (t > 9 ? "…" : "") + typed.slice(Math.max(0, t - 9), t + 1).map(shown).join("");
}

/** Draw, for one of `ALPHAS`, the likeliest tokens and a text that continues after the token at t. */
function drawAlpha(t, place) {
  const state = reading.states[t], alpha = ALPHAS[place], [, rows, text] = find("alphas").children[place].children;
  drawBars([...rows.children], model, model.probabilities(model.logits(state), alpha, true));
  text.textContent = model.continuation(state, SAMPLE[noun], Infinity, alpha, source()).text;
}

function drawChoice() {
  const isGreedy = chosen.alpha === null;
  for (const id of ["alpha", "seed"]) find(id).disabled = isGreedy;
  find("alpha-value").textContent = find("alpha").value;
  find("temperature").textContent = (1 / Number(find("alpha").value)).toFixed(2);
}

function listenToNext() {
  for (let rank = 0; rank < Math.min(LIKELIEST, model.size); rank++) {
    find("bars").append(Object.assign(barRow("button"), { type: "button", tabIndex: rank ? -1 : 0 }));
  }
  for (let rank = 0; rank < Math.min(EXPECTED, model.size); rank++) find("expected").append(barRow("div"));
  for (const alpha of ALPHAS) {
    const part = made("section"), rows = made("div", "", "bars");
    for (let rank = 0; rank < Math.min(4, model.size); rank++) rows.append(barRow("div"));
    part.append(made("h3", `α = ${alpha}`), rows, made("p", "", "sample"));
    find("alphas").append(part);
  }
  find("bars").addEventListener("click", ({ target }) => {
    const row = target.closest("button");
    if (row) write(model.tokens[row.dataset.character], endOf(at()));
  });
  find("bars").addEventListener("keydown", (event) => {
    const rows = [...find("bars").querySelectorAll("button:not(:disabled)")], place = rows.indexOf(document.activeElement);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const row = rows[Math.max(0, Math.min(next, rows.length - 1))];
    rows.forEach((other) => (other.tabIndex = other === row ? 0 : -1)); // one stop for Tab
    row.focus();
  });
  document.querySelector("fieldset").addEventListener("input", () => {
    chosen.alpha = find("greedy").checked ? null : Number(find("alpha").value);
    chosen.seed = Math.trunc(Number(find("seed").value)) || 0;
    draw();
  });
}

// The predictions after the chosen token, as bars, and how the next token is chosen.

const NUM_BARS = 8, NUM_SEVERAL = 5; // bars of one network, and of each of several
const CONTEXT = { character: 8, token: 3 }; // tokens of a title

/** Return a random source for this text and seed: the same two give the same continuation. */
const source = () => uniform((chosen.seed + Math.imul(reading.indices.length, 0x9e3779b1)) | 0);

/** Draw the likeliest tokens after t, and the next one of the text: P, and the probability of writing it. */
function drawNext({ model, reading, bars, after }, t) {
  const P = reading.next(t), chances = model.chances(reading.states[t], chosen.alpha);
  const order = [...P.keys()].sort((a, b) => P[b] - P[a]).slice(0, views.length > 1 ? NUM_SEVERAL : NUM_BARS);
  const actual = t < last() ? reading.indices[t + 1] : -1, place = P.filter((p) => p > P[actual]).length;
  if (actual >= 0 && !order.includes(actual)) order[order.length - 1] = actual;
  const most = Math.max(P[order[0]], ...chances), from = Math.max(0, t + 1 - CONTEXT[model.noun]);
  after.textContent = `After “${from ? "…" : ""}${reading.tokens.slice(from, t + 1).map(shown).join("")}”`;
  [...bars.children].forEach((row, rank) => {
    const index = order[rank], [key, number, track] = row.children;
    row.hidden = index === undefined;
    if (row.hidden) return;
    const said = shown(model.tokens[index]), mark = index === actual ? `, the next ${model.noun} of the text` : "";
    key.textContent = index === actual && place > rank ? `${place + 1}. ${said}` : said;
    number.textContent = percent(P[index]);
    [P, chances].forEach((of, bar) => (track.children[bar].style.width = `${(100 * of[index]) / most}%`));
    row.classList.toggle("actual", index === actual);
    Object.assign(row, { value: index, ariaLabel: `${said} ${percent(P[index])}, written with ${percent(chances[index])}${mark}` });
    row.disabled = t < last() || index === model.unk || BYTE.test(model.tokens[index]); // not a whole character
  });
}

function drawChoice() {
  find("alpha").disabled = find("seed").disabled = chosen.alpha === null;
  find("alpha-value").textContent = `${find("alpha").value}, temperature 1/α = ${(1 / find("alpha").value).toFixed(2)}`;
}

for (const view of VIEWS) {
  for (let rank = 0; rank < NUM_BARS; rank++) {
    const track = create("span", [create("i"), create("i")], { className: "track" });
    const row = create("button", [create("b"), " ", create("small"), track], { className: "bar" });
    row.addEventListener("click", () => write(view.model.tokens[row.value]));
    view.bars.append(row);
  }
}
find("choice").addEventListener("input", () => {
  chosen.alpha = find("greedy").checked ? null : Number(find("alpha").value);
  chosen.seed = valueOf(find("seed"));
  drawChoice();
  work();
});

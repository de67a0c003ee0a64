// Tokens as something that can be seen, and bars: a row is a token, as long as its P. A token is a character, or with
// data.tokens=bpe some bytes.

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
const find = (id) => document.getElementById(id);
const counted = (number) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const percent = (p) => (p < 5e-6 ? "< 0.001 %" : `${(100 * p).toFixed(p < 0.001 ? 3 : 1)} %`);

function made(name, textContent = "", className = "") {
  return Object.assign(document.createElement(name), { textContent, className });
}

/** Return a token as something that can be seen: signs, code points' numbers, bytes, or a mark on a circle. */
function shown(token) {
  const seen = Array.from(token, (character) => {
    if (character in SIGNS) return SIGNS[character];
    const code = character.codePointAt(0);
    if (BYTE.test(character)) return `\\x${(code - 0xdc00).toString(16)}`;
    if (!/[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/u.test(character)) return character;
    return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  }).join("");
  return /^\p{Mn}/u.test(seen) ? `◌${seen}` : seen;
}

function barRow(name) {
  const row = made(name, "", "bar"), track = made("span", "", "track");
  track.append(made("i"), made("i"));
  row.append(made("b"), track, made("small"));
  return row;
}

/**
 * Fill rows with the likeliest characters, in order; `was`, which is the one that stands in the text, is marked, and in
 * the last row in view if it comes later. `drawn`: the chance that each is written, a second bar. The longest bar has the
 * whole width.
 */
function drawBars(rows, model, P, { was = null, drawn = null } = {}) {
  const order = ranked(P), place = was === null ? 0 : P.filter((p) => p > P[was]).length;
  if (place >= EXPECTED) order.splice(EXPECTED - 1, 0, ...order.splice(order.indexOf(was), 1));
  order.length = rows.length;
  const lengths = order.map((character) => [P[character], drawn ? drawn[character] : 0]), most = Math.max(...lengths.flat());
  rows.forEach((row, rank) => {
    const character = order[rank], [key, track, number] = row.children, token = model.tokens[character];
    key.textContent = shown(token);
    if (character === was && place > rank) key.prepend(made("sup", `${place + 1}. `));
    number.textContent = percent(P[character]);
    lengths[rank].forEach((length, bar) => (track.children[bar].style.width = `${(100 * length) / most}%`));
    number.style.marginLeft = `calc(${(100 * Math.max(...lengths[rank])) / most}% + 0.3rem)`;
    row.classList.toggle("was", character === was);
    row.dataset.character = character;
    const name = { " ": "space", "\n": "line break" }[token] ?? shown(token);
    const chance = drawn ? `, written with ${percent(drawn[character])}` : "";
    row.setAttribute("aria-label", `${name}, ${percent(P[character])}${chance}${character === was ? ", in the text" : ""}`);
  });
}

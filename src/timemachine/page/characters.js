// Tokens as something that can be seen, and bars: a row is a token, as long as its P. A token is a character, or with
// data.tokens=bpe some bytes.

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
const find = (id) => document.getElementById(id);
const quoted = (t) => `“${shown(reading.tokens[t])}”`;
const counted = (number) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const percent = (p) => (p < 5e-6 ? "< 0.001%" : `${(100 * p).toFixed(p < 0.001 ? 3 : 1)}%`);

function create(name, textContent = "", className = "") {
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

/** Return a token as it fits into a narrow column, where there is no room for a code point's number. */
const shortened = (token) => shown(token).replace(/^U\+.+/, "□");

/** Return the colour of a background: a share of one of the page's colours, as far as text on it can be read. */
function tint(colour, share) {
  return `rgb(var(--${colour}) / calc(${Math.min(1, share).toFixed(3)} * var(--most-${colour})))`;
}

/** Add rows for bars to an element, at most one per token. */
function addBars(element, count, name = "div") {
  for (let rank = 0; rank < Math.min(count, model.size); rank++) {
    const row = create(name, "", "bar"), track = create("span", "", "track");
    track.append(create("i"), create("i"));
    row.append(create("b"), track, create("small"));
    element.append(row);
  }
}

/**
 * Fill the rows of an element with the likeliest tokens, in order. `actual`: the token of the text, which is marked,
 * and comes in the last row in view if it is less likely. `chances` (V): of each token to be written, a second bar.
 * The longest bar has the whole width.
 */
function drawBars(element, P, { actual = null, chances = null } = {}) {
  const order = ranked(P), place = actual === null ? 0 : P.filter((p) => p > P[actual]).length;
  if (place >= NUM_EXPECTED) order.splice(NUM_EXPECTED - 1, 0, ...order.splice(order.indexOf(actual), 1));
  order.length = element.children.length;
  const lengths = order.map((index) => [P[index], chances ? chances[index] : 0]), most = Math.max(...lengths.flat());
  [...element.children].forEach((row, rank) => {
    const index = order[rank], [key, track, number] = row.children, token = model.tokens[index];
    key.textContent = shown(token);
    if (index === actual && place > rank) key.prepend(create("sup", `${place + 1}. `));
    number.textContent = percent(P[index]);
    lengths[rank].forEach((length, bar) => (track.children[bar].style.width = `${(100 * length) / most}%`));
    number.style.marginLeft = `calc(${(100 * Math.max(...lengths[rank])) / most}% + 0.3rem)`;
    row.classList.toggle("actual", index === actual);
    row.dataset.index = index;
    const name = { " ": "space", "\n": "line break" }[token] ?? shown(token);
    const chance = chances ? `, written with ${percent(chances[index])}` : "";
    const mark = index === actual ? ", in the text" : "";
    row.setAttribute("aria-label", `${name}, ${percent(P[index])}${chance}${mark}`);
  });
}

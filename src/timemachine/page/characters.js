// Make tokens visible; bar charts of probabilities. A token is a character, or some bytes with data.tokens=bpe.

const BAR = '<b></b> <small></small><span class="track"><i></i><i></i></span>';
const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
const quoted = (t) => `“${shown(reading.tokens[t])}”`;
const counted = (number) => `${number} ${model.noun}${number === 1 ? "" : "s"}`;
const twoDigits = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const inWords = (number) => (number < 1e4 ? twoDigits.format(number) : number.toPrecision(2).replace("e+", "e"));
const percent = (p) => (p < 5e-6 ? "< 0.001%" : `${(100 * p).toFixed(p < 0.001 ? 3 : 1)}%`);

function create(name, textContent = "", className = "") {
  return Object.assign(document.createElement(name), { textContent, className });
}

/** Return a token in visible form: signs, numbers of code points, bytes, or a combining mark on a circle. */
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

/** Return a token for a narrow column, without the number of a code point. */
const shortened = (token) => shown(token).replace(/^U\+.+/, "□");

/** Return a background: a share of one of the page's colours, up to the limit that keeps text readable. */
function tint(colour, share) {
  return `rgb(var(--${colour}) / calc(${Math.min(1, share).toFixed(3)} * var(--most-${colour})))`;
}

/**
 * Draw the likeliest `count` tokens as buttons: token, probability P (V) and bar; `chances` (V) is a second, thin bar.
 * `actual`: the token of the text, which is marked and moved up to the last row in view. The longest bar is full.
 */
function drawBars(element, P, chances, actual, count, inView) {
  const order = ranked(P), place = actual === null ? 0 : P.filter((p) => p > P[actual]).length;
  if (place >= inView) order.splice(inView - 1, 0, ...order.splice(order.indexOf(actual), 1));
  order.length = Math.min(count, P.length);
  while (element.children.length > order.length) element.lastChild.remove();
  const newBar = () => Object.assign(create("button", "", "bar"), { innerHTML: BAR });
  while (element.children.length < order.length) element.append(newBar());
  const lengths = order.map((index) => [P[index], chances[index]]), most = Math.max(...lengths.flat());
  [...element.children].forEach((row, rank) => {
    const index = order[rank], [key, number, track] = row.children, token = model.tokens[index];
    key.textContent = shown(token);
    if (index === actual && place > rank) key.prepend(create("sup", `${place + 1}.`), " ");
    number.textContent = percent(P[index]);
    lengths[rank].forEach((length, bar) => (track.children[bar].style.width = `${(100 * length) / most}%`));
    row.classList.toggle("actual", index === actual);
    row.dataset.index = index;
    const words = { " ": " (space)", "\n": " (line break)" }[token] ?? "";
    const mark = index === actual ? ", in the text" : "";
    const said = `${key.textContent} ${number.textContent}${words}, written with ${percent(chances[index])}${mark}`;
    row.setAttribute("aria-label", said);
  });
}

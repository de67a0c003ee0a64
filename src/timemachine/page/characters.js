// Make tokens visible; write numbers. A token is a character, or some bytes with data.tokens=bpe.

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
const quoted = (t) => `“${shown(reading.tokens[t])}”`;
const counted = (number) => `${number} ${model.noun}${number === 1 ? "" : "s"}`;
const inWords = (number) => (number < 1e4 ? number.toFixed(2) : number.toPrecision(2).replace("e+", "e"));
const signed = (number) => number.toFixed(2).replace("-", "−");
const percent = (p) => (p < 5e-6 ? "< 0.001%" : `${(100 * p).toFixed(p < 0.001 ? 3 : 1)}%`);
const cut = (text, length) => text.slice(0, length).replace(/[\ud800-\udbff]$/, ""); // not within a character
const grouped = (number) => Math.round(number).toLocaleString("en");

/** Return an element with the content and attributes. */
function create(name, content = "", attributes = {}) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...[content].flat());
  return element;
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

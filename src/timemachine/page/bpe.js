"use strict";
// Byte-pair encoding and decoding, as in timemachine/bpe.py. In a token, a byte that is not a whole character is a lone
// surrogate: U+DC00 plus the byte. Bytes are a string of U+0000 to U+00FF.

const SPACE = String.raw`\p{White_Space}`; // \s of GPT-2
const WORD = new RegExp( // GPT-2's pattern
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^${SPACE}\p{L}\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);
const BYTE = /[\udc80-\udcff]/u; // a byte that is not a whole character
const toUtf8 = new TextEncoder(), fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Return the bytes of a text, or of a token. */
function toBytes(text) {
  return Array.from(text, (character) => BYTE.test(character)
    ? String.fromCharCode(character.charCodeAt(0) - 0xdc00)
    : String.fromCharCode(...toUtf8.encode(character))).join("");
}

class BytePairs {
  /** `tokens`: in the order in which they were learned, except <unk>. */
  constructor(tokens, unk) {
    this.tokens = tokens;
    this.bytes = new Map(tokens.map((token) => [token, toBytes(token)]));
    this.index = new Map(tokens.map((token, index) => [this.bytes.get(token), index]));
    this.index.delete(this.bytes.get(tokens[unk]));
    this.words = new Map(); // tokens of the words that were read before
  }

  /** Return the tokens of a text. */
  read(text) {
    return (text.match(WORD) ?? []).flatMap((word) => {
      if (!this.words.has(word)) this.words.set(word, this.split(word));
      return this.words.get(word);
    });
  }

  /** Return the tokens of a word: join all occurrences of the pair that was learned first, until no pair is known. */
  split(word) {
    for (let parts = Array.from(toBytes(word)); ; ) {
      const ranks = parts.slice(1).map((part, place) => this.index.get(parts[place] + part) ?? Infinity);
      const first = ranks.reduce((a, b) => Math.min(a, b), Infinity), joined = [];
      if (first === Infinity) return parts.map((part) => this.tokens[this.index.get(part)]);
      for (let place = 0; place < parts.length; place++) {
        joined.push(ranks[place] === first ? parts[place] + parts[++place] : parts[place]);
      }
      parts = joined;
    }
  }

  /** Return the text of tokens, with U+FFFD for bytes that are not a character. */
  textOf(tokens) {
    const bytes = tokens.map((token) => this.bytes.get(token)).join("");
    return fromUtf8.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
  }
}

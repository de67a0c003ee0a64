"use strict";
// Byte-pair encoding, as in timemachine/bpe.py: from a text to its tokens, and back. In a token, a byte that is not a
// whole character is a lone surrogate, U+DC00 more than the byte. Bytes are a string of U+0000 to U+00FF.

const SPACE = String.raw`\p{White_Space}`; // \s of GPT-2
const WORD = new RegExp( // GPT-2's pattern
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^${SPACE}\p{L}\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);
const BYTE = /[\udc80-\udcff]/u; // in a token, a byte that is no whole character
const toUtf8 = new TextEncoder(), newDecoder = () => new TextDecoder("utf-8", { ignoreBOM: true });

/** Return the bytes of a text, or of a token. */
function toBytes(text) {
  return Array.from(text, (character) => BYTE.test(character)
    ? String.fromCharCode(character.charCodeAt(0) - 0xdc00)
    : String.fromCharCode(...toUtf8.encode(character))).join("");
}

class BytePairs {
  /** `tokens`: in the order in which they were learned, but for <unk>. */
  constructor(tokens, unk) {
    this.tokens = tokens;
    this.bytes = new Map(tokens.map((token) => [token, toBytes(token)]));
    this.index = new Map(tokens.map((token, index) => [this.bytes.get(token), index]));
    this.index.delete(this.bytes.get(tokens[unk]));
    this.known = new Map(); // the tokens of words
  }

  /** Return the tokens of a text. */
  read(text) {
    return (text.match(WORD) ?? []).flatMap((word) => {
      if (!this.known.has(word)) this.known.set(word, this.split(word));
      return this.known.get(word);
    });
  }

  /** Return the tokens of a word: the pair that was learned first is joined first. */
  split(word) {
    const parts = Array.from(toBytes(word));
    for (;;) {
      const joined = parts.slice(1).map((part, place) => this.index.get(parts[place] + part) ?? Infinity);
      const first = joined.reduce((a, b) => Math.min(a, b), Infinity), pair = this.bytes.get(this.tokens[first]);
      if (!pair) return parts.map((part) => this.tokens[this.index.get(part)]);
      for (let place = 0; place < parts.length - 1; place++) {
        if (parts[place] + parts[place + 1] === pair) parts.splice(place, 2, pair);
      }
    }
  }

  /** Return the text of tokens, with U+FFFD for bytes that are no character. */
  textOf(tokens, decoder = newDecoder(), options = {}) {
    const bytes = tokens.map((token) => this.bytes.get(token)).join("");
    return decoder.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)), options);
  }

  /** Return where each token ends in their text, in UTF-16 units; within a character, where the character begins. */
  ends(tokens) {
    const decoder = newDecoder();
    let end = 0;
    return tokens.map((token) => (end += this.textOf([token], decoder, { stream: true }).length));
  }
}

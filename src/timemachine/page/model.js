// The model: what it reads of a text, the forward pass, continuing. No part of it knows the page.
// V vocabulary, D inputs of the RNN, H hidden units. Weights are float32 as in Python, sums float64.

const PHI = { tanh: Math.tanh, relu: (z) => Math.max(z, 0) };
const SAME = 1e-6; // two states that differ by less are the same one: what follows them is

// How a corpus of each kind is normalised (timemachine/corpus.py), from a text to a text.
const NORMALISE = {
  letters: (text) => text.replace(/[^A-Za-z]+/g, " ").toLowerCase(),
  characters: (text) => text.replace(/\r\n?/g, "\n").normalize("NFC"),
  bpe: (text) => text.replace(/\r\n?/g, "\n"),
};

/** Return a function that gives uniform numbers in [0, 1), always the same for a seed (mulberry32). */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
}

/** Return the numbers of float16, as float32: exponent and fraction move by 13 bits, the exponent's bias is 112 more. */
function fromHalf(base64) {
  const halves = new Uint16Array(bytes(base64));
  const moved = Uint32Array.from(halves, (half) => ((half & 0x8000) << 16) | ((half & 0x7fff) << 13));
  return new Float32Array(moved.buffer).map((number) => number * 2 ** 112);
}

function transposed(matrix, rows, columns) {
  const result = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = matrix[i * columns + j];
  return result;
}

/** Put the products of a vector and each row of a matrix (rows, columns) into `out`; four sums at once are faster. */
function products(matrix, vector, out) {
  const columns = vector.length, whole = columns - (columns % 4);
  for (let row = 0, at = 0; row < out.length; row++) {
    let a = 0, b = 0, c = 0, d = 0, j = 0;
    for (; j < whole; j += 4, at += 4) {
      a += matrix[at] * vector[j];
      b += matrix[at + 1] * vector[j + 1];
      c += matrix[at + 2] * vector[j + 2];
      d += matrix[at + 3] * vector[j + 3];
    }
    for (; j < columns; j++, at++) a += matrix[at] * vector[j];
    out[row] = a + b + (c + d);
  }
  return out;
}

class Model {
  /**
   * `run`: tokens (V), their kind, the index of <unk>, the name of φ, and weights by name: float32 in base64.
   * `halves`: the weights of another epoch in their place, in float16.
   */
  constructor({ tokens, kind, unk, activation, hiddens, weights }, halves = null) {
    Object.assign(this, { tokens, unk, numHiddens: hiddens, size: tokens.length, phi: PHI[activation] });
    this.normalise = NORMALISE[kind];
    this.bytePairs = kind === "bpe" ? new BytePairs(tokens, unk) : null; // or a token is a character
    this.index = new Map(tokens.map((token, index) => [token, index]));
    this.start = this.index.has(" ") ? " " : tokens.find((_, index) => index !== unk); // of an empty text
    const read = halves ? fromHalf : (base64) => new Float32Array(bytes(base64));
    const W = Object.fromEntries(Object.entries(halves ?? weights).map(([name, base64]) => [name, read(base64)]));
    const V = this.size, H = hiddens, D = W.W_xh.length / H;
    this.b_q = W.b_q;
    this.W_hhT = transposed(W.W_hh, H, H);
    this.W_hqT = transposed(W.W_hq, H, V);
    const W_xhT = transposed(W.W_xh, D, H);
    this.fromInput = []; // of each character, what it adds to the state: x W_xh + b_h
    for (let character = 0; character < V; character++) {
      const row = W.embedding
        ? products(W_xhT, W.embedding.subarray(character * D, (character + 1) * D), new Float64Array(H))
        : Float64Array.from(W.W_xh.subarray(character * H, (character + 1) * H));
      this.fromInput.push(row.map((sum, unit) => sum + W.b_h[unit]));
    }
  }

  /** Return the tokens (characters: code points) that the model reads of a text, of an empty one as many as Python: one. */
  read(text) {
    const normalised = this.normalise(text) || this.start;
    return this.bytePairs ? this.bytePairs.read(normalised) : Array.from(normalised);
  }

  /** Return the text of tokens. */
  textOf(tokens) {
    return this.bytePairs ? this.bytePairs.textOf(tokens) : tokens.join("");
  }

  /** Return the indices of what the model reads of a text. */
  indices(text) {
    return this.read(text).map((character) => this.index.get(character) ?? this.unk);
  }

  /** Return the distinct characters that the model reads of a text as <unk>. */
  unknown(text) {
    return [...new Set(this.read(text))].filter((character) => !this.index.has(character));
  }

  /** Return what a state adds to the next: h W_hh. */
  fromState(state) {
    return products(this.W_hhT, state, this.zeros());
  }

  /** Return the state after a character. `state`: the one before; null is zero. */
  step(state, character) {
    const input = this.fromInput[character], phi = this.phi;
    const next = state ? this.fromState(state) : this.zeros();
    for (let unit = 0; unit < next.length; unit++) next[unit] = phi(next[unit] + input[unit]);
    return next;
  }

  /** Return a state of zeros. */
  zeros() {
    return new Float64Array(this.numHiddens);
  }

  /** Return the logits (V) of a state. */
  logits(state) {
    return products(this.W_hqT, state, new Float64Array(this.size)).map((sum, index) => sum + this.b_q[index]);
  }

  /** Return softmax(alpha · logits) (V); with `speaks`, that of what is emitted: <unk> never is. */
  probabilities(logits, alpha = 1, speaks = false) {
    let largest = -Infinity, sum = 0;
    logits.forEach((logit, index) => {
      if (!(speaks && index === this.unk)) largest = Math.max(largest, logit);
    });
    const P = logits.map((logit, index) => (speaks && index === this.unk ? 0 : Math.exp(alpha * (logit - largest))));
    P.forEach((p) => (sum += p));
    return P.map((p) => p / sum);
  }

  /** Return the index that is emitted: the likeliest where alpha is null, else one drawn from P^alpha. */
  choice(logits, alpha, random) {
    const P = this.probabilities(logits, alpha ?? 1, true);
    if (alpha === null) return P.reduce((best, p, index) => (p > P[best] ? index : best), 0);
    let left = random(), last = 0;
    for (let index = 0; index < this.size; index++) {
      if (P[index] === 0) continue;
      last = index;
      if ((left -= P[index]) < 0) break;
    }
    return last;
  }

  /**
   * Return `length` tokens that follow a state, or as many as fit into `room` (UTF-16 units), and their `text`; where
   * each is the likeliest also how many there are when the state is first one that has been before: there it `repeats`
   * the last `period`.
   */
  continuation(state, length, room, alpha, random) {
    const states = [state], found = { tokens: [], text: "", repeats: null, period: null };
    for (let t = 0; t < length; t++) {
      const character = this.choice(this.logits(state), alpha, random), tokens = [...found.tokens, this.tokens[character]];
      const text = this.textOf(tokens);
      if (text.length > room) break;
      Object.assign(found, { tokens, text });
      state = this.step(state, character);
      if (alpha !== null || found.repeats !== null) continue;
      const same = states.findLastIndex((other) => other.every((h, unit) => Math.abs(h - state[unit]) < SAME));
      if (same >= 0) Object.assign(found, { repeats: t + 1, period: states.length - same });
      states.push(state);
    }
    return found;
  }
}

"use strict";
// The model: what it reads of a text, the forward pass, the gradient of one loss, continuing. No part of it knows the
// page. V vocabulary, D inputs of the RNN, H hidden units. Weights are float32 as in Python, sums float64.

const PHI = {
  tanh: { phi: Math.tanh, slope: (h) => 1 - h * h }, // φ(z), and φ'(z) from h = φ(z)
  relu: { phi: (z) => Math.max(z, 0), slope: (h) => (h > 0 ? 1 : 0) },
};

// How a corpus of each kind is normalised (timemachine/corpus.py), from a text to a text.
const NORMALISE = {
  letters: (text) => text.replace(/[^A-Za-z]+/g, " ").toLowerCase(),
  characters: (text) => text.replace(/\r\n?/g, "\n").normalize("NFC"),
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

function decoded(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer);
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

function norm(vector) {
  let sum = 0;
  for (const entry of vector) sum += entry * entry;
  return Math.sqrt(sum);
}

class Model {
  /** `run`: tokens (V), their kind, the index of <unk>, the name of φ, and weights by name, in base64. */
  constructor({ tokens, kind, unk, activation, hiddens, weights }) {
    Object.assign(this, { tokens, unk, numHiddens: hiddens, size: tokens.length, ...PHI[activation] });
    this.normalise = NORMALISE[kind];
    this.index = new Map(tokens.map((token, index) => [token, index]));
    const W = Object.fromEntries(Object.entries(weights).map(([name, base64]) => [name, decoded(base64)]));
    const V = this.size, H = hiddens;
    this.W_xh = W.W_xh; // (D, H)
    this.numInputs = W.W_xh.length / H;
    this.W_hh = W.W_hh; // (H, H)
    this.W_hq = W.W_hq; // (H, V)
    this.b_q = W.b_q;
    this.W_hhT = transposed(W.W_hh, H, H);
    this.W_hqT = transposed(W.W_hq, H, V);
    const W_xhT = transposed(W.W_xh, this.numInputs, H);
    this.fromInput = []; // of each character, what it adds to the state: x W_xh + b_h
    for (let character = 0; character < V; character++) {
      const D = this.numInputs;
      const row = W.embedding
        ? products(W_xhT, W.embedding.subarray(character * D, (character + 1) * D), new Float64Array(H))
        : Float64Array.from(W.W_xh.subarray(character * H, (character + 1) * H));
      this.fromInput.push(row.map((sum, unit) => sum + W.b_h[unit]));
    }
  }

  /** Return the characters (code points) that the model reads of a text; like Python, a space where that is nothing. */
  read(text) {
    return Array.from(this.normalise(text) || " ");
  }

  /** Return the indices of what the model reads of a text. */
  indices(text) {
    return this.read(text).map((character) => this.index.get(character) ?? this.unk);
  }

  /** Return the distinct characters that the model reads of a text as <unk>. */
  unknown(text) {
    return [...new Set(this.read(text))].filter((character) => !this.index.has(character));
  }

  /** Put the state after a character into `out`, and return it. `state`: the one before; null is zero. */
  step(state, character, out) {
    const input = this.fromInput[character], phi = this.phi;
    if (state) products(this.W_hhT, state, out);
    else out.fill(0);
    for (let unit = 0; unit < out.length; unit++) out[unit] = phi(out[unit] + input[unit]);
    return out;
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
    if (alpha === null) {
      let best = this.unk === 0 ? 1 : 0;
      for (let index = best; index < this.size; index++) {
        if (index !== this.unk && logits[index] > logits[best]) best = index;
      }
      return best;
    }
    const P = this.probabilities(logits, alpha, true);
    let left = random(), last = 0;
    for (let index = 0; index < this.size; index++) {
      if (P[index] === 0) continue;
      last = index;
      if ((left -= P[index]) < 0) break;
    }
    return last;
  }

  /** Return `length` characters that follow a state, or as many as fit into `room` (UTF-16 units), as one text. */
  continuation(state, length, room, alpha, random) {
    let text = "";
    for (let t = 0; t < length; t++) {
      const character = this.choice(this.logits(state), alpha, random), longer = text + this.tokens[character];
      if (longer.length > room) break;
      text = longer;
      state = this.step(state, character, new Float64Array(this.numHiddens));
    }
    return text;
  }
}

/** What the model makes of one text: a state after each character, and the bits by which that one surprised. */
class Reading {
  constructor(model) {
    Object.assign(this, { model, characters: [], states: [], surprises: [], known: 0 });
  }

  /** Take another text; what its beginning shares with the last one stays known. */
  take(characters) {
    let same = 0;
    while (same < this.known && same < characters.length && this.characters[same] === characters[same]) same++;
    Object.assign(this, { characters, known: same });
  }

  /** Read on, until a time as performance.now() has it if that comes first. Return whether all is read. */
  advance(until = Infinity) {
    for (let t = this.known; t < this.characters.length; this.known = ++t) {
      if (t % 8 === 7 && performance.now() > until) return false;
      const before = t ? this.states[t - 1] : null, character = this.characters[t];
      this.surprises[t] = t ? -Math.log2(this.expected(t - 1)[character]) : null; // the first has nothing before it
      this.states[t] = this.model.step(before, character, new Float64Array(this.model.numHiddens));
    }
    return true;
  }

  /** Return the probabilities (V) of what follows the character at t; they are not kept: V can be thousands. */
  expected(t) {
    return this.model.probabilities(this.model.logits(this.states[t]));
  }

  /** Return the mean of the surprises in bits, or null where there is none. */
  bits() {
    if (this.known < 2) return null;
    let sum = 0;
    for (let t = 1; t < this.known; t++) sum += this.surprises[t];
    return sum / (this.known - 1);
  }

  /**
   * Return how much each earlier character matters to the one at t: the norm of the gradient of its loss, in nats,
   * with respect to the vector that the RNN reads there. What is smaller than 1e-12 of the state's is left at zero.
   */
  influence(t) {
    const { model, states } = this, H = model.numHiddens, norms = new Float64Array(t);
    if (!t) return norms;
    const error = this.expected(t - 1);
    error[this.characters[t]] -= 1;
    let G = products(model.W_hq, error, new Float64Array(H)), other = new Float64Array(H);
    const input = new Float64Array(model.numInputs), negligible = 1e-12 * norm(G);
    for (let s = t - 1; s >= 0; s--) {
      for (let unit = 0; unit < H; unit++) G[unit] *= model.slope(states[s][unit]);
      norms[s] = norm(products(model.W_xh, G, input));
      if (norm(G) < negligible) break;
      [G, other] = [products(model.W_hh, G, other), G];
    }
    return norms;
  }
}

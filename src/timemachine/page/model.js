// The model: what it reads of a text, the forward pass, continuing. No part of it knows the page.
// V vocabulary, D inputs of the RNN, H hidden units. Weights are float32 as in Python, sums float64.

const PHI = { tanh: Math.tanh, relu: (z) => Math.max(z, 0) };

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

/** Return float16 numbers as float32: exponent and fraction move by 13 bits, the exponent's bias is 112 more. */
function fromHalf(base64) {
  const halves = new Uint16Array(bytes(base64));
  const moved = Uint32Array.from(halves, (half) => ((half & 0x8000) << 16) | ((half & 0x7fff) << 13));
  return new Float32Array(moved.buffer).map((number) => number * 2 ** 112);
}

/** Return a vector (I) times a matrix (I, J), plus a bias (J). */
function affine(vector, matrix, bias) {
  const sums = Float64Array.from(bias), J = sums.length;
  vector.forEach((x, i) => {
    for (let j = 0; j < J; j++) sums[j] += x * matrix[i * J + j];
  });
  return sums;
}

/** Return softmax(alpha · logits) (V). */
function softmax(logits, alpha = 1) {
  const largest = Math.max(...logits), powers = logits.map((logit) => Math.exp(alpha * (logit - largest)));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Return an index drawn with the probabilities P, which are NaN after training has diverged: then 0. */
function sample(P, random) {
  let left = random();
  return Math.max(0, P.findIndex((p) => (left -= p) < 0));
}

class Model {
  /**
   * `run`: tokens (V), their kind, the index of <unk>, the name of φ, and weights by name: float32 in base64.
   * `halves`: the weights of another epoch in their place, in float16.
   */
  constructor({ tokens, kind, unk, activation, hiddens, weights }, halves = null) {
    Object.assign(this, { tokens, unk, size: tokens.length, numHiddens: hiddens, phi: PHI[activation] });
    this.normalise = NORMALISE[kind];
    this.bytePairs = kind === "bpe" ? new BytePairs(tokens, unk) : null; // or a token is a character
    this.index = new Map(tokens.map((token, index) => [token, index]));
    this.start = this.index.has(" ") ? " " : tokens.find((_, index) => index !== unk); // of an empty text
    const decode = halves ? fromHalf : (base64) => new Float32Array(bytes(base64));
    for (const [name, base64] of Object.entries(halves ?? weights)) this[name] = decode(base64);
    this.zeros = new Float64Array(hiddens);
    this.fromInput = tokens.map((_, index) => { // what each token adds to the state: x W_xh + b_h
      const table = this.embedding ?? this.W_xh, width = table.length / this.size;
      const row = table.subarray(index * width, (index + 1) * width);
      return this.embedding ? affine(row, this.W_xh, this.b_h) : affine([1], row, this.b_h);
    });
  }

  /** Return the tokens (characters: code points) that the model reads of a text; of an empty one, as in Python, one. */
  read(text) {
    const normalised = this.normalise(text) || this.start;
    return this.bytePairs ? this.bytePairs.read(normalised) : Array.from(normalised);
  }

  /** Return the text of tokens. */
  textOf(tokens) {
    return this.bytePairs ? this.bytePairs.textOf(tokens) : tokens.join("");
  }

  /** Return the indices of tokens; those that the vocabulary lacks are <unk>. */
  indices(tokens) {
    return tokens.map((token) => this.index.get(token) ?? this.unk);
  }

  /** Return the distinct tokens that the model reads of a text as <unk>. */
  unknown(text) {
    return [...new Set(this.read(text))].filter((token) => !this.index.has(token));
  }

  /** Return what a state adds to the next: h W_hh. */
  fromState(state) {
    return affine(state, this.W_hh, this.zeros);
  }

  /** Return the state after the token with an index. */
  step(state, index) {
    return affine(state, this.W_hh, this.fromInput[index]).map(this.phi);
  }

  /** Return the logits (V) of a state. */
  logits(state) {
    return affine(state, this.W_hq, this.b_q);
  }

  /** Return the probabilities P (V) of the token that follows a state. */
  probabilities(state) {
    return softmax(this.logits(state));
  }

  /** Return the chance (V) that a token is written: P^alpha without <unk>; alpha null: the likeliest is certain. */
  chances(state, alpha) {
    const logits = this.logits(state);
    logits[this.unk] = -Infinity;
    if (alpha !== null) return softmax(logits, alpha);
    const likeliest = logits.indexOf(Math.max(...logits));
    return logits.map((_, index) => Number(index === likeliest));
  }

  /** Return `length` tokens that follow a state, or as many as fit into `room` (UTF-16 units), and their text. */
  continuation(state, length, room, alpha, random) {
    const tokens = [];
    let text = "";
    while (tokens.length < length) {
      const index = sample(this.chances(state, alpha), random), longer = this.textOf([...tokens, this.tokens[index]]);
      if (longer.length > room) break;
      tokens.push(this.tokens[index]);
      text = longer;
      state = this.step(state, index);
    }
    return { tokens, text };
  }
}

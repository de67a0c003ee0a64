// The model: its tokens of a text, the forward pass and generated text. No part of it uses the page.
// V vocabulary, D inputs of the RNN, H hidden units. Weights are float32 as in Python, sums float64.

const PHI = { tanh: Math.tanh, relu: (z) => Math.max(z, 0) };
const SLOPE = { tanh: (h) => 1 - h * h, relu: (h) => Number(h > 0) }; // derivative of φ, from the value h of φ

// Normalisation of each kind of corpus (timemachine/corpus.py).
const NORMALISE = {
  letters: (text) => text.replace(/[^A-Za-z]+/g, " ").toLowerCase(),
  characters: (text) => text.replace(/\ufeff/g, "").replace(/\r\n?/g, "\n").normalize("NFC"),
  bpe: (text) => text.replace(/\ufeff/g, "").replace(/\r\n?/g, "\n"),
};

/** Return a function that draws uniform numbers from [0, 1); a seed determines them (mulberry32). */
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

const fromSingle = (base64) => new Float32Array(bytes(base64));

/** Decode float16 numbers: shift exponent and fraction by 13 bits, and add 112 to the exponent's bias. */
function fromHalf(base64) {
  const halves = new Uint16Array(bytes(base64));
  const moved = Uint32Array.from(halves, (half) => ((half & 0x8000) << 16) | ((half & 0x7fff) << 13));
  return new Float32Array(moved.buffer).map((number) => number * 2 ** 112);
}

/** Add a vector (I) times a matrix (I, J) to sums (J). */
function addProduct(sums, vector, matrix) {
  const J = sums.length;
  for (let i = 0; i < vector.length; i++) {
    const x = vector[i], row = i * J;
    for (let j = 0; j < J; j++) sums[j] += x * matrix[row + j];
  }
}

/** Return a vector (I) times a matrix (I, J), plus a bias (J). */
function affine(vector, matrix, bias) {
  const sums = Float64Array.from(bias);
  addProduct(sums, vector, matrix);
  return sums;
}

/** Return a vector (J) times the transpose of a matrix (I, J). */
function timesTransposed(vector, matrix) {
  const J = vector.length, dot = (row) => row.reduce((sum, m, j) => sum + m * vector[j], 0);
  return Float64Array.from({ length: matrix.length / J }, (_, i) => dot(matrix.subarray(i * J, (i + 1) * J)));
}

/** Return softmax(alpha · logits) (V). */
function softmax(logits, alpha = 1) {
  const largest = Math.max(...logits), powers = logits.map((logit) => Math.exp(alpha * (logit - largest)));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Draw an index with the probabilities P; 0 if they are NaN, as after divergence. */
function sample(P, random) {
  let left = random();
  return Math.max(0, P.findIndex((p) => (left -= p) < 0));
}

class Model {
  /** `weights`: arrays by name. The other argument has the tokens (V), their kind, the index of <unk>, and φ's name. */
  constructor({ tokens, kind, unk, activation, hiddens, window }, weights) {
    Object.assign(this, { tokens, kind, unk, activation, window, size: tokens.length, numHiddens: hiddens }, weights);
    Object.assign(this, { phi: PHI[activation], slope: SLOPE[activation], normalise: NORMALISE[kind] });
    this.bytePairs = kind === "bpe" ? new BytePairs(tokens, unk) : null; // null: a token is a character
    this.noun = this.bytePairs ? "token" : "character";
    this.index = new Map(tokens.map((token, index) => [token, index]));
    this.start = this.index.has(" ") ? " " : tokens.find((_, index) => index !== unk); // read if the text is empty
    this.zeros = new Float64Array(hiddens);
    this.fromInput = tokens.map((_, index) => { // x W_xh + b_h of each token
      const table = this.embedding ?? this.W_xh, width = table.length / this.size;
      const row = table.subarray(index * width, (index + 1) * width);
      return this.embedding ? affine(row, this.W_xh, this.b_h) : affine([1], row, this.b_h);
    });
  }

  /** Return the tokens of a text; characters are code points. An empty text is read as `start`, as in Python. */
  read(text) {
    const normalised = this.normalise(text) || this.start;
    return this.bytePairs ? this.bytePairs.read(normalised) : Array.from(normalised);
  }

  textOf(tokens) { return this.bytePairs ? this.bytePairs.textOf(tokens) : tokens.join(""); }

  /** Return the indices of tokens; tokens that the vocabulary lacks become <unk>. */
  indices(tokens) { return tokens.map((token) => this.index.get(token) ?? this.unk); }

  /** Return the distinct tokens of a text that the model reads as <unk>. */
  unknown(text) { return [...new Set(this.read(text))].filter((token) => !this.index.has(token)); }

  /** Return the state (H) after another token. */
  step(state, index) { return affine(state, this.W_hh, this.fromInput[index]).map(this.phi); }

  logits(state) { return affine(state, this.W_hq, this.b_q); }

  /** Return the probabilities P (V) of the token that follows a state. */
  probabilities(state) { return softmax(this.logits(state)); }

  /** Return the probabilities (V) that tokens are drawn with: P^alpha without <unk>. alpha null: greedy. */
  chances(state, alpha) {
    const logits = this.logits(state);
    logits[this.unk] = -Infinity;
    if (alpha !== null) return softmax(logits, alpha);
    const likeliest = logits.indexOf(Math.max(...logits));
    return logits.map((_, index) => Number(index === likeliest));
  }

  /** Generate `length` tokens after a state, or as many as fit into `room` UTF-16 units. Return them and their text. */
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

// The model: its tokens of a text, the forward pass and generated text. No part of it uses the page.
// V vocabulary, D inputs of the cell, H hidden units, S numbers of a state. Weights are float32, sums float64.

// Normalisation of each kind of corpus (timemachine/texts/normalisation.py).
const NORMALISE = {
  letters: (text) => text.replace(/[^A-Za-z]+/g, " ").toLowerCase(),
  characters: (text) => text.replace(/\ufeff/g, "").replace(/\r\n?/g, "\n").normalize("NFC"),
  bpe: (text) => text.replace(/\ufeff/g, "").replace(/\r\n?/g, "\n"),
};

const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
const fromSingle = (base64) => new Float32Array(bytes(base64));

/** Decode float16 numbers: shift exponent and fraction by 13 bits, and add 112 to the exponent's bias. */
function fromHalf(base64) {
  const halves = new Uint16Array(bytes(base64));
  const moved = Uint32Array.from(halves, (half) => ((half & 0x8000) << 16) | ((half & 0x7fff) << 13));
  return new Float32Array(moved.buffer).map((number) => number * 2 ** 112);
}

/** Return a vector (I) times a matrix (I, J), plus a bias (J). */
function affine(vector, matrix, bias) {
  const sums = Float64Array.from(bias), J = sums.length;
  for (let i = 0; i < vector.length; i++) {
    const x = vector[i], row = i * J;
    for (let j = 0; j < J; j++) sums[j] += x * matrix[row + j];
  }
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

// Each cell is a subclass in cells.js, with `gates`, numState (S) and the following methods:
//   output(state)                         the hidden units (H) that the output layer reads: a view of the state (S)
//   step(state, index)                    the state after another token
//   back(before, index, after, dAfter)    the gradient (S) at the state before a token, from the one at the state after
//   boxes(before, index, after)           the boxes of the book's drawing: name, symbol and values (H) of each
class Model {
  /** `weights`: arrays by their names in Python. The other argument has the tokens (V), their kind, and the network. */
  constructor({ tokens, kind, unk, cell, activation, hiddens }, weights) {
    Object.assign(this, { tokens, kind, unk, activation, size: tokens.length, numHiddens: hiddens });
    this.normalise = NORMALISE[kind];
    this.bytePairs = kind === "bpe" ? new BytePairs(tokens, unk) : null; // null: a token is a character
    this.noun = this.bytePairs ? "token" : "character";
    this.index = new Map(tokens.map((token, index) => [token, index]));
    this.start = this.index.has(" ") ? " " : tokens.find((_, index) => index !== unk); // read if the text is empty
    this.layers = [];
    for (const [name, weight] of Object.entries(weights)) {
      const [, layer, ofLayer] = /^(?:rnns\.(\d+)\.)?(.+)$/.exec(name);
      if (["W_hq", "b_q", "embedding"].includes(name)) this[name] = weight;
      else (this.layers[layer ?? 0] ??= {})[ofLayer] = weight;
    }
    this.noState = new Float64Array(this.numState);
    this.isPlain = cell === "rnn"; // the page shows its equation
    this.isBounded = !cell.endsWith("rnn") || activation === "tanh"; // hidden units are between -1 and 1
    this.fromInput = Object.fromEntries([...this.gates].map((gate) => [gate, this.inputsOf(gate)]));
  }

  /** Return x W + b (H) of each token for a gate of the first layer. */
  inputsOf(gate) {
    const [{ [`W_x${gate}`]: W, [`b_${gate}`]: b }] = this.layers, table = this.embedding ?? W;
    return this.tokens.map((_, index) => {
      const width = table.length / this.size, row = table.subarray(index * width, (index + 1) * width);
      return this.embedding ? affine(row, W, b) : affine([1], row, b);
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

  /** Return the gradient (S) with respect to a state, from the one with respect to its logits. */
  backLogits(dLogits) {
    const dState = this.noState.slice();
    this.output(dState).set(timesTransposed(dLogits, this.W_hq)); // a view
    return dState;
  }

  /** Return the hidden units of a state that are shown: all layers of an RNN, not an LSTM's memory. */
  hiddens(state) { return this instanceof LSTM ? this.output(state) : state; }

  get numUnits() { return this.hiddens(this.noState).length; }

  logits(state) { return affine(this.output(state), this.W_hq, this.b_q); }

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

  /** Generate `length` tokens after a state. Return their text. */
  continuation(state, length, alpha, random) {
    const tokens = [];
    while (tokens.length < length) {
      const index = sample(this.chances(state, alpha), random);
      tokens.push(this.tokens[index]);
      state = this.step(state, index);
    }
    return this.textOf(tokens);
  }
}

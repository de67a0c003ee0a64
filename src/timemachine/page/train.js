// Truncated backpropagation through time (BPTT) for the network of section 9.5. No part of it uses the page.
// B windows, T time steps, V vocabulary, H hidden units. All numbers are float64.

const WINDOWS = 8, STEPS = 32; // windows per update (B), and tokens per window (T)
const SIGMA = 0.01; // standard deviation of new weights

/** Backpropagate through sums = vector · matrix: add to the gradients of the matrix (I, J) and of the vector (I). */
function backProduct(dSums, vector, matrix, dMatrix, dVector) {
  const J = dSums.length;
  for (let i = 0; i < vector.length; i++) {
    const x = vector[i], row = i * J;
    let sum = 0;
    for (let j = 0; j < J; j++) {
      sum += matrix[row + j] * dSums[j];
      dMatrix[row + j] += x * dSums[j];
    }
    dVector[i] += sum;
  }
}

/** Replace logits by their softmax. Return the loss of the target: −log of its probability. */
function softmaxLoss(logits, target) {
  const V = logits.length, logit = logits[target];
  let largest = -Infinity, sum = 0;
  for (let v = 0; v < V; v++) largest = Math.max(largest, logits[v]);
  for (let v = 0; v < V; v++) sum += logits[v] = Math.exp(logits[v] - largest);
  for (let v = 0; v < V; v++) logits[v] /= sum;
  return Math.log(sum) + largest - logit;
}

class Trainer {
  /** `indices`: the text, more than `STEPS` tokens. `seed` determines the initial weights and all windows. */
  constructor(indices, V, H, seed) {
    const random = uniform(seed), zeros = (size) => new Float64Array(size);
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()); // Box-Muller
    const drawn = (size) => zeros(size).map(() => SIGMA * normal());
    this.weights = { W_xh: drawn(V * H), W_hh: drawn(H * H), b_h: zeros(H), W_hq: drawn(H * V), b_q: zeros(V) };
    this.gradients = {};
    for (const [name, weight] of Object.entries(this.weights)) this.gradients[name] = zeros(weight.length);
    this.states = Array.from({ length: STEPS + 1 }, () => zeros(H)); // of one window; the first stays zero
    this.P = Array.from({ length: STEPS }, () => zeros(V));
    Object.assign(this, { indices, random, H, dh: zeros(H), dz: zeros(H) }); // gradients of a state and of its sum
  }

  /** Draw windows from the text and update the weights. Return their loss and the gradient's norm before clipping. */
  update(rate, radius) {
    const numStarts = this.indices.length - STEPS;
    return this.descend(Array.from({ length: WINDOWS }, () => Math.floor(this.random() * numStarts)), rate, radius);
  }

  /** Update the weights by SGD on the windows at `starts`. A gradient longer than `radius` is scaled to that length. */
  descend(starts, rate, radius) {
    const loss = this.backward(starts);
    let squares = 0;
    for (const gradient of Object.values(this.gradients)) for (const g of gradient) squares += g * g;
    const norm = Math.sqrt(squares), scale = rate * Math.min(1, radius / norm);
    for (const [name, weight] of Object.entries(this.weights)) {
      const gradient = this.gradients[name];
      for (let k = 0; k < weight.length; k++) weight[k] -= scale * gradient[k];
    }
    return { loss, norm };
  }

  /** Compute `gradients` for the windows at `starts`, each from a zero state. Return the mean loss in nats. */
  backward(starts) {
    const share = 1 / (starts.length * STEPS);
    for (const gradient of Object.values(this.gradients)) gradient.fill(0);
    let loss = 0;
    for (const start of starts) {
      loss += share * this.forwardWindow(start);
      this.backwardWindow(start, share);
    }
    return loss;
  }

  /** Compute `states` and `P` of one window. Return the sum of its losses. */
  forwardWindow(start) {
    const { indices, states, P, H } = this, { W_xh, W_hh, b_h, W_hq, b_q } = this.weights;
    let loss = 0;
    for (let t = 0; t < STEPS; t++) {
      const h = states[t + 1], x = indices[start + t] * H;
      for (let j = 0; j < H; j++) h[j] = W_xh[x + j] + b_h[j];
      addProduct(h, states[t], W_hh);
      for (let j = 0; j < H; j++) h[j] = Math.tanh(h[j]);
      P[t].set(b_q);
      addProduct(P[t], h, W_hq);
      loss += softmaxLoss(P[t], indices[start + t + 1]);
    }
    return loss;
  }

  /** Add the gradient of one window's loss, times `share`, after `forwardWindow`. */
  backwardWindow(start, share) {
    const { indices, states, P, dh, dz, H, gradients } = this, { W_hh, W_hq } = this.weights;
    dh.fill(0);
    for (let t = STEPS - 1; t >= 0; t--) {
      const dLogits = P[t], h = states[t + 1], x = indices[start + t] * H;
      dLogits[indices[start + t + 1]] -= 1;
      for (let v = 0; v < dLogits.length; v++) gradients.b_q[v] += dLogits[v] *= share;
      backProduct(dLogits, h, W_hq, gradients.W_hq, dh);
      for (let j = 0; j < H; j++) {
        dz[j] = dh[j] * (1 - h[j] * h[j]);
        gradients.b_h[j] += dz[j];
        gradients.W_xh[x + j] += dz[j];
      }
      dh.fill(0);
      backProduct(dz, states[t], W_hh, gradients.W_hh, dh);
    }
  }
}

// Truncated backpropagation through time (BPTT) for the network of section 9.5. No part of it uses the page.
// B windows, T time steps, V vocabulary, H hidden units. All numbers are float64.

const WINDOWS = 8, STEPS = 32; // windows per update (B), and characters per window (T)
const SIGMA = 0.01; // standard deviation of new weights

/** Return a function that draws numbers from N(0, SIGMA²) by the Box-Muller method. */
function gaussian(random) {
  return () => SIGMA * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

class Trainer {
  /** `indices`: the text, more than `STEPS` tokens. `seed` determines the initial weights and all windows. */
  constructor(indices, V, H, seed) {
    const random = uniform(seed), normal = gaussian(random), drawn = (count) => new Float64Array(count).map(normal);
    this.weights = {
      W_xh: drawn(V * H), W_hh: drawn(H * H), b_h: new Float64Array(H), W_hq: drawn(H * V), b_q: new Float64Array(V),
    };
    this.gradients = {};
    for (const [name, weight] of Object.entries(this.weights)) this.gradients[name] = new Float64Array(weight.length);
    Object.assign(this, { indices, random, V, H });
    this.states = new Float64Array((STEPS + 1) * H); // of one window; the first is zero
    this.P = new Float64Array(STEPS * V);
    this.dz = new Float64Array(H); // gradient of the sum that enters tanh
    this.dh = new Float64Array(H); // gradient of a state, from the steps after it
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

  /** Compute `gradients` for the windows at `starts`, each with an initial state of zero. Return the mean loss in nats. */
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
    const { indices, states, P, V, H } = this, { W_xh, W_hh, b_h, W_hq, b_q } = this.weights;
    let loss = 0;
    for (let t = 0; t < STEPS; t++) {
      const before = t * H, after = before + H, x = indices[start + t] * H, p = t * V;
      for (let j = 0; j < H; j++) states[after + j] = W_xh[x + j] + b_h[j];
      for (let i = 0; i < H; i++) {
        const h = states[before + i], row = i * H;
        for (let j = 0; j < H; j++) states[after + j] += h * W_hh[row + j];
      }
      for (let j = 0; j < H; j++) states[after + j] = Math.tanh(states[after + j]);
      for (let v = 0; v < V; v++) P[p + v] = b_q[v];
      for (let i = 0; i < H; i++) {
        const h = states[after + i], row = i * V;
        for (let v = 0; v < V; v++) P[p + v] += h * W_hq[row + v];
      }
      loss += this.softmaxLoss(p, indices[start + t + 1]);
    }
    return loss;
  }

  /** Replace the logits at `p` by their softmax. Return the loss of the target: −log of its probability. */
  softmaxLoss(p, target) {
    const { P, V } = this, logit = P[p + target];
    let largest = -Infinity, sum = 0;
    for (let v = 0; v < V; v++) largest = Math.max(largest, P[p + v]);
    for (let v = 0; v < V; v++) sum += P[p + v] = Math.exp(P[p + v] - largest);
    for (let v = 0; v < V; v++) P[p + v] /= sum;
    return Math.log(sum) + largest - logit;
  }

  /** Add the gradient of one window's loss, times `share`, after `forwardWindow`. */
  backwardWindow(start, share) {
    const { indices, states, P, dz, dh, V, H, gradients } = this, { W_hh, W_hq } = this.weights;
    dh.fill(0);
    for (let t = STEPS - 1; t >= 0; t--) {
      const before = t * H, after = before + H, x = indices[start + t] * H, p = t * V;
      P[p + indices[start + t + 1]] -= 1; // P is now the gradient of the logits
      for (let v = 0; v < V; v++) gradients.b_q[v] += P[p + v] *= share;
      for (let i = 0; i < H; i++) {
        const h = states[after + i], row = i * V;
        let sum = dh[i];
        for (let v = 0; v < V; v++) {
          sum += W_hq[row + v] * P[p + v];
          gradients.W_hq[row + v] += h * P[p + v];
        }
        dz[i] = sum * (1 - h * h);
        gradients.b_h[i] += dz[i];
        gradients.W_xh[x + i] += dz[i];
      }
      for (let i = 0; i < H; i++) {
        const h = states[before + i], row = i * H;
        let sum = 0;
        for (let j = 0; j < H; j++) {
          sum += W_hh[row + j] * dz[j];
          gradients.W_hh[row + j] += h * dz[j];
        }
        dh[i] = sum;
      }
    }
  }
}

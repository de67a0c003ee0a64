// A model's reading of a text: states, surprise and gradients. Independent of the page.

class Reading {
  /** `tokens` and their `indices`; for the first `known` of them, the state after each and its surprise in bits. */
  constructor(model) {
    Object.assign(this, { model, tokens: [], indices: [], states: [], surprises: [], known: 0 });
  }

  /** Take another text; states of a common beginning are kept. */
  take(text) {
    const tokens = this.model.read(text), indices = this.model.indices(tokens);
    let known = 0;
    while (known < this.known && indices[known] === this.indices[known]) known++;
    Object.assign(this, { tokens, indices, known });
  }

  /** Read the rest, or until a time of performance.now(). Return whether the end was reached. */
  advance(until = Infinity) {
    for (let t = this.known; t < this.indices.length; this.known = ++t) {
      if (t % 8 === 7 && performance.now() > until) return false;
      this.surprises[t] = t ? -Math.log2(this.expected(t)[this.indices[t]]) : null; // the first has no prediction
      this.states[t] = this.model.step(this.before(t), this.indices[t]);
    }
    return true;
  }

  get isComplete() { return this.known === this.indices.length; }

  /** Return the state before the token at t. */
  before(t) { return t ? this.states[t - 1] : this.model.noState; }

  /** Return the probabilities (V) of the token at t, before it is read. Not kept, since V can be thousands. */
  expected(t) { return this.model.probabilities(this.before(t)); }

  /** Return the probabilities (V) of the token after t. */
  next(t) { return this.model.probabilities(this.states[t]); }

  /** Return the mean surprise of the tokens, in bits, or null without a prediction. */
  bits() {
    if (this.known < 2) return null;
    return this.surprises.slice(1, this.known).reduce((a, b) => a + b) / (this.known - 1);
  }

  // Yield the norm of the gradient of token t's log odds (bits) with respect to each earlier state, from t - 1 back. That
  // of the loss is smaller by the factor 1 - p, so it vanishes where a network is certain.
  *gradients(t) {
    if (t === 0) return;
    const { model, states, indices } = this, P = this.expected(t), actual = indices[t];
    P[actual] = 0;
    const others = P.reduce((a, b) => a + b), dLogits = P.map((p) => p / others / Math.LN2);
    dLogits[actual] = -1 / Math.LN2;
    let dState = model.backLogits(dLogits);
    for (let s = t - 1; ; s--) {
      yield Math.hypot(...dState);
      if (s === 0) return;
      dState = model.back(states[s - 1], indices[s], states[s], dState);
    }
  }

  /** Return how long each unit keeps its value: the correlation with its value after the token before. */
  persistence() {
    const hiddens = this.states.slice(0, this.known).map((state) => this.model.hiddens(state)), T = hiddens.length;
    return Array.from(hiddens[0], (_, unit) => {
      const h = hiddens.map((all) => all[unit]), mean = h.reduce((a, b) => a + b) / T;
      const variance = h.reduce((sum, x) => sum + (x - mean) ** 2, 0);
      return variance ? 1 - h.slice(1).reduce((sum, x, t) => sum + (x - h[t]) ** 2, 0) / (2 * variance) : 1;
    });
  }
}

// A model's reading of a text: states, surprise, gradients and memory. Independent of the page.

const NUM_OTHERS = 8; // replacements of a token to try: the likeliest others
const SAME = 1e-6; // largest difference of two states that count as equal

class Reading {
  /** `tokens` and their `indices`; for the first `known` of them, the state after each and its surprise in bits. */
  constructor(model) {
    Object.assign(this, { model, tokens: [], indices: [], states: [], surprises: [], known: 0, start: 0 });
  }

  /** Take another text; states of a common beginning are kept. */
  take(text) {
    const tokens = this.model.read(text), indices = this.model.indices(tokens);
    let known = 0;
    while (known < this.known && indices[known] === this.indices[known]) known++;
    Object.assign(this, { tokens, indices, known });
    if (known < this.start || this.start >= indices.length) this.forget(0); // the text before it has changed
  }

  /** Set the state to zero before the token at `start`. */
  forget(start) {
    this.known = Math.min(this.known, this.start, start);
    this.start = start;
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

  /** Return the state before the token at t. */
  before(t) { return t === 0 || t === this.start ? this.model.zeros : this.states[t - 1]; }

  /** Return the probabilities (V) of the token at t, before it is read. Not kept, since V can be thousands. */
  expected(t) { return this.model.probabilities(this.before(t)); }

  /** Return the probabilities (V) of the token after t. */
  next(t) { return this.model.probabilities(this.states[t]); }

  /** Return the mean surprise of the tokens since `from`, in bits, or null without tokens. */
  bits(from = 1) {
    if (this.known <= from) return null;
    return this.surprises.slice(from, this.known).reduce((a, b) => a + b) / (this.known - from);
  }

  /** Return the first place whose state equals an earlier one since `from`, and the distance to it, or null. */
  repetition(from) {
    for (let t = from + 1; t < this.known; t++) {
      const isSame = (other) => other.every((h, unit) => Math.abs(h - this.states[t][unit]) < SAME);
      const same = this.states.slice(from, t).findLastIndex(isSame);
      if (same >= 0) return { place: t, period: t - from - same };
    }
    return null;
  }

  /** Yield the norm of the gradient of token t's loss (nats) with respect to each earlier state, from t - 1 back. */
  *gradients(t) {
    if (t === 0 || t === this.start) return;
    const { model, states } = this, dLogits = this.expected(t);
    dLogits[this.indices[t]] -= 1;
    let dh = timesTransposed(dLogits, model.W_hq);
    for (let s = t - 1; ; s--) {
      yield Math.hypot(...dh);
      if (s === 0 || s === this.start) return;
      dh = timesTransposed(dh.map((g, unit) => g * model.slope(states[s][unit])), model.W_hh);
    }
  }

  /**
   * Yield, for the token at t and up to `most` earlier ones, the change of the prediction after t if another token
   * replaces it: the Kullback-Leibler divergence from P in bits, averaged over the `NUM_OTHERS` likeliest others.
   */
  *memory(t, most) {
    const { model } = this, P = this.next(t);
    for (let s = t; s >= Math.max(0, t - most); s--) {
      const others = ranked(this.expected(s)).filter((other) => other !== this.indices[s] && other !== model.unk);
      others.length = Math.min(NUM_OTHERS, others.length);
      let sum = 0;
      for (const other of others) {
        let state = model.step(this.before(s), other);
        for (let r = s + 1; r <= t; r++) state = model.step(r === this.start ? model.zeros : state, this.indices[r]);
        sum += divergence(P, model.probabilities(state));
      }
      yield sum / Math.max(1, others.length);
    }
  }
}

/** Return the indices of the probabilities, the likeliest first. */
const ranked = (P) => Array.from(P.keys()).sort((a, b) => P[b] - P[a]);

/** Return the Kullback-Leibler divergence of Q from P, in bits. */
function divergence(P, Q) {
  const sum = P.reduce((sum, p, index) => (p > 0 ? sum + p * Math.log2(p / Math.max(Q[index], 1e-300)) : sum), 0);
  return Math.max(0, sum); // rounding may make it negative
}

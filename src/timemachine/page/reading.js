// A model's reading of one text: the states, the surprise, and how far back it remembers. Independent of the page.

const NUM_OTHERS = 8; // tokens that are tried in another's place: those that were the likeliest there
const SAME = 1e-6; // two states that differ by less are the same one: what follows them is

class Reading {
  /** `tokens` and their `indices`; of those before `known`, the state after each and its surprise in bits. */
  constructor(model) {
    Object.assign(this, { model, tokens: [], indices: [], states: [], surprises: [], known: 0, start: 0 });
  }

  /** Take another text; what its beginning shares with the last one stays known. */
  take(text) {
    const tokens = this.model.read(text), indices = this.model.indices(tokens);
    let known = 0;
    while (known < this.known && indices[known] === this.indices[known]) known++;
    Object.assign(this, { tokens, indices, known });
    if (known < this.start || this.start >= indices.length) this.forget(0); // the text before it is another
  }

  /** Begin at a place with a state of zero: what comes before it is forgotten there. */
  forget(start) {
    this.known = Math.min(this.known, this.start, start);
    this.start = start;
  }

  /** Read on, until a time as performance.now() has it if that comes first. Return whether all is read. */
  advance(until = Infinity) {
    for (let t = this.known; t < this.indices.length; this.known = ++t) {
      if (t % 8 === 7 && performance.now() > until) return false;
      this.surprises[t] = t ? -Math.log2(this.expected(t)[this.indices[t]]) : null; // the first has nothing before it
      this.states[t] = this.model.step(this.before(t), this.indices[t]);
    }
    return true;
  }

  /** Return the state before the token at t. */
  before(t) {
    return t === 0 || t === this.start ? this.model.zeros : this.states[t - 1];
  }

  /** Return the probabilities (V) of the token at t, before it is read; they are not kept: V can be thousands. */
  expected(t) {
    return this.model.probabilities(this.before(t));
  }

  /** Return the probabilities (V) of what follows the token at t. */
  next(t) {
    return this.model.probabilities(this.states[t]);
  }

  /** Return the mean of the surprises from a place on, in bits, or null where there is none. */
  bits(from = 1) {
    if (this.known <= from) return null;
    return this.surprises.slice(from, this.known).reduce((a, b) => a + b) / (this.known - from);
  }

  /** Return the first place whose state equals an earlier one since `from`, and how far back that is; null if none. */
  repetition(from) {
    for (let t = from + 1; t < this.known; t++) {
      const isSame = (other) => other.every((h, unit) => Math.abs(h - this.states[t][unit]) < SAME);
      const same = this.states.slice(from, t).findLastIndex(isSame);
      if (same >= 0) return { place: t, period: t - from - same };
    }
    return null;
  }

  /**
   * Give, for the token at t and for each one before, as far back as `most`, by how many bits another in its place
   * changes what is expected after t: the Kullback-Leibler divergence from P as it is, its mean over the `NUM_OTHERS`
   * tokens that were the likeliest in that place.
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
function ranked(P) {
  return Array.from(P.keys()).sort((a, b) => P[b] - P[a]);
}

/** Return the Kullback-Leibler divergence of Q from P, in bits. */
function divergence(P, Q) {
  const sum = P.reduce((sum, p, index) => (p > 0 ? sum + p * Math.log2(p / Math.max(Q[index], 1e-300)) : sum), 0);
  return Math.max(0, sum); // rounding may make it negative
}

// What a model makes of one text: the states, the surprise, and how far back it remembers. No part of it knows the page.

const OTHERS = 8; // characters that are tried in another's place: those that were the likeliest there

class Reading {
  constructor(model) {
    Object.assign(this, { model, characters: [], states: [], surprises: [], known: 0, start: 0 });
  }

  /** Take another text; what its beginning shares with the last one stays known. */
  take(characters) {
    let same = 0;
    while (same < this.known && same < characters.length && this.characters[same] === characters[same]) same++;
    Object.assign(this, { characters, known: same });
  }

  /** Begin at a place with a state of zero: what comes before it is forgotten there. */
  forget(start) {
    this.known = Math.min(this.known, this.start, start);
    this.start = start;
  }

  /** Read on, until a time as performance.now() has it if that comes first. Return whether all is read. */
  advance(until = Infinity) {
    for (let t = this.known; t < this.characters.length; this.known = ++t) {
      if (t % 8 === 7 && performance.now() > until) return false;
      const character = this.characters[t];
      this.surprises[t] = t ? -Math.log2(this.expected(t)[character]) : null; // the first has nothing before it
      this.states[t] = this.model.step(this.before(t), character);
    }
    return true;
  }

  /** Return the state before the character at t; null is zero. */
  before(t) {
    return t === 0 || t === this.start ? null : this.states[t - 1];
  }

  /** Return the probabilities (V) of the character at t, before it is read; they are not kept: V can be thousands. */
  expected(t) {
    return this.model.probabilities(this.model.logits(this.before(t) ?? this.model.zeros()));
  }

  /** Return the probabilities (V) of what follows the character at t. */
  next(t) {
    return this.model.probabilities(this.model.logits(this.states[t]));
  }

  /** Return the mean of the surprises from a place on, in bits, or null where there is none. */
  bits(from = 1) {
    if (this.known <= from) return null;
    let sum = 0;
    for (let t = from; t < this.known; t++) sum += this.surprises[t];
    return sum / (this.known - from);
  }

  /**
   * Give, for the character at t and for each one before, as far back as `most`, by how many bits another in its place
   * changes what is expected after t: the Kullback-Leibler divergence from P as it is, its mean over the `OTHERS`
   * characters that were the likeliest in that place.
   */
  *memory(t, most) {
    const { model } = this, P = this.next(t);
    for (let s = t; s >= Math.max(0, t - most); s--) {
      const there = this.expected(s), order = ranked(there);
      const others = order.filter((other) => other !== this.characters[s] && other !== model.unk).slice(0, OTHERS);
      let sum = 0;
      for (const other of others) {
        let state = model.step(this.before(s), other);
        for (let r = s + 1; r <= t; r++) {
          state = model.step(r === this.start ? null : state, this.characters[r]);
        }
        sum += divergence(P, model.probabilities(model.logits(state)));
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
  return P.reduce((sum, p, index) => (p > 0 ? sum + p * Math.log2(p / Math.max(Q[index], 1e-300)) : sum), 0);
}

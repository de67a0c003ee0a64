// The recurrence of each cell for one token, and its derivative. A state has S numbers: the hidden units of all layers
// of an RNN, the hidden units of a GRU, or the output and the memory of an LSTM. H hidden units.

const PHI = { tanh: Math.tanh, relu: (z) => Math.max(z, 0) };
const SLOPE = { tanh: (h) => 1 - h * h, relu: (h) => Number(h > 0) }; // derivative of φ, from the value h of φ
const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const slope = (s) => s * (1 - s); // derivative of the sigmoid, from its value
const joined = (vectors) => Float64Array.from(vectors.flatMap((vector) => [...vector]));

/** Return one part (H) of a state, of H numbers each. */
const partOf = (state, place, H) => state.subarray(place * H, (place + 1) * H);

/** Return the sum of vectors. */
const total = (vectors) => vectors.reduce((sums, vector) => sums.map((sum, i) => sum + vector[i]));

const rnn = {
  gates: "h",
  sizeOf: ({ numHiddens, layers }) => numHiddens * layers.length,
  output: ({ numHiddens, layers }, state) => partOf(state, layers.length - 1, numHiddens),
  step({ numHiddens, layers, fromInput, phi }, state, index) {
    let below = null;
    return joined(layers.map(({ W_xh, W_hh, b_h }, place) => {
      const sums = affine(partOf(state, place, numHiddens), W_hh, place ? b_h : fromInput.h[index]);
      if (place) addProduct(sums, below, W_xh);
      return (below = sums.map(phi));
    }));
  },
  back({ numHiddens, layers, slope }, before, index, after, dAfter) {
    const dBefore = [];
    let dBelow = new Float64Array(numHiddens);
    for (let place = layers.length - 1; place >= 0; place--) {
      const { W_xh, W_hh } = layers[place], h = partOf(after, place, numHiddens);
      const dSums = partOf(dAfter, place, numHiddens).map((d, unit) => (d + dBelow[unit]) * slope(h[unit]));
      dBefore.unshift(timesTransposed(dSums, W_hh));
      if (place) dBelow = timesTransposed(dSums, W_xh);
    }
    return joined(dBefore);
  },
};

const gru = { // the reset gate multiplies the product h W_hh, as in timemachine/cells.py
  gates: "rzh",
  sizeOf: ({ numHiddens }) => numHiddens,
  output: (_, state) => state,
  parts({ layers: [layer], fromInput, zeros }, h, index) {
    const r = affine(h, layer.W_hr, fromInput.r[index]).map(sigmoid);
    const z = affine(h, layer.W_hz, fromInput.z[index]).map(sigmoid);
    const fromState = affine(h, layer.W_hh, zeros);
    const candidate = fromInput.h[index].map((x, unit) => Math.tanh(x + r[unit] * fromState[unit]));
    return { r, z, fromState, candidate };
  },
  step(model, h, index) {
    const { z, candidate } = this.parts(model, h, index);
    return candidate.map((c, unit) => c + z[unit] * (h[unit] - c));
  },
  back(model, h, index, _, dAfter) {
    const { r, z, fromState, candidate } = this.parts(model, h, index), [{ W_hr, W_hz, W_hh }] = model.layers;
    const dSums = dAfter.map((d, unit) => d * (1 - z[unit]) * (1 - candidate[unit] ** 2)); // of the candidate
    const dz = dAfter.map((d, unit) => d * (h[unit] - candidate[unit]) * slope(z[unit]));
    const dr = dSums.map((d, unit) => d * fromState[unit] * slope(r[unit]));
    const products = [[dr, W_hr], [dz, W_hz], [dSums.map((d, unit) => d * r[unit]), W_hh]];
    return total([dAfter.map((d, unit) => d * z[unit]), ...products.map((product) => timesTransposed(...product))]);
  },
};

const lstm = {
  gates: "ifoc",
  sizeOf: ({ numHiddens }) => 2 * numHiddens,
  output: ({ numHiddens }, state) => partOf(state, 0, numHiddens),
  parts({ layers: [layer], fromInput, numHiddens }, state, index) {
    const h = partOf(state, 0, numHiddens), memory = partOf(state, 1, numHiddens);
    const [i, f, o, c] = [..."ifoc"].map((gate) =>
      affine(h, layer[`W_h${gate}`], fromInput[gate][index]).map(gate === "c" ? Math.tanh : sigmoid));
    return { i, f, o, c, memory, next: memory.map((m, unit) => f[unit] * m + i[unit] * c[unit]) };
  },
  step(model, state, index) {
    const { o, next } = this.parts(model, state, index);
    return joined([next.map((m, unit) => o[unit] * Math.tanh(m)), next]);
  },
  back(model, state, index, _, dAfter) {
    const { i, f, o, c, memory, next } = this.parts(model, state, index), H = model.numHiddens, [layer] = model.layers;
    const dh = partOf(dAfter, 0, H);
    const dNext = partOf(dAfter, 1, H).map((d, unit) => d + dh[unit] * o[unit] * (1 - Math.tanh(next[unit]) ** 2));
    const dSums = {
      i: dNext.map((d, unit) => d * c[unit] * slope(i[unit])),
      f: dNext.map((d, unit) => d * memory[unit] * slope(f[unit])),
      o: dh.map((d, unit) => d * Math.tanh(next[unit]) * slope(o[unit])),
      c: dNext.map((d, unit) => d * i[unit] * (1 - c[unit] ** 2)),
    };
    const products = [..."ifoc"].map((gate) => timesTransposed(dSums[gate], layer[`W_h${gate}`]));
    return joined([total(products), dNext.map((d, unit) => d * f[unit])]);
  },
};

const CELLS = { rnn, gru, lstm, deep_rnn: rnn };

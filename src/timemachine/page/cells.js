// The recurrence of each cell for one token, and its derivative. A state has S numbers: the hidden units of all layers
// of an RNN, the hidden units of a GRU, or the output and the memory of an LSTM. H hidden units.

const PHI = { tanh: Math.tanh, relu: (z) => Math.max(z, 0) };
const SLOPE = { tanh: (h) => 1 - h * h, relu: (h) => Number(h > 0) }; // derivative of φ, from the value h of φ
const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const slope = (s) => s * (1 - s); // derivative of the sigmoid, from its value
const joined = (vectors) => Float64Array.from(vectors.flatMap((vector) => [...vector]));
const partOf = (state, place, H) => state.subarray(place * H, (place + 1) * H); // a view: the H numbers of a layer
const SUPERSCRIPTS = ["⁽¹⁾", "⁽²⁾", "⁽³⁾", "⁽⁴⁾"]; // of layers
const total = (vectors) => vectors.reduce((sums, vector) => sums.map((sum, i) => sum + vector[i]));

class RNN extends Model { // of one or more layers
  get gates() { return "h"; }
  get numState() { return this.numHiddens * this.layers.length; }
  output(state) { return partOf(state, this.layers.length - 1, this.numHiddens); }
  step(state, index) {
    let below = null;
    return joined(this.layers.map(({ W_xh, W_hh, b_h }, place) => {
      const fromBelow = place ? affine(below, W_xh, b_h) : this.fromInput.h[index];
      return (below = affine(partOf(state, place, this.numHiddens), W_hh, fromBelow).map(PHI[this.activation]));
    }));
  }
  boxes(before, index, after) {
    const name = `FC layer with ${this.activation}`, H = this.numHiddens;
    return this.layers.map((_, place) => [name, this.layers.length > 1 ? `H${SUPERSCRIPTS[place]}` : "H", partOf(after, place, H)]);
  }
  back(before, index, after, dAfter) {
    const dBefore = [], H = this.numHiddens, slopeOf = SLOPE[this.activation];
    let dBelow = new Float64Array(H);
    for (let place = this.layers.length - 1; place >= 0; place--) {
      const { W_xh, W_hh } = this.layers[place], h = partOf(after, place, H);
      const dSums = partOf(dAfter, place, H).map((d, unit) => (d + dBelow[unit]) * slopeOf(h[unit]));
      dBefore.unshift(timesTransposed(dSums, W_hh));
      if (place) dBelow = timesTransposed(dSums, W_xh);
    }
    return joined(dBefore);
  }
}

class GRU extends Model { // the reset gate multiplies the product h W_hh, as in timemachine/cells.py
  get gates() { return "rzh"; }
  get numState() { return this.numHiddens; }
  output(state) { return state; }
  parts(h, index) {
    const { layers: [layer], fromInput } = this;
    const r = affine(h, layer.W_hr, fromInput.r[index]).map(sigmoid);
    const z = affine(h, layer.W_hz, fromInput.z[index]).map(sigmoid);
    const fromState = affine(h, layer.W_hh, new Float64Array(this.numHiddens));
    const candidate = fromInput.h[index].map((x, unit) => Math.tanh(x + r[unit] * fromState[unit]));
    return { r, z, fromState, candidate };
  }
  step(h, index) {
    const { z, candidate } = this.parts(h, index);
    return candidate.map((c, unit) => c + z[unit] * (h[unit] - c));
  }
  boxes(h, index) {
    const { r, z, candidate } = this.parts(h, index);
    return [["Reset gate", "R", r], ["Update gate", "Z", z], ["Candidate hidden state", "H̃", candidate]];
  }
  back(h, index, _, dAfter) {
    const { r, z, fromState, candidate } = this.parts(h, index), [{ W_hr, W_hz, W_hh }] = this.layers;
    const dSums = dAfter.map((d, unit) => d * (1 - z[unit]) * (1 - candidate[unit] ** 2)); // of the candidate
    const dz = dAfter.map((d, unit) => d * (h[unit] - candidate[unit]) * slope(z[unit]));
    const dr = dSums.map((d, unit) => d * fromState[unit] * slope(r[unit]));
    const products = [[dr, W_hr], [dz, W_hz], [dSums.map((d, unit) => d * r[unit]), W_hh]];
    return total([dAfter.map((d, unit) => d * z[unit]), ...products.map((product) => timesTransposed(...product))]);
  }
}

class LSTM extends Model {
  get gates() { return "ifoc"; }
  get numState() { return 2 * this.numHiddens; }
  output(state) { return partOf(state, 0, this.numHiddens); }
  memory(state) { return partOf(state, 1, this.numHiddens); }
  parts(state, index) {
    const { layers: [layer], fromInput } = this, memory = this.memory(state);
    const [i, f, o, c] = [...this.gates].map((gate) =>
      affine(this.output(state), layer[`W_h${gate}`], fromInput[gate][index]).map(gate === "c" ? Math.tanh : sigmoid));
    return { i, f, o, c, memory, next: memory.map((m, unit) => f[unit] * m + i[unit] * c[unit]) };
  }
  step(state, index) {
    const { o, next } = this.parts(state, index);
    return joined([next.map((m, unit) => o[unit] * Math.tanh(m)), next]);
  }
  boxes(state, index) {
    const { i, f, o, c } = this.parts(state, index);
    return [["Forget gate", "F", f], ["Input gate", "I", i], ["Input node", "C̃", c], ["Output gate", "O", o]];
  }
  back(state, index, _, dAfter) {
    const { i, f, o, c, memory, next } = this.parts(state, index), [layer] = this.layers, dh = this.output(dAfter);
    const dMemory = partOf(dAfter, 1, this.numHiddens);
    const dNext = dMemory.map((d, unit) => d + dh[unit] * o[unit] * (1 - Math.tanh(next[unit]) ** 2));
    const dSums = {
      i: dNext.map((d, unit) => d * c[unit] * slope(i[unit])),
      f: dNext.map((d, unit) => d * memory[unit] * slope(f[unit])),
      o: dh.map((d, unit) => d * Math.tanh(next[unit]) * slope(o[unit])),
      c: dNext.map((d, unit) => d * i[unit] * (1 - c[unit] ** 2)),
    };
    const products = [...this.gates].map((gate) => timesTransposed(dSums[gate], layer[`W_h${gate}`]));
    return joined([total(products), dNext.map((d, unit) => d * f[unit])]);
  }
}

const CELLS = { rnn: RNN, deep_rnn: RNN, gru: GRU, lstm: LSTM };

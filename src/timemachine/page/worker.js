// The worker of page.html: trains one network, or two on the same windows, with kernel.wasm, and reports to the page.
// random.js precedes this file. B windows, T time steps, V vocabulary, H hidden units, G gates.
//
// Messages to the worker:
//   { type: "start", wasm, networks, data, seed }   new networks; `wasm`: the bytes of kernel.wasm
//   { type: "run", until }                          train up to update `until`, which may be Infinity
//   { type: "pause" }                               stop after the current update
// with networks of { cell, activation, layers, hiddens, sigma, sigma_xh, sigma_hh, lr, input_lr_factor, optimizer,
// gradient_clip_val }, the settings of train.py that `supported` of experiments.js returns, and with data of
//   { type: "text", indices, V, num_steps, batch_size, num_train, num_val }   the settings of `data.`
//   { type: "recall", delay, batch_size, num_val }                            new windows for each update
//
// Messages from the worker; errors reach the page as the worker's `error` event:
//   { type: "ready", parameters, updatesPerEpoch }
//   { type: "progress", update, seconds, charsPerSecond, networks: [{ loss, diverged, weights: { W_xh, … } }] }
//   { type: "epoch", update, networks: [{ train, val, recall }] }   perplexities; share of recalled letters
//   { type: "paused", update }
// `loss` is the mean since the message before.

const CELLS = { tanh: 0, relu: 1, gru: 2, lstm: 3 }; // `Cell` of fused.cpp
const GATES = { rnn: "h", deep_rnn: "h", gru: "rzh", lstm: "ifoc" }; // in the kernel's order, but of the GRU's W_h
const SLICE = 20; // ms of training before other messages are received; at least one update
const EVALUATE_EVERY = 100; // updates, if an epoch has more
const REPORT_EVERY = 200; // ms

// A batch is one Int32Array (B, T + 1) of windows: their inputs and, one place later, their targets.

/** Return arrays of one type and length, one after another, in a new array. */
function joined(arrays) {
  const [{ constructor, length }] = arrays, all = new constructor(arrays.length * length);
  arrays.forEach((array, place) => all.set(array, place * length));
  return all;
}

/** Return the windows of a text: one starts at each token, like those of `TimeMachine`. */
function textWindows({ indices, V, num_steps: T, batch_size, num_train, num_val }, random) {
  const N = indices.length, borders = [Math.floor((N * 90) / 100), Math.floor((N * 95) / 100)];
  const [train, val] = num_train === null // as in Python, the first 90% and the next 5% of the text
    ? [{ first: 0, count: borders[0] - T }, { first: borders[0], count: borders[1] - borders[0] - T }]
    : [{ first: 0, count: num_train }, { first: num_train, count: num_val }];
  if (Math.min(train.count, val.count) < 1 || val.first + val.count + T > N) throw new Error("the text is too short");
  const startsOf = ({ first, count }) => Array.from({ length: count }, (_, place) => first + place);
  function* batchesOf(starts, size) {
    for (let place = 0; place < starts.length; place += size) {
      yield joined(starts.slice(place, place + size).map((start) => indices.subarray(start, start + T + 1)));
    }
  }
  function* shuffled() {
    for (const starts = startsOf(train); ; ) {
      shuffle(starts, random);
      yield* batchesOf(starts, batch_size);
    }
  }
  const updatesPerEpoch = Math.ceil(train.count / batch_size);
  const validate = () => batchesOf(startsOf(val), Math.max(batch_size, 1024)); // large batches are faster
  return { V, T, updatesPerEpoch, train: shuffled(), validate };
}

const RECALLED = 16, FILLERS = 10, SPACE = 26; // a to p, q to z, and the space after them: their indices are 0 to 26

/** Return windows of the recall corpus (timemachine/texts/recall.py), each from a random place in a block. */
function recallWindows({ delay, batch_size, num_val }, random) {
  const T = 2 * delay + 1; // so that each window has a whole block
  const below = (n) => Math.floor(random() * n);
  const drawBlock = () => {
    const letter = below(RECALLED), fillers = Array.from({ length: delay - 2 }, () => RECALLED + below(FILLERS));
    return [letter, ...fillers, SPACE, letter];
  };
  const drawWindow = () => {
    const blocks = [...drawBlock(), ...drawBlock(), ...drawBlock()], start = below(delay + 1);
    return Int32Array.from(blocks.slice(start, start + T + 1));
  };
  const draw = (B) => joined(Array.from({ length: B }, drawWindow));
  const val = draw(num_val);
  function* drawn() {
    for (;;) yield draw(batch_size);
  }
  // The inputs from `delay` on are as many as a block has, so one of them is a space, and the letter was `delay` before.
  return { V: SPACE + 1, T, updatesPerEpoch: EVALUATE_EVERY, train: drawn(), validate: () => [val], recallFrom: delay };
}

// Each network has an instance of the kernel, whose memory is an arena: first the weights, from `address` on,
// and after them the room for a batch, which `reserve` lays out again for each batch. When the memory has to grow for
// that, `memory.buffer` becomes another object and views of the former one become empty: so no view is kept.
class Network {
  /** `settings`: see above. New weights are drawn in the order of `named_parameters` in Python. */
  constructor(module, settings, windows, seed) {
    const { cell, activation, layers = 1, hiddens: H, sigma, sigma_xh, sigma_hh } = settings, { V, T } = windows;
    this.kernel = new WebAssembly.Instance(module).exports;
    this.address = this.kernel.setup(CELLS[activation ?? cell], layers, T, V, H);
    this.count = this.kernel.count();
    this.parameters = parametersOf(cell, layers, V, H);
    Object.assign(this, { settings, windows, diverged: false, sinceReport: [], sinceEpoch: [] });
    const draw = normal(uniform(seed));
    for (const parameter of this.parameters) {
      if (/b_\w$/.test(parameter.name)) continue; // biases start at 0
      const isInput = /^(rnns\.0\.)?W_x/.test(parameter.name), isRecurrent = /W_h[^q]$/.test(parameter.name);
      const scale = (isInput ? sigma_xh : isRecurrent ? sigma_hh : null) ?? sigma;
      for (const row of this.rowsOf(parameter)) row.forEach((_, j) => (row[j] = scale * draw()));
    }
  }

  /** Return the rows of a parameter: views. */
  rowsOf({ at, rows, columns, stride }) {
    const weights = new Float32Array(this.kernel.memory.buffer, this.address, this.count);
    return Array.from({ length: rows }, (_, i) => weights.subarray(at + i * stride, at + i * stride + columns));
  }

  /** Copy a batch to the kernel. Return its number of windows. */
  read(batch) {
    const B = batch.length / (this.windows.T + 1), address = this.kernel.reserve(B);
    new Int32Array(this.kernel.memory.buffer, address, batch.length).set(batch);
    return B;
  }

  /** Update the weights, unless the network has diverged: then it keeps the last finite ones. */
  update(batch) {
    if (this.diverged) return;
    const { lr, input_lr_factor, gradient_clip_val, optimizer } = this.settings;
    const B = this.read(batch), loss = this.kernel.loss(1);
    const norm = this.kernel.update(lr, lr * input_lr_factor, gradient_clip_val, optimizer === "adamw" ? 1 : 0);
    this.diverged = !Number.isFinite(loss) || !Number.isFinite(norm);
    this.sinceReport.push([loss, B]);
    this.sinceEpoch.push([loss, B]);
  }

  /** Return the mean loss since the last report, and copies of the weights by their names in Python without `rnn.`. */
  report() {
    const loss = mean(this.sinceReport);
    this.sinceReport = [];
    const weights = this.parameters.map((parameter) => [parameter.name, joined(this.rowsOf(parameter))]);
    return { loss, diverged: this.diverged, weights: Object.fromEntries(weights) };
  }

  /** Return the perplexities and, in the recall corpus, the share of recalled letters. */
  evaluate() {
    const train = mean(this.sinceEpoch), losses = [], shares = [], { validate, recallFrom } = this.windows;
    for (const batch of validate()) {
      const B = this.read(batch);
      losses.push([this.kernel.loss(0), B]);
      if (recallFrom) shares.push([this.kernel.recalled(SPACE, recallFrom) / B, B]);
    }
    this.sinceEpoch = [];
    return { train: Math.exp(train), val: Math.exp(mean(losses)), recall: recallFrom ? mean(shares) : null };
  }
}

/** Return the mean over windows of pairs, a mean over B windows and B: the last batch of an epoch may be smaller. */
function mean(pairs) {
  return pairs.reduce((sum, [value, B]) => sum + value * B, 0) / pairs.reduce((sum, [, B]) => sum + B, 0);
}

/**
 * Return the parameters in the order of Python's `named_parameters`: names without the prefix `rnn.`, and where the
 * kernel's weights have them: `at`, the first number; `rows`, `columns`; `stride`, from one row to the next.
 */
function parametersOf(cell, layers, V, H) {
  const gates = [...GATES[cell]], GH = gates.length * H;
  const W_up = V * GH, W_h = W_up + (layers - 1) * H * GH, b = W_h + layers * H * GH, W_hq = b + layers * GH;
  const parameters = [];
  for (let layer = 0; layer < layers; layer++) {
    const prefix = layers > 1 ? `rnns.${layer}.` : "";
    const W_x = layer ? W_up + (layer - 1) * H * GH : 0;
    gates.forEach((gate, g) => {
      const h = cell === "gru" ? (g + 1) % 3 : g; // the kernel's order is h, r, z
      const add = (name, at, rows) => parameters.push({ name: prefix + name + gate, at, rows, columns: H, stride: GH });
      add("W_x", W_x + g * H, layer ? H : V);
      add("W_h", W_h + layer * H * GH + h * H, H);
      add("b_", b + layer * GH + g * H, 1);
    });
  }
  parameters.push({ name: "W_hq", at: W_hq, rows: H, columns: V, stride: V });
  return [...parameters, { name: "b_q", at: W_hq + H * V, rows: 1, columns: V, stride: V }];
}

let training = null; // see `start`
let until = 0; // the update at which training stops
let isOn = false; // whether a slice of training is scheduled
// A worker receives messages only between two tasks, so training is cut into slices, and the message of a channel starts
// the next one after "pause" and others that have arrived. setTimeout would do the same, but wait for 4 ms each time.
const slices = new MessageChannel();
slices.port1.onmessage = trainSlice;

function start({ wasm, networks, data, seed }) {
  const windows = { text: textWindows, recall: recallWindows }[data.type](data, uniform(seed));
  const module = new WebAssembly.Module(wasm);
  const all = networks.map((settings) => new Network(module, settings, windows, ~seed)); // ~seed: other random numbers
  training = { networks: all, windows, update: 0, seconds: 0, chars: 0, reportDue: 0 };
  postMessage({ type: "ready", parameters: all.map(({ count }) => count), updatesPerEpoch: windows.updatesPerEpoch });
}

/** Update each network with the next windows, and evaluate it at the end of an epoch. */
function update() {
  const { networks, windows } = training, batch = windows.train.next().value;
  for (const network of networks) {
    network.update(batch);
    if (!network.diverged) training.chars += (batch.length * windows.T) / (windows.T + 1);
  }
  training.update++;
  if (training.update % Math.min(windows.updatesPerEpoch, EVALUATE_EVERY)) return;
  const results = networks.map((network) => network.evaluate());
  postMessage({ type: "epoch", update: training.update, networks: results });
}

const isComplete = () => training.update >= until || training.networks.every(({ diverged }) => diverged);

/** Train for a slice of time, report, and schedule the next slice. */
function trainSlice() {
  const began = performance.now();
  while (!isComplete() && performance.now() < began + SLICE) update();
  training.seconds += (performance.now() - began) / 1000;
  isOn = !isComplete();
  if (!isOn || began > training.reportDue) report();
  if (isOn) slices.port2.postMessage(null);
  else postMessage({ type: "paused", update: training.update });
}

function report() {
  const { networks, update, seconds, chars } = training;
  training.reportDue = performance.now() + REPORT_EVERY;
  const reports = networks.map((network) => network.report());
  postMessage({ type: "progress", update, seconds, charsPerSecond: chars / seconds, networks: reports });
}

onmessage = ({ data: message }) => {
  if (message.type === "start") start(message);
  if (message.type === "pause") until = training.update; // the scheduled slice then ends
  if (message.type === "run") {
    until = message.until;
    if (!isOn) slices.port2.postMessage(null);
    isOn = true;
  }
};

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
const SLICE = 20; // ms of training between two looks at the messages, or one update
const EVALUATE_EVERY = 100; // updates, if an epoch has more
const REPORT_EVERY = 200; // ms

// Windows of a batch are in one Int32Array (B, T + 1): their inputs and, one place later, their targets.

/** Return the windows of a text: one starts at each token, like those of `TimeMachine`. */
function textWindows({ indices, V, num_steps: T, batch_size, num_train, num_val }, random) {
  const N = indices.length, borders = [Math.floor((N * 90) / 100), Math.floor((N * 95) / 100)];
  const [train, val] = num_train === null // as in Python, the first 90% and the next 5% of the text
    ? [{ first: 0, count: borders[0] - T }, { first: borders[0], count: borders[1] - borders[0] - T }]
    : [{ first: 0, count: num_train }, { first: num_train, count: num_val }];
  if (Math.min(train.count, val.count) < 1 || val.first + val.count + T > N) throw new Error("the text is too short");
  const windowsAt = (starts) => {
    const windows = new Int32Array(starts.length * (T + 1));
    starts.forEach((start, b) => windows.set(indices.subarray(start, start + T + 1), b * (T + 1)));
    return windows;
  };
  const startsOf = ({ first, count }) => Int32Array.from({ length: count }, (_, place) => first + place);
  function* batchesOf(starts, size) {
    for (let first = 0; first < starts.length; first += size) yield windowsAt(starts.subarray(first, first + size));
  }
  function* shuffled() {
    for (const order = startsOf(train); ; ) {
      shuffle(order, random);
      yield* batchesOf(order, batch_size);
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
  const draw = (B) => {
    const windows = new Int32Array(B * (T + 1));
    for (let b = 0; b < B; b++) {
      const text = [];
      for (let block = 0; block < 3; block++) {
        const letter = below(RECALLED), fillers = Array.from({ length: delay - 2 }, () => RECALLED + below(FILLERS));
        text.push(letter, ...fillers, SPACE, letter);
      }
      const start = below(delay + 1);
      windows.set(text.slice(start, start + T + 1), b * (T + 1));
    }
    return windows;
  };
  const val = draw(num_val);
  function* drawn() {
    for (;;) yield draw(batch_size);
  }
  const common = { V: SPACE + 1, T, updatesPerEpoch: EVALUATE_EVERY };
  return { ...common, train: drawn(), validate: () => [val], remembersFrom: delay - 1 };
}

class Network {
  /** `settings`: see above. New weights are drawn in the order of `named_parameters` in Python. */
  constructor(module, settings, { V, T, remembersFrom }, seed) {
    const { cell, activation, layers = 1, hiddens: H, sigma, sigma_xh, sigma_hh } = settings;
    this.kernel = new WebAssembly.Instance(module).exports;
    this.address = this.kernel.setup(CELLS[activation ?? cell], layers, T, V, H);
    this.count = this.kernel.count();
    this.parameters = parametersOf(cell, layers, V, H);
    Object.assign(this, { settings, T, remembersFrom, diverged: false, sinceReport: [], sinceEpoch: [] });
    const draw = normal(uniform(seed)), weights = this.weights();
    for (const { name, at, rows, columns, stride } of this.parameters) {
      if (/b_\w$/.test(name)) continue;
      const own = /^(rnns\.0\.)?W_x/.test(name) ? sigma_xh : /W_h[^q]$/.test(name) ? sigma_hh : null;
      const scale = own ?? sigma;
      for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) weights[at + i * stride + j] = scale * draw();
    }
  }

  weights() { // a view, invalid when the kernel's memory grows
    return new Float32Array(this.kernel.memory.buffer, this.address, this.count);
  }

  /** Return copies of the weights by their names in Python, without the prefix `rnn.`. */
  named() {
    const weights = this.weights(), named = {};
    for (const { name, at, rows, columns, stride } of this.parameters) {
      named[name] = new Float32Array(rows * columns);
      for (let i = 0; i < rows; i++) {
        named[name].set(weights.subarray(at + i * stride, at + i * stride + columns), i * columns);
      }
    }
    return named;
  }

  /** Return the number of windows, which are given to the kernel. */
  read(windows) {
    const B = windows.length / (this.T + 1), address = this.kernel.reserve(B);
    new Int32Array(this.kernel.memory.buffer, address, windows.length).set(windows);
    return B;
  }

  /** Update the weights, unless the network has diverged: then it keeps the last finite ones. */
  update(windows) {
    if (this.diverged) return;
    const { lr, input_lr_factor, gradient_clip_val, optimizer } = this.settings;
    const B = this.read(windows), loss = this.kernel.loss(1);
    const norm = this.kernel.update(lr, lr * input_lr_factor, gradient_clip_val, optimizer === "adamw" ? 1 : 0);
    this.diverged = !Number.isFinite(loss) || !Number.isFinite(norm);
    this.sinceReport.push([loss, B]);
    this.sinceEpoch.push([loss, B]);
  }

  report() {
    const loss = mean(this.sinceReport);
    this.sinceReport = [];
    return { loss, diverged: this.diverged, weights: this.named() };
  }

  /** Return the perplexities and, in the recall corpus, the share of recalled letters. */
  evaluate(validate) {
    const train = mean(this.sinceEpoch), losses = [];
    let recalled = 0, targets = 0;
    for (const windows of validate()) {
      const B = this.read(windows);
      losses.push([this.kernel.loss(0), B]);
      if (this.remembersFrom === undefined) continue;
      recalled += this.kernel.recalled(SPACE, this.remembersFrom);
      windows.forEach((index, place) => {
        const t = place % (this.T + 1);
        if (index === SPACE && t >= this.remembersFrom && t < this.T) targets++;
      });
    }
    this.sinceEpoch = [];
    return { train: Math.exp(train), val: Math.exp(mean(losses)), recall: targets ? recalled / targets : null };
  }
}

/** Return the mean of [loss, B] over all windows: the last batch of an epoch may be smaller. */
function mean(losses) {
  return losses.reduce((sum, [loss, B]) => sum + loss * B, 0) / losses.reduce((sum, [, B]) => sum + B, 0);
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
// A message of its own schedules the next slice, after the messages that have arrived: setTimeout would wait 4 ms.
const slices = new MessageChannel();
slices.port1.onmessage = trainSlice;

function start({ wasm, networks, data, seed }) {
  const windows = { text: textWindows, recall: recallWindows }[data.type](data, uniform(seed));
  const module = new WebAssembly.Module(wasm);
  const all = networks.map((settings) => new Network(module, settings, windows, ~seed)); // ~seed: other random numbers
  training = { networks: all, data: windows, update: 0, seconds: 0, chars: 0, reportDue: 0 };
  postMessage({ type: "ready", parameters: all.map(({ count }) => count), updatesPerEpoch: windows.updatesPerEpoch });
}

/** Update each network with the next windows, and evaluate it at the end of an epoch. */
function update() {
  const { networks, data } = training, windows = data.train.next().value;
  for (const network of networks) {
    network.update(windows);
    if (!network.diverged) training.chars += windows.length - windows.length / (data.T + 1);
  }
  training.update++;
  if (training.update % Math.min(data.updatesPerEpoch, EVALUATE_EVERY)) return;
  const results = networks.map((network) => network.evaluate(data.validate));
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

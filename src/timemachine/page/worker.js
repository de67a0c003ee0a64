// The worker of page.html: trains one network, or two on the same windows, with kernel.wasm, and reports to the page.
// random.js precedes this file. B windows, T time steps, V vocabulary, H hidden units, G gates.
//
// Messages to the worker:
//   { type: "start", wasm, networks, data, seed }   new networks; `wasm`: the bytes of kernel.wasm
//   { type: "run", until }                          train up to update `until`, which may be Infinity
//   { type: "pause" }
// with networks of { cell: "rnn", "gru" or "lstm", activation, layers, hiddens, sigma, sigmaXh, sigmaHh, rate,
// inputFactor, radius, optimizer: "sgd" or "adamw" }, the settings of `model.`, and with data of
//   { type: "text", indices, V, numSteps, batchSize, numTrain, numVal }   the settings of `data.`
//   { type: "recall", delay, batchSize, valWindows }                      new windows for each update
//
// Messages from the worker:
//   { type: "ready", parameters, updatesPerEpoch }
//   { type: "progress", update, epoch, seconds, charsPerSecond, networks: [{ loss, norm, clipped, diverged }] }
//   { type: "epoch", epoch, update, networks: [{ train, val, recall }] }   perplexities; share of recalled letters
//   { type: "weights", update, networks: [{ W_xh, … }] }
//   { type: "paused", update, reason: "until", "pause" or "diverged" }
//   { type: "error", message }
// Loss and norm are means, and `clipped` is the share of clipped updates, since the message before.

const CELLS = { tanh: 0, relu: 1, gru: 2, lstm: 3 }; // `Cell` of fused.cpp
const GATES = { rnn: "h", gru: "rzh", lstm: "ifoc" }; // in the kernel's order, but of the GRU's W_h
const SLICE = 20; // ms of training between two looks at the messages, or one update
const EVALUATE_EVERY = 100; // updates, if an epoch has more
const PROGRESS_EVERY = 100, WEIGHTS_EVERY = 200; // ms

// Windows of a batch are in one Int32Array (B, T + 1): their inputs and, one place later, their targets.

/** Return the windows of a text: one starts at each token, like those of `TimeMachine`. */
function textWindows({ indices, V, numSteps: T, batchSize, numTrain, numVal }, random) {
  const N = indices.length, borders = [0, Math.floor((N * 90) / 100), Math.floor((N * 95) / 100)];
  const [train, val] = numTrain === null || numVal === null
    ? [{ first: 0, count: borders[1] - T }, { first: borders[1], count: borders[2] - borders[1] - T }]
    : [{ first: 0, count: numTrain }, { first: numTrain, count: numVal }];
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
      yield* batchesOf(order, batchSize);
    }
  }
  const updatesPerEpoch = Math.ceil(train.count / batchSize);
  const validate = () => batchesOf(startsOf(val), Math.max(batchSize, 1024));
  return { V, T, updatesPerEpoch, train: shuffled(), validate };
}

const RECALLED = 16, FILLERS = 10, SPACE = 26; // a to p, q to z, and the space after them: their indices are 0 to 26

/** Return windows of the recall corpus (timemachine/texts/recall.py), each from a random place in a block. */
function recallWindows({ delay, batchSize, valWindows }, random) {
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
  const val = draw(valWindows);
  function* drawn() {
    for (;;) yield draw(batchSize);
  }
  const common = { V: SPACE + 1, T, updatesPerEpoch: EVALUATE_EVERY };
  return { ...common, train: drawn(), validate: () => [val], remembersFrom: delay - 1 };
}

class Network {
  /** `settings`: see above. New weights are drawn in the order of `named_parameters` in Python. */
  constructor(module, settings, { V, T, remembersFrom }, seed) {
    const { cell, activation, hiddens: H, sigma, sigmaXh, sigmaHh } = settings;
    const layers = cell === "rnn" ? settings.layers : 1;
    this.kernel = new WebAssembly.Instance(module).exports;
    this.address = this.kernel.setup(CELLS[cell === "rnn" ? activation : cell], layers, T, V, H);
    this.count = this.kernel.count();
    this.parameters = parametersOf(cell, layers, V, H);
    Object.assign(this, { settings, T, remembersFrom, diverged: false, since: noUpdates(), sinceEpoch: noUpdates() });
    const draw = normal(uniform(seed)), weights = this.weights();
    for (const { name, at, rows, columns, stride } of this.parameters) {
      if (/b_\w$/.test(name)) continue;
      const own = /^(rnns\.0\.)?W_x/.test(name) ? sigmaXh : /W_h[^q]$/.test(name) ? sigmaHh : null;
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
    const { rate, inputFactor, radius, optimizer } = this.settings;
    const B = this.read(windows), loss = this.kernel.loss(1);
    const norm = this.kernel.update(rate, rate * inputFactor, radius, optimizer === "adamw" ? 1 : 0);
    this.diverged = !Number.isFinite(loss) || !Number.isFinite(norm);
    for (const sums of [this.since, this.sinceEpoch]) {
      sums.updates++;
      sums.windows += B;
      sums.loss += loss;
      sums.nll += loss * B;
      sums.norm += norm;
      sums.clipped += radius > 0 && norm > radius ? 1 : 0;
    }
  }

  progress() {
    const { updates, loss, norm, clipped } = this.since;
    this.since = noUpdates();
    return { loss: loss / updates, norm: norm / updates, clipped: clipped / updates, diverged: this.diverged };
  }

  /** Return the perplexities and the share of recalled letters. Yields between batches. */
  *evaluate(validate) {
    let nll = 0, B = 0, recalled = 0, targets = 0;
    for (const windows of validate()) {
      const number = this.read(windows);
      nll += this.kernel.loss(0) * number;
      B += number;
      if (this.remembersFrom !== undefined) {
        recalled += this.kernel.recalled(SPACE, this.remembersFrom);
        windows.forEach((index, place) => {
          const t = place % (this.T + 1);
          if (index === SPACE && t >= this.remembersFrom && t < this.T) targets++;
        });
      }
      yield;
    }
    const train = Math.exp(this.sinceEpoch.nll / this.sinceEpoch.windows);
    this.sinceEpoch = noUpdates();
    return { train, val: Math.exp(nll / B), recall: targets ? recalled / targets : null };
  }
}

const noUpdates = () => ({ updates: 0, windows: 0, loss: 0, nll: 0, norm: 0, clipped: 0 });

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

// Training is a generator that yields after each step of some milliseconds. A pause asks for no further step, so it
// changes no number.

let training = null; // see `start`; its phase is "updating", "evaluating" or "complete"
let isOn = false, until = 0;

function start({ wasm, networks, data, seed }) {
  const windows = { text: textWindows, recall: recallWindows }[data.type](data, uniform(seed));
  const module = new WebAssembly.Module(wasm);
  const all = networks.map((settings) => new Network(module, settings, windows, ~seed)); // ~seed: other random numbers
  const counts = { update: 0, seconds: 0, chars: 0, progressDue: 0, weightsDue: 0 };
  training = { networks: all, data: windows, phase: "complete", ...counts };
  training.steps = steps(training);
  isOn = false;
  const parameters = all.map(({ count }) => count), { updatesPerEpoch } = windows;
  postMessage({ type: "ready", parameters, updatesPerEpoch });
}

/** Train without end. Yields after each update of a network and after each batch of an evaluation. */
function* steps(training) {
  const { networks, data } = training, every = Math.min(data.updatesPerEpoch, EVALUATE_EVERY);
  for (const windows of data.train) {
    training.phase = "updating";
    for (const network of networks) {
      network.update(windows);
      training.chars += network.diverged ? 0 : windows.length - windows.length / (data.T + 1);
      if (network !== networks.at(-1)) yield;
    }
    const update = ++training.update;
    if (update % every === 0) {
      training.phase = "evaluating";
      yield;
      const results = [];
      for (const network of networks) results.push(yield* network.evaluate(data.validate));
      postMessage({ type: "epoch", epoch: update / data.updatesPerEpoch, update, networks: results });
    }
    training.phase = "complete";
    yield;
  }
}

/** Train for a slice of time, report, and schedule the next slice after the messages that have arrived. */
function trainSlice() {
  if (!isOn) return;
  const began = performance.now();
  do {
    if (training.phase === "complete") {
      if (training.networks.every(({ diverged }) => diverged)) return pause("diverged");
      if (training.update >= until) return pause("until");
    }
    step();
  } while (performance.now() < began + SLICE);
  if (training.phase !== "updating") report();
  schedule();
}

function step() {
  const began = performance.now();
  training.steps.next();
  training.seconds += (performance.now() - began) / 1000;
}

const slices = new MessageChannel(); // setTimeout would wait 4 ms
let isScheduled = false;
slices.port1.onmessage = () => {
  isScheduled = false;
  attempt(trainSlice);
};

function schedule() {
  if (!isScheduled) slices.port2.postMessage(null);
  isScheduled = true;
}

/** Send progress and weights, if they are due or `isLast`. */
function report(isLast = false) {
  const { networks, data, update, seconds, chars } = training, now = performance.now();
  if (networks.some(({ since }) => since.updates) && (isLast || now > training.progressDue)) {
    training.progressDue = now + PROGRESS_EVERY;
    const numbers = { update, epoch: update / data.updatesPerEpoch, seconds, charsPerSecond: chars / seconds };
    postMessage({ type: "progress", ...numbers, networks: networks.map((network) => network.progress()) });
  }
  if (isLast || now > training.weightsDue) {
    training.weightsDue = now + WEIGHTS_EVERY;
    postMessage({ type: "weights", update, networks: networks.map((network) => network.named()) });
  }
}

function pause(reason) {
  isOn = false;
  while (training.phase === "updating") step(); // so that all networks are at the same update
  report(true);
  postMessage({ type: "paused", update: training.update, reason });
}

function attempt(action) {
  try {
    action();
  } catch (error) {
    isOn = false;
    postMessage({ type: "error", message: error.message });
  }
}

onmessage = ({ data: message }) => attempt(() => {
  if (message.type === "start") start(message);
  if (message.type === "pause" && isOn) pause("pause");
  if (message.type === "run") {
    [isOn, until] = [true, message.until];
    schedule();
  }
});

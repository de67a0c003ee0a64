// A worker of page.html: leads the training of one network with kernel.wasm, or helps another worker with it.
// random.js precedes this file. B windows, T time steps, V vocabulary, H hidden units, G gates.
// Messages to a worker:
//   { type: "start", wasm, network, data, seed, ports }   lead a new network; `wasm`: the bytes of kernel.wasm
//   { type: "help", wasm, port }                          answer the leading worker, whose messages come from the port
//   { type: "run", until }                                train up to update `until`, which may be Infinity
//   { type: "pause" }                                     stop after the current update
// with a network of { cell, activation, layers, hiddens, sigma, sigma_xh, sigma_hh, init_hh, lr, input_lr_factor,
// optimizer, gradient_clip_val }, the settings of train.py that `supported` of experiments.js returns, and with data of
//   { type: "text", indices, V, num_steps, batch_size, num_train, num_val }   the settings of `data.`
//   { type: "recall", delay, batch_size, num_val }                            new windows for each update
// Messages from the leading worker, with `loss` the mean since the message before; errors are a worker's `error` event:
//   { type: "ready", parameters, updatesPerEpoch }
//   { type: "progress", update, seconds, charsPerSecond, loss, diverged, weights: { W_xh, … } }
//   { type: "epoch", update, train, val, recall }   perplexities; share of recalled letters; also before "paused"
//   { type: "paused", update, diverged }

const CELLS = { tanh: 0, relu: 1, gru: 2, lstm: 3 }; // `Cell` of fused.cpp
const GATES = { rnn: "h", deep_rnn: "h", gru: "rzh", lstm: "ifoc" }; // in the kernel's order, but of the GRU's W_h
const SLICE = 20; // ms of training before other messages are received; at least one update
const EVALUATE_EVERY = 100; // updates, if an epoch has more
const REPORT_EVERY = 200; // ms
// A batch is divided into four parts, whose gradients are added in the same order by one, two or four workers. Smaller
// batches than DIVIDED gain nothing.
const DIVISIONS = 2, DIVIDED = 256; // halves of halves; windows

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

/** Return the halves of a batch, or the halves of these, and so on. */
function divided(batch, divisions, length) {
  if (!divisions) return [batch];
  const half = Math.floor(batch.length / length / 2) * length;
  return [batch.subarray(0, half), batch.subarray(half)].flatMap((part) => divided(part, divisions - 1, length));
}

/** Return the sum of the parts of a batch: pairs first, then pairs of pairs. */
function added(sums) {
  if (sums.length === 1) return sums[0];
  const pairs = [];
  for (let place = 0; place < sums.length; place += 2) {
    const [one, other] = sums.slice(place, place + 2);
    one.gradients?.forEach((gradient, i) => (one.gradients[i] = gradient + other.gradients[i]));
    pairs.push({ ...one, loss: one.loss + other.loss, recalled: one.recalled + other.recalled });
  }
  return added(pairs);
}

// Each network has an instance of the kernel in each of its workers. The kernel's memory is an arena: first the weights, from
// `address` on, and after them the room for a batch, which `reserve` lays out again for each batch. When the memory has to
// grow for that, `memory.buffer` becomes another object and views of the former one become empty: so no view is kept.
class Network {
  /** `sizes`: the arguments of `setup`. */
  constructor(module, sizes) {
    this.kernel = new WebAssembly.Instance(module).exports;
    this.address = this.kernel.setup(...sizes);
    this.length = sizes[2] + 1; // of a window
  }

  /** All weights, or their gradients: views. */
  get weights() { return this.numbers(this.address); }
  get gradients() { return this.numbers(this.kernel.gradients()); }
  numbers(address) { return new Float32Array(this.kernel.memory.buffer, address, this.kernel.count()); }

  /** Return the sums over the windows of a batch: of the mean loss of each, recalled letters and, if wanted, gradients. */
  sums({ batch, divisions, wantsGradients, recallFrom }) {
    return added(divided(batch, divisions, this.length).map((part) => {
      const B = part.length / this.length, address = this.kernel.reserve(B);
      new Int32Array(this.kernel.memory.buffer, address, part.length).set(part);
      const loss = B * this.kernel.loss(wantsGradients ? 1 : 0);
      const gradients = wantsGradients ? this.gradients.map((gradient) => B * gradient) : null;
      return { loss, gradients, recalled: recallFrom ? this.kernel.recalled(SPACE, recallFrom) : 0 };
    }));
  }
}

/** Return the mean over windows of pairs, a mean over B windows and B: the last batch of an epoch may be smaller. */
function mean(pairs) {
  return pairs.reduce((sum, [value, B]) => sum + value * B, 0) / pairs.reduce((sum, [, B]) => sum + B, 0);
}

// Return the parameters in the order of Python's `named_parameters`: names without the prefix `rnn.`, and where the
// kernel's weights have them: `at`, the first number; `rows`, `columns`; `stride`, from one row to the next.
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

/** Draw new weights, in the order of `named_parameters` in Python. Biases start at 0. */
function initialise(network, parameters, { sigma, sigma_xh, sigma_hh, init_hh }, draw) {
  for (const { name, ...place } of parameters) {
    if (/b_\w$/.test(name)) continue;
    const isInput = /^(rnns\.0\.)?W_x/.test(name), isRecurrent = /W_h[^q]$/.test(name);
    const scale = (isInput ? sigma_xh : isRecurrent ? sigma_hh : null) ?? sigma;
    rowsOf(network, place).forEach((row, i) => row.forEach((_, j) => {
      const drawn = scale * draw();
      row[j] = isRecurrent && init_hh === "identity" ? Number(i === j) : drawn;
    }));
  }
}

/** Return the rows of a parameter: views. */
function rowsOf({ weights }, { at, rows, columns, stride }) {
  return Array.from({ length: rows }, (_, i) => weights.subarray(at + i * stride, at + i * stride + columns));
}

let lead = null; // the network that this worker leads: see `start`. sinceReport, sinceEpoch: pairs for `mean`
// A worker receives messages only between two tasks. A message of this channel ends a task; setTimeout would wait for 4 ms.
const nextTask = new MessageChannel();
const messages = () => new Promise((resolve) => {
  nextTask.port1.onmessage = resolve;
  nextTask.port2.postMessage(null);
});

function start({ wasm, network: settings, data, seed, ports }) {
  const { cell, activation, layers = 1, hiddens: H } = settings;
  const windows = { text: textWindows, recall: recallWindows }[data.type](data, uniform(seed)), { V, T, updatesPerEpoch } = windows;
  const sizes = [CELLS[activation ?? cell], layers, T, V, H], parameters = parametersOf(cell, layers, V, H);
  const network = new Network(new WebAssembly.Module(wasm), sizes);
  initialise(network, parameters, settings, normal(uniform(~seed))); // ~seed: other random numbers
  const counts = { until: 0, update: 0, evaluated: 0, seconds: 0, chars: 0, reportDue: 0 };
  lead = { network, sizes, parameters, settings, windows, ports, ...counts, isOn: false, diverged: false, sinceReport: [], sinceEpoch: [] };
  postMessage({ type: "ready", parameters: network.kernel.count(), updatesPerEpoch });
}

/** Answer the messages of a leading worker, which have its weights and a part of a batch. */
function help({ wasm, port }) {
  const module = new WebAssembly.Module(wasm);
  let network = null;
  port.onmessage = ({ data: { sizes, weights, ...part } }) => {
    network ??= new Network(module, sizes);
    network.weights.set(weights);
    port.postMessage(network.sums(part));
  };
}

/** Return the sums over the windows of a batch, see `Network.sums`: with the helpers' share, if it is large enough. */
async function total(batch, wantsGradients, recallFrom = 0) {
  const { network, sizes, ports } = lead, divisions = batch.length / network.length < DIVIDED ? 0 : DIVISIONS;
  const shared = Math.min(divisions, Math.log2(ports.length + 1)), others = { divisions: divisions - shared, wantsGradients, recallFrom };
  const [first, ...parts] = divided(batch, shared, network.length);
  const answers = parts.map((part, place) => new Promise((resolve) => {
    ports[place].onmessage = ({ data }) => resolve(data);
    ports[place].postMessage({ sizes, weights: network.weights.slice(), batch: part.slice(), ...others });
  }));
  return added([network.sums({ batch: first, ...others }), ...await Promise.all(answers)]);
}

/** Update the weights with the next windows, unless the loss or the norm is not finite: then it keeps the last weights. */
async function update() {
  const { network, windows, settings: { lr, input_lr_factor, gradient_clip_val, optimizer } } = lead;
  const batch = windows.train.next().value, B = batch.length / network.length, { loss, gradients } = await total(batch, true);
  network.gradients.set(gradients.map((gradient) => gradient / B));
  const norm = network.kernel.update(lr, lr * input_lr_factor, gradient_clip_val, optimizer === "adamw" ? 1 : 0);
  lead.update++;
  lead.diverged = !Number.isFinite(loss) || !Number.isFinite(norm);
  lead.chars += B * windows.T;
  for (const pairs of [lead.sinceReport, lead.sinceEpoch]) pairs.push([loss / B, B]);
}

/** Send the perplexities and, in the recall corpus, the share of recalled letters. */
async function evaluate() {
  const { network, windows: { validate, recallFrom }, update, sinceEpoch } = lead, losses = [], shares = [];
  for (const batch of validate()) {
    const B = batch.length / network.length, { loss, recalled } = await total(batch, false, recallFrom);
    losses.push([loss / B, B]);
    shares.push([recalled / B, B]);
  }
  lead.evaluated = update;
  const recall = recallFrom ? mean(shares) : null;
  postMessage({ type: "epoch", update, train: Math.exp(mean(sinceEpoch)), val: Math.exp(mean(losses)), recall });
}

/** Send the mean loss since the last report, and copies of the weights by their names in Python without `rnn.`. */
function report() {
  const { network, parameters, update, seconds, chars, diverged, sinceReport } = lead;
  const weights = parameters.map(({ name, ...place }) => [name, joined(rowsOf(network, place))]);
  const numbers = { update, seconds, charsPerSecond: chars / seconds, loss: mean(sinceReport), diverged };
  postMessage({ type: "progress", ...numbers, weights: Object.fromEntries(weights) });
  Object.assign(lead, { sinceReport: [], reportDue: performance.now() + REPORT_EVERY });
}

const isComplete = () => lead.update >= lead.until || lead.diverged;

/** Train up to the update `until`, which may change meanwhile; evaluate at the end of each epoch, and at the end. */
async function train() {
  const every = Math.min(lead.windows.updatesPerEpoch, EVALUATE_EVERY);
  lead.isOn = true;
  do {
    for (let sliceEnd = performance.now() + SLICE; !isComplete(); ) {
      const began = performance.now();
      await update();
      if (!lead.diverged && lead.update % every === 0) {
        await evaluate();
        lead.sinceEpoch = [];
      }
      lead.seconds += (performance.now() - began) / 1000;
      if (began > lead.reportDue) report();
      if (performance.now() < sliceEnd) continue;
      await messages();
      sliceEnd = performance.now() + SLICE;
    }
    report();
    if (lead.update > lead.evaluated && !lead.diverged) await evaluate();
  } while (!isComplete()); // a message has come meanwhile
  lead.isOn = false;
  postMessage({ type: "paused", update: lead.update, diverged: lead.diverged });
}

onmessage = ({ data: message }) => {
  if (message.type === "start") start(message);
  if (message.type === "help") help(message);
  if (message.type === "pause") lead.until = lead.update;
  if (message.type === "run") {
    lead.until = message.until;
    if (!lead.isOn) train();
  }
};

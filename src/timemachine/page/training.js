// The panel that trains one or two networks in the worker, and redraws everything with the weights that it sends.

const MAX_SYMBOLS = 256; // of an own text; rarer ones are read as <unk>
const MIN_OWN = 1_000; // characters
const BY_HEART = 1.02; // validation perplexity above its lowest, as a factor, from which the page says so
const kernel = bytes(find("kernel").textContent);
const canTrain = typeof WebAssembly === "object" && WebAssembly.validate(kernel); // with SIMD
// experiment: its name, or null after a change. progress, epochs: messages of the worker. weights: the last ones.
const training = { experiment: "book", settings: settingsOf(EXPERIMENTS.book), worker: null, on: false };

/** Return the text, its kind and its symbols that the networks read. */
function alphabetOf({ text }) {
  if (text === "recall") return { kind: "letters", tokens: [..."abcdefghijklmnopqrstuvwxyz "], unk: -1, text: "" };
  const own = text === "own", characters = own ? NORMALISE.characters(find("own").value) : run.text;
  if (!own && run.kind === "letters") return { kind: run.kind, tokens: run.tokens, unk: run.unk, text: characters };
  const counts = new Map();
  for (const symbol of characters) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  const symbols = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MAX_SYMBOLS);
  return { kind: "characters", tokens: [run.tokens[run.unk], ...symbols], unk: 0, text: characters };
}

/** Return the worker's description of the data. */
function dataOf({ text, batch, window, delay }, alphabet) {
  if (text === "recall") return { type: "recall", delay, batchSize: batch, valWindows: 512 };
  const [numTrain, numVal] = splitOf({ text, window }), { tokens, unk } = alphabet;
  const index = new Map(tokens.map((token, place) => [token, place]));
  const indices = Int32Array.from(Array.from(alphabet.text, (token) => index.get(token) ?? unk));
  return { type: "text", indices, V: tokens.length, numSteps: window, batchSize: batch, numTrain, numVal };
}

/** Remove the networks that were trained, and show the saved one if one of them was shown. */
function discard() {
  training.worker?.terminate();
  Object.assign(training, { worker: null, on: false, update: 0, ready: null, progress: [], epochs: [], weights: null });
  report("");
  if (chosen.network !== null) showEpoch(run.epochs.length - 1);
  drawTraining();
}

/** Start networks with new weights from the seed. */
function startWorker() {
  const { networks, data } = training.settings, alphabet = alphabetOf(data), source = find("worker").textContent;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  const settings = networks.map((network) => ({ ...network, sigma: SIGMA }));
  Object.assign(training, { worker, alphabet });
  worker.onmessage = ({ data: message }) => training.worker === worker && RECEIVE[message.type](message);
  worker.onerror = ({ message }) => RECEIVE.error({ message });
  const start = { type: "start", wasm: kernel, networks: settings, data: dataOf(data, alphabet), seed: data.seed };
  worker.postMessage(start);
  URL.revokeObjectURL(url);
}

/** Train up to the number of updates in the settings, or twice, three times, … that number. */
function train(until = null) {
  if (!canTrain || tooShort()) return drawTraining();
  stopReplay();
  pause();
  if (!training.worker) startWorker();
  const { updates } = training.settings.data;
  training.until = until ?? (Math.floor(training.update / updates) + 1) * updates;
  training.on = true;
  chosen.network ??= 0;
  training.worker.postMessage({ type: "run", until: training.until });
  drawTraining();
}

function pauseTraining() {
  training.worker?.postMessage({ type: "pause" });
}

const RECEIVE = {
  ready(message) {
    training.ready = message;
    drawTraining();
  },
  progress(message) {
    training.progress.push(message);
    if (training.progress.length > 1000) training.progress = training.progress.filter((_, place) => place % 2);
    training.update = message.update;
    drawTraining();
  },
  epoch(message) { training.epochs.push(message); },
  weights(message) {
    const isFirst = !training.weights;
    training.weights = message.networks;
    if (chosen.network === null) return;
    show(trainedModel(chosen.network));
    if (isFirst) replaceUnreadable();
  },
  paused({ update, reason }) {
    Object.assign(training, { on: false, update });
    drawTraining();
    draw();
    find("announced").textContent = reason === "diverged" ? "Diverged." : `Training stopped after ${update} updates.`;
  },
  error({ message }) {
    discard();
    find("trained").textContent = `The training stopped: ${message}.`;
  },
};

function trainedModel(place) {
  const { cell, activation, hiddens } = training.settings.networks[place], { window } = training.settings.data;
  return new Model({ ...training.alphabet, cell, activation, hiddens, window }, training.weights[place]);
}

/** Return the text that the shown network was trained on. */
function trainedText() {
  if (chosen.network === null) return run.text;
  return training.alphabet.text || "kabcdefghijabcde ksghiabcdefghijab stdfjcabaghdefab t";
}

/** Replace the text in the box by an example if the network cannot read most of it. */
function replaceUnreadable() {
  if (model.unknown(box.value).length < new Set(model.read(box.value)).size / 2 && training.alphabet.text) return;
  write(excerpt(0), 0, box.value.length);
  report("An example replaces your text. Ctrl-Z brings it back.");
}

const tooShort = () => training.settings.data.text === "own" && find("own").value.length < MIN_OWN;
const isLost = (place) => {
  const { diverged } = training.progress.at(-1)?.networks[place] ?? {}, { val } = training.epochs.at(-1)?.networks[place] ?? {};
  return diverged || !(Number.isFinite(val ?? 0) && (val ?? 0) <= training.alphabet.tokens.length);
};
const nameOf = ({ cell, activation, layers, hiddens }) =>
  `${cell === "rnn" && activation === "relu" ? "ReLU RNN" : cell.toUpperCase()}${layers > 1 && cell === "rnn" ? `, ${layers} layers` : ""}, ${hiddens} units`;

function drawTraining() {
  const { on, update, progress, settings, ready } = training, latest = progress.at(-1), isDone = update >= training.until;
  const action = on ? "❙❙ Pause" : update ? "▶\ufe0e Train longer" : "▶\ufe0e Train";
  find("train").textContent = on || !update || isDone ? action : "▶\ufe0e Continue";
  find("train").disabled = !canTrain || tooShort();
  find("reset").disabled = !training.worker;
  const epoch = latest && settings.data.text !== "recall" ? `, epoch ${latest.epoch.toFixed(latest.epoch < 10 ? 1 : 0)}` : "";
  const speed = latest && `, ${latest.seconds.toFixed(1)} s, ${Math.round(latest.charsPerSecond).toLocaleString("en")} characters/s`;
  if (!canTrain) find("trained").textContent = "This browser has no WebAssembly with SIMD, which the training needs.";
  else if (tooShort()) find("trained").textContent = `Paste at least ${MIN_OWN.toLocaleString("en")} characters.`;
  else find("trained").textContent = `Update ${update.toLocaleString("en")}${epoch}${speed ?? ""}`;
  drawReaders();
  drawResults();
  drawCurves();
}

/** List the networks that can read the text, and choose the shown one. */
function drawReaders() {
  const names = ["the saved network", ...(training.weights ? training.settings.networks.map(nameOf) : [])];
  const list = find("reader");
  if ([...list.options].map(({ text }) => text).join() !== names.join()) {
    list.replaceChildren(...names.map((name, place) => new Option(name, place ? place - 1 : "")));
  }
  list.value = training.weights ? chosen.network ?? "" : "";
  list.disabled = names.length === 1;
}

/** Draw the numbers of each network next to those of train.py, and what they mean. */
function drawResults() {
  const { experiment, settings, epochs, ready, update } = training, isRecall = settings.data.text === "recall";
  const { python, data } = EXPERIMENTS[experiment] ?? {}, latest = epochs.at(-1), said = [];
  const show = (number) => (Number.isFinite(number) ? inWords(number) : "–");
  const share = (number) => (Number.isFinite(number) ? `${Math.round(100 * number)}%` : "–");
  find("scores").replaceChildren(...settings.networks.map((network, place) => {
    const { train, val, recall } = latest?.networks[place] ?? {}, row = create("tr"), lost = update && isLost(place);
    const numbers = isRecall ? ["", share(recall)] : [show(train), show(val)];
    const [first, second] = python?.[place] ?? [], ofPython = isRecall ? share(second) : [first, second].map(show).join(" / ");
    const name = Object.assign(create("th", nameOf(network), `network-${place}`), { scope: "row" });
    const parameters = ready ? ready.parameters[place].toLocaleString("en") : "–";
    const cells = [parameters, ...(lost ? ["diverged", ""] : numbers), Number.isFinite(second) ? ofPython : python ? "diverged" : "–"];
    row.append(name, ...cells.map((text) => create("td", text)));
    const lowest = Math.min(...epochs.map(({ networks }) => networks[place].val));
    if (!lost && val > BY_HEART * lowest && train < val) said.push(
      `The ${nameOf(network)} learns by heart: its validation perplexity rose from ${show(lowest)} to ${show(val)}.`);
    return row;
  }));
  find("val-name").textContent = isRecall ? "recalled" : "validation";
  find("expected").textContent = experiment ? EXPERIMENTS[experiment].says : "Your settings.";
  find("noted").textContent = said.join(" ");
  find("command").textContent = settings.networks.map((network) => commandOf(network, settings.data)).join("\n");
}

/** Show the settings that differ from the book's, or all, as fields: a row per setting, a column per network. */
function drawSettings() {
  const { networks, data } = training.settings, rows = [], isAll = find("all-settings").checked;
  const addRow = (name, field, groups, span) => {
    const isBook = groups.every((group) => group[name] === field.book);
    if (name === "delay" ? data.text !== "recall" : isBook && !isAll) return;
    const row = create("tr");
    row.append(Object.assign(create("th", field.label), { scope: "row" }), create("td", TEXTS[field.book] ?? field.book));
    groups.forEach((group, place) => {
      const cell = Object.assign(create("td"), { colSpan: span });
      cell.append(fieldFor(name, field, group, groups.length > 1 ? `, network ${place + 1}` : ""));
      row.append(cell);
    });
    rows.push(row);
  };
  for (const [name, field] of Object.entries(NETWORK)) addRow(name, field, networks, 1);
  for (const [name, field] of Object.entries(DATA)) addRow(name, field, [data], networks.length);
  find("settings").replaceChildren(...rows);
  find("settings-head").hidden = !rows.length;
  find("as-book").hidden = rows.length > 0;
  find("compare").checked = networks.length === 2;
  document.querySelectorAll(".second").forEach((cell) => (cell.hidden = networks.length < 2));
  find("own-text").hidden = data.text !== "own";
  for (const button of find("experiments").children) {
    button.ariaPressed = String(button.dataset.name === training.experiment);
  }
}

/** Return a field for one setting, which changes it. */
function fieldFor(name, field, group, of) {
  const input = create(field.values ? "select" : "input");
  if (field.values) input.append(...field.values.map((value) => new Option(TEXTS[value] ?? value, value)));
  else Object.assign(input, { type: "number", min: field.least, max: field.most, step: field.step, required: true });
  if (name === "text" && !run.text) input.querySelectorAll("[value=beginning], [value=whole]").forEach((option) => (option.disabled = true));
  Object.assign(input, { value: group[name], defaultValue: group[name], id: `set-${name}${of.slice(-1)}` });
  input.setAttribute("aria-label", field.label + of);
  input.addEventListener("change", () => {
    group[name] = field.values ? input.value : numberOf(input);
    training.experiment = null;
    discard();
    drawSettings();
  });
  return input;
}

/** Take the settings of an experiment, or others, and forget the networks that were trained. */
function setUp(experiment, settings = settingsOf(EXPERIMENTS[experiment])) {
  Object.assign(training, { experiment, settings });
  discard();
  drawSettings();
}

for (const [name, { name: text }] of Object.entries(EXPERIMENTS)) {
  const button = create("button", text);
  button.dataset.name = name;
  button.addEventListener("click", () => [setUp(name), train()]);
  find("experiments").append(button);
}
find("train").addEventListener("click", () => (training.on ? pauseTraining() : train()));
find("reset").addEventListener("click", discard);
find("all-settings").addEventListener("input", drawSettings);
find("compare").addEventListener("input", ({ target }) => {
  const { networks: [first], data } = training.settings;
  setUp(null, { networks: target.checked ? [first, { ...first }] : [first], data });
});
find("own").addEventListener("input", discard);
find("reader").addEventListener("input", ({ target }) => {
  if (target.value === "") return showEpoch(run.epochs.length - 1);
  chosen.network = Number(target.value);
  show(trainedModel(chosen.network));
});

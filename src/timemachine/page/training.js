// The panel that trains one or two networks in the worker, and redraws everything with the weights that it sends.

const MAX_SYMBOLS = 256; // of an own text; rarer ones are read as <unk>
const MIN_OWN = 1_000; // characters
const BY_HEART = 1.03, RISES = 5; // factor by which validations exceed the lowest, and their number, to say so
const RECALL = { kind: "letters", tokens: [..."abcdefghijklmnopqrstuvwxyz "], unk: -1, text: "" };
const kernel = bytes(find("kernel").textContent);
const canTrain = typeof WebAssembly === "object" && WebAssembly.validate(kernel); // not without SIMD
// experiment: null after a change of its settings. progress, epochs: messages of the worker. weights: the last ones.
const training = { experiment: null, settings: null, worker: null, on: false, update: 0 };

/** Return the text that networks train on, its kind and its symbols. */
function alphabetOf({ text }) {
  if (text === "recall") return RECALL;
  const { kind, tokens, unk } = run, isOwn = text === "own";
  const characters = isOwn ? NORMALISE.characters(find("own").value) : run.text;
  if (!isOwn && kind === "letters") return { kind, tokens, unk, text: characters };
  const counts = new Map();
  for (const symbol of characters) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  const symbols = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MAX_SYMBOLS);
  return { kind: "characters", tokens: [tokens[unk], ...symbols], unk: 0, text: characters };
}

/** Return the worker's description of the data. */
function dataOf({ text, batch, window, delay }, { tokens, unk, text: characters }) {
  if (text === "recall") return { type: "recall", delay, batchSize: batch, valWindows: 512 };
  const [numTrain, numVal] = splitOf({ text, window }), index = new Map(tokens.map((token, place) => [token, place]));
  const indices = Int32Array.from(Array.from(characters, (token) => index.get(token) ?? unk));
  return { type: "text", indices, V: tokens.length, numSteps: window, batchSize: batch, numTrain, numVal };
}

/** Take the settings of an experiment, or others, and remove the networks that were trained. */
function setUp(experiment, settings = settingsOf(experiment)) {
  training.worker?.terminate();
  Object.assign(training, { experiment, settings, worker: null, on: false, update: 0, until: 0, ready: null });
  Object.assign(training, { progress: [], epochs: [], weights: null, alphabet: null, message: "" });
  if (chosen.network !== null) showEpoch(run.epochs.length - 1);
  drawSettings();
  drawTraining();
}

function startWorker() {
  const { networks, data } = training.settings, alphabet = alphabetOf(data);
  const url = URL.createObjectURL(new Blob([find("worker").textContent], { type: "text/javascript" }));
  const worker = new Worker(url), settings = networks.map((network) =>
    ({ ...network, sigma: SIGMA, sigmaHh: hasSigmaHh(network) ? network.sigmaHh : null }));
  Object.assign(training, { worker, alphabet });
  worker.onmessage = ({ data: message }) => training.worker === worker && RECEIVE[message.type](message);
  worker.onerror = RECEIVE.error;
  worker.postMessage({ type: "start", wasm: kernel, networks: settings, data: dataOf(data, alphabet), seed: data.seed });
}

/** Train up to an update, by default up to the next multiple of the number in the settings. */
function train(until = null) {
  if (!canTrain || isTooShort()) return;
  stopReplay();
  pause();
  if (!training.worker) startWorker();
  const { updates } = training.settings.data;
  training.until = until ?? (Math.floor(training.update / updates) + 1) * updates;
  training.on = true;
  chosen.network ??= training.settings.networks.length - 1; // in the experiments, the one that learns more
  training.worker.postMessage({ type: "run", until: training.until });
  drawTraining();
}

const pauseTraining = () => training.worker.postMessage({ type: "pause" });
const inEpochs = () => ["beginning", "own"].includes(training.settings.data.text); // or in updates
const isTooShort = () => training.settings.data.text === "own" && find("own").value.length < MIN_OWN;

const RECEIVE = {
  ready: (message) => (training.ready = message),
  progress(message) {
    training.progress.push(message);
    if (training.progress.length > 1000) training.progress = training.progress.filter((_, place) => place % 2);
    training.update = message.update;
    drawTraining();
  },
  epoch: (message) => training.epochs.push(message),
  weights({ networks }) {
    const isFirst = !training.weights;
    training.weights = networks;
    if (chosen.network !== null) show(trainedModel());
    if (!isFirst || chosen.network === null || isReadable()) return;
    write(excerpt(0), 0, box.value.length);
    report("An example replaces your text. Ctrl-Z brings it back.");
  },
  paused({ update, reason }) {
    Object.assign(training, { on: false, update, message: reason === "diverged" ? "Diverged. " : "" });
    drawTraining();
    draw();
    find("announced").textContent = `Training stopped at update ${update}.`;
  },
  error({ message }) {
    setUp(training.experiment, training.settings);
    find("trained").textContent = `The training stopped: ${message}.`;
  },
};

/** Return the shown one of the networks that train. */
function trainedModel() {
  const { settings: { networks, data: { window } }, alphabet, weights } = training;
  return new Model({ ...alphabet, ...networks[chosen.network], window }, weights[chosen.network]);
}

/** Return the text that the shown network was trained on. */
function trainedText() {
  if (chosen.network === null) return run.text;
  const fillers = "qrstuvwxyz".repeat(3).slice(0, training.settings.data.delay - 2);
  return training.alphabet.text || `d${fillers} dg${fillers} `; // g follows
}

const isReadable = () => training.alphabet.text && model.unknown(box.value).length < new Set(model.read(box.value)).size / 2;

/** Return whether a network has diverged, or is worse than guessing. */
function isLost(place) {
  const { val } = training.epochs.at(-1)?.networks[place] ?? { val: 0 };
  return training.progress.at(-1)?.networks[place].diverged || !(val <= training.alphabet.tokens.length);
}

/** Return the networks' names, with a setting that differs if they would be equal. */
function names() {
  const { networks } = training.settings, [differs] = Object.keys(NETWORK).filter((name) => networks[0][name] !== networks[1]?.[name]);
  const of = ({ cell, activation, layers, hiddens }) =>
    `${cell !== "rnn" ? cell.toUpperCase() : `${layers > 1 ? `${layers}-layer ` : ""}${activation === "relu" ? "ReLU " : ""}RNN`}, ${hiddens} units`;
  const isSame = networks.length > 1 && of(networks[0]) === of(networks[1]) && differs;
  return networks.map((network) => of(network) + (isSame ? `, ${NETWORK[differs].label.split(",")[0]} ${network[differs]}` : ""));
}

function drawTraining() {
  const { on, update, until, progress, worker, message } = training, { epoch, seconds, charsPerSecond } = progress.at(-1) ?? {};
  const next = !update ? "Train" : update >= until ? "Train longer" : "Continue";
  find("train").textContent = on ? "❙❙ Pause" : `▶\ufe0e ${next}`;
  find("train").disabled = !canTrain || isTooShort();
  find("reset").disabled = !worker;
  const numbers = [`update ${grouped(update)}`];
  if (seconds && inEpochs()) numbers.push(`epoch ${epoch.toFixed(1)}`);
  if (seconds) numbers.push(`${seconds.toFixed(1)} s`, `${grouped(charsPerSecond)} characters/s`);
  find("trained").textContent = !canTrain ? "Training needs WebAssembly with SIMD, which this browser lacks."
    : isTooShort() ? `Paste at least ${grouped(MIN_OWN)} characters.` : message + numbers.join(", ");
  drawReaders();
  drawResults();
  drawCurves();
}

/** List the networks that can read the text, and choose the shown one. */
function drawReaders() {
  const all = ["the saved network", ...(training.weights ? names() : [])], list = find("reader");
  if ([...list.options].map(({ text }) => text).join() !== all.join()) {
    list.replaceChildren(...all.map((name, place) => new Option(name, place ? place - 1 : "")));
  }
  list.value = training.weights ? chosen.network ?? "" : "";
  list.disabled = all.length === 1;
}

/** Draw the numbers of each network next to those of train.py, and the command. */
function drawResults() {
  const { experiment, settings: { networks, data }, epochs, ready, update } = training, said = [], titles = names();
  const show = (number) => (number == null ? "" : inWords(number));
  find("scores").replaceChildren(...networks.map((network, place) => {
    const { train, val, recall } = epochs.at(-1)?.networks[place] ?? {}, lost = update > 0 && isLost(place);
    const python = experiment && (experiment.python[place]?.toFixed(2) ?? "diverged");
    const vals = epochs.map(({ networks }) => networks[place].val), lowest = Math.min(...vals);
    const hasRisen = vals.length > RISES && vals.slice(-RISES).every((later) => later > BY_HEART * lowest);
    if (!lost && hasRisen && train < val) said.push(`${titles[place]} learns by heart: its validation` +
      ` perplexity has risen from ${inWords(lowest)} to ${inWords(val)}. A longer text helps, or fewer updates.`);
    const recalls = recall == null ? "" : `, recalls ${Math.round(100 * recall)}%`;
    const numbers = lost ? ["diverged", ""] : [show(train), show(val) + recalls];
    const cells = [grouped(ready?.parameters[place] ?? NaN).replace("NaN", ""), ...numbers, python ?? ""];
    const head = create("th", titles[place], { className: `network-${place}`, scope: "row" });
    return create("tr", [head, ...cells.map((text) => create("td", text))]);
  }));
  find("expected").textContent = experiment?.says ?? "Your own settings: train.py has not been run with them.";
  find("noted").textContent = said.join(" ");
  find("command").textContent = networks.map((network) => commandOf(network, data)).join("\n");
}

/** Show the settings that differ from the book's, or all: a row of fields per setting, a column per network. */
function drawSettings() {
  const { settings: { networks, data }, experiment } = training, isAll = find("all-settings").checked;
  const rowsOf = (fields, groups) => Object.entries(fields).flatMap(([name, field]) => {
    const isBook = groups.every((group) => group[name] === field.book);
    if (name === "delay" ? data.text !== "recall" : isBook && !isAll) return [];
    const cells = groups.map((group, place) => {
      const of = groups.length > 1 ? `, network ${place + 1}` : "";
      return create("td", fieldFor(name, field, group, of), { colSpan: networks.length / groups.length });
    });
    return create("tr", [create("th", field.label, { scope: "row" }), create("td", TEXTS[field.book] ?? `${field.book}`), ...cells]);
  });
  const rows = [...rowsOf(NETWORK, networks), ...rowsOf(DATA, [data])];
  find("settings").replaceChildren(...rows);
  find("settings-head").hidden = !rows.length;
  find("as-book").hidden = rows.length > 0;
  find("compare").checked = networks.length === 2;
  find("second").hidden = networks.length < 2;
  find("own-text").hidden = data.text !== "own";
  [...find("experiments").children].forEach((button, place) => (button.ariaPressed = `${run.experiments[place] === experiment}`));
}

/** Return a field for one setting, which changes it. */
function fieldFor(name, { label, values, attributes }, group, of) {
  const isLacking = (value) => !run.text && ["beginning", "whole"].includes(value);
  const options = values?.map((value) => create("option", TEXTS[value] ?? value, { value, disabled: isLacking(value) }));
  const field = values ? create("select", options) : create("input", "", { ...attributes, defaultValue: group[name] });
  Object.assign(field, { value: group[name], ariaLabel: label + of });
  field.addEventListener("change", () => {
    group[name] = values ? field.value : numberOf(field);
    setUp(null, training.settings);
  });
  return field;
}

for (const experiment of run.experiments) {
  const button = create("button", experiment.name, { disabled: !run.text && experiment.data?.text !== "recall" });
  button.addEventListener("click", () => [setUp(experiment), train()]);
  find("experiments").append(button);
}
find("train").addEventListener("click", () => (training.on ? pauseTraining() : train()));
find("reset").addEventListener("click", () => setUp(training.experiment, training.settings));
find("all-settings").addEventListener("input", drawSettings);
find("compare").addEventListener("input", ({ target }) => {
  const { networks: [first], data } = training.settings;
  setUp(null, { networks: target.checked ? [first, { ...first }] : [first], data });
});
find("own").addEventListener("input", () => (training.worker ? setUp(null, training.settings) : drawTraining()));
find("reader").addEventListener("input", ({ target }) => {
  if (target.value === "") return showEpoch(run.epochs.length - 1);
  chosen.network = Number(target.value);
  show(trainedModel());
});

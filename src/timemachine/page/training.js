// The panel that trains up to three networks in workers, and redraws everything with the weights that they send.

const MAX_SYMBOLS = 256; // of an own text; rarer ones are read as <unk>
const BY_HEART = 1.03, RISES = 5; // factor by which validations exceed the lowest, and their number, to say so
const MAX_POINTS = 1000; // of the curve of the training loss
const WARM_UP = 1000; // ms after the start of a training in which its button does not pause it: a finger may be on its way
const NUM_RECALLED = 512; // windows of the recall corpus for validation
const RECALL = { kind: "letters", tokens: [..."abcdefghijklmnopqrstuvwxyz "], unk: -1 };
const kernel = bytes(find("kernel").textContent);
const canTrain = typeof WebAssembly === "object" && WebAssembly.validate(kernel); // not without SIMD
// experiment: null after a change of its settings. isRestored: from a link. team: the workers, see team.js. until: the update
// at which training stops. learners: what each network has sent: see `newLearner`.
const training = { experiment: null, settings: null, team: null, on: false, began: -Infinity, learners: [] };
// ready, latest, epochs: messages of the worker, the last two of "progress" and "epoch". losses: pairs of update and loss.
const newLearner = () => ({ ready: null, latest: null, epochs: [], losses: [] });

/** Return the update that all networks have reached but those that have diverged. */
function reached() {
  const learning = training.learners.filter(({ latest }) => !latest?.diverged), those = learning.length ? learning : training.learners;
  return Math.min(...those.map(({ latest }) => latest?.update ?? 0));
}

/** Return the text that networks train on, its kind and its symbols; of the recall corpus, an example. */
function alphabetOf({ text, delay }) {
  const fillers = "qrstuvwxyz".repeat(4).slice(0, delay - 2);
  if (text === "recall") return { ...RECALL, text: `d${fillers} dg${fillers} g` };
  const { kind, tokens, unk } = run, isOwn = text === "own";
  const characters = isOwn ? NORMALISE.characters(find("own").value) : run.text;
  if (!isOwn && kind === "letters") return { kind, tokens, unk, text: characters };
  const counts = new Map();
  for (const symbol of characters) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  const symbols = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MAX_SYMBOLS);
  return { kind: "characters", tokens: [tokens[unk], ...symbols], unk: 0, text: characters };
}

/** Return the worker's description of the data. */
function dataOf({ text, delay, batch_size, num_steps }, { tokens, unk, text: characters }) {
  if (text === "recall") return { type: "recall", delay, batch_size, num_val: NUM_RECALLED };
  const [num_train, num_val] = splitOf({ text, num_steps }), index = new Map(tokens.map((token, place) => [token, place]));
  const indices = Int32Array.from(Array.from(characters, (token) => index.get(token) ?? unk));
  return { type: "text", indices, V: tokens.length, num_steps, batch_size, num_train, num_val };
}

/** Take the settings of an experiment, or others, and remove the networks that were trained. */
function setUp(experiment, settings = settingsOf(experiment), isTyping = false) {
  training.team?.end();
  const learners = settings.networks.map(newLearner);
  Object.assign(training, { experiment, settings, isRestored: false, team: null, on: false, until: 0, learners, alphabet: null });
  if (chosen.network !== null) showEpoch(run.epochs.length - 1);
  if (!isTyping) drawSettings();
  drawTraining();
}

function startTraining() {
  const { networks, data } = training.settings, alphabet = training.alphabet = alphabetOf(data);
  const url = URL.createObjectURL(new Blob([find("worker").textContent], { type: "text/javascript" }));
  const settings = networks.map((network) => ({ sigma: SIGMA, ...supported(network) }));
  const message = { wasm: kernel, networks: settings, data: dataOf(data, alphabet), seed: data.seed };
  training.team = startTeam(url, message, navigator.hardwareConcurrency || 1, (place, message) => RECEIVE[message.type](message, place), (error) => {
    setUp(training.experiment, training.settings);
    find("trained").textContent = `The training stopped: ${error}.`;
  });
}

/** Train up to an update, by default up to the next multiple of the number in the settings. */
function train(until = null) {
  if (!canTrain || isTooShort()) return;
  stopReplay();
  pause();
  if (!training.team) startTraining();
  const { networks, data: { updates } } = training.settings;
  training.until = until ?? (Math.floor(reached() / updates) + 1) * updates;
  Object.assign(training, { on: true, began: performance.now() });
  setTimeout(drawTraining, WARM_UP);
  chosen.network ??= networks.length - 1; // in the experiments, the one that learns more
  training.team.send({ type: "run", until: training.until });
  drawTraining();
}

const isWarmingUp = () => performance.now() < training.began + WARM_UP;
const pauseTraining = () => training.team.send({ type: "pause" });
const inEpochs = () => ["beginning", "own"].includes(training.settings.data.text); // or in updates
const leastOwn = () => Math.max(1000, 25 * training.settings.data.num_steps); // 5% are a window or more
const isTooShort = () => training.settings.data.text === "own" && find("own").value.length < leastOwn();

const RECEIVE = {
  ready: (message, place) => (training.learners[place].ready = message),
  epoch(message, place) {
    training.learners[place].epochs.push(message);
    drawTraining();
  },
  progress(message, place) {
    const isFirst = training.learners.every(({ latest }) => !latest), learner = training.learners[place];
    learner.latest = message;
    learner.losses.push([message.update, message.loss]);
    if (learner.losses.length > MAX_POINTS) learner.losses = learner.losses.filter((_, place) => place % 2);
    drawTraining();
    if (reading.isComplete || isFirst) showTrained(); // a long text may take longer to read than until the next message
    if (!isFirst || chosen.network === null || training.isRestored) return; // a link's text stays
    const isRecall = training.settings.data.text === "recall"; // whose text has blocks
    if (!isRecall && model.unknown(box.value).length < new Set(model.read(box.value)).size / 2) return;
    write(excerpt(0), 0, box.value.length);
    report("An example replaces your text. Ctrl-Z brings it back.");
  },
  paused() {
    Object.assign(training, { on: false, began: -Infinity });
    drawTraining();
    showTrained();
    find("announced").textContent = `Training stopped at update ${reached()}.`;
  },
};

/** Read the text with the networks that train, if one of them is chosen. */
function showTrained() {
  const places = training.learners.flatMap(({ latest }, place) => (latest ? [place] : []));
  if (!places.includes(chosen.network)) return;
  const models = places.map((place) => {
    const network = supported(training.settings.networks[place]), learner = training.learners[place];
    if (learner.shown !== learner.latest) {
      learner.model = new CELLS[network.cell]({ ...training.alphabet, ...network }, learner.latest.weights);
      learner.shown = learner.latest;
    }
    return learner.model;
  });
  show(models, places.map((place) => names()[place]), places.indexOf(chosen.network));
}

/** Return whether a network has diverged, or is worse than guessing. */
function isLost({ epochs, latest }) {
  const { val } = epochs.at(-1) ?? { val: 0 };
  return latest?.diverged || !(val <= training.alphabet?.tokens.length);
}

/** Return the networks' names, with a setting that differs if they would be equal. */
function names() {
  const { networks } = training.settings;
  const titles = networks.map(({ cell, activation, layers, hiddens, init_hh }) => {
    const rnn = [layers > 1 && `${layers}-layer`, activation === "relu" && "ReLU", layers === 1 && init_hh === "identity" && "identity", "RNN"].filter(Boolean).join(" ");
    return `${cell === "rnn" ? rnn : cell.toUpperCase()}, ${hiddens} units`;
  });
  const differs = Object.keys(NETWORK).find((name) => networks[0][name] !== networks.at(-1)[name]);
  if (titles[0] !== titles[1] || !differs) return titles;
  return titles.map((title, place) => `${title}, ${NETWORK[differs].ariaLabel.split(",")[0]} ${networks[place][differs]}`);
}

function drawTraining() {
  const { on, until, learners, team } = training, update = reached(), { ready, latest } = learners[0];
  const next = !update ? "Train" : update >= until ? "Train longer" : "Continue";
  find("train").textContent = !on ? `▶\ufe0e ${next}` : isWarmingUp() ? "Training …" : "❙❙ Pause";
  find("train").disabled = !canTrain || isTooShort();
  find("reset").disabled = !team;
  const numbers = [`update ${grouped(update)}`], speed = learners.reduce((sum, { latest }) => sum + (latest?.charsPerSecond || 0), 0);
  if (ready && inEpochs()) numbers.push(`epoch ${(update / ready.updatesPerEpoch).toFixed(1)}`);
  if (latest) numbers.push(`${Math.max(...learners.map(({ latest }) => latest?.seconds ?? 0)).toFixed(1)} s`);
  if (speed) numbers.push(`${grouped(speed)} characters/s`);
  find("trained").textContent = !canTrain ? "Training needs WebAssembly with SIMD, which this browser lacks."
    : isTooShort() ? `Paste at least ${grouped(leastOwn())} characters.` : numbers.join(", ");
  drawReaders();
  drawResults();
  drawCurves();
}

/** List the networks that can read the text, and choose the shown one. */
function drawReaders() {
  const isTrained = training.learners.every(({ latest }) => latest), list = find("reader");
  const all = ["the saved network", ...(isTrained ? names() : [])];
  if ([...list.options].map(({ text }) => text).join() !== all.join()) {
    list.replaceChildren(...all.map((name, place) => new Option(name, place ? place - 1 : "")));
  }
  list.value = isTrained ? chosen.network ?? "" : "";
  list.disabled = all.length === 1;
}

/** Say of a network whose validation perplexity keeps rising that it learns by heart; "" for others. */
function learnsByHeart(title, { epochs }) {
  const vals = epochs.map(({ val }) => val), { train, val } = epochs.at(-1) ?? {}, lowest = Math.min(...vals), later = vals.slice(-RISES);
  if (vals.length <= RISES || train >= val || later.some((val) => val <= BY_HEART * lowest)) return "";
  return `${title} learns by heart: its validation perplexity has risen from ${inWords(lowest)} to ${inWords(val)}.` +
    " A longer text helps, or fewer updates.";
}

/** Draw the numbers of each network next to those of train.py, and the command. */
function drawResults() {
  const { experiment, settings: { networks, data }, learners } = training, titles = names(), python = experiment?.python;
  find("with-python").hidden = !python;
  find("scores").replaceChildren(...learners.map((learner, place) => {
    const { ready, latest, epochs } = learner, { train, val, recall } = epochs.at(-1) ?? {};
    const recalls = recall == null ? "" : `, recalls\u00a0${Math.round(100 * recall)}%`;
    const numbers = latest?.diverged ? ["", `diverged at update ${grouped(latest.update)}`]
      : val && isLost(learner) ? ["", "diverged"] : val ? [inWords(train), inWords(val) + recalls] : ["", ""];
    const cells = [ready ? grouped(ready.parameters) : "", ...numbers];
    if (python) cells.push(python[place]?.toFixed(2) ?? "diverged");
    const head = create("th", titles[place], { className: `network-${place}`, scope: "row" });
    return create("tr", [head, ...cells.map((text) => create("td", text))]);
  }));
  find("expected").textContent = experiment ? [experiment.says, experiment.found].filter(Boolean).join(" ")
    : "Your own settings. Choosing a cell sets AdamW and the rate that the study of cells found for its size.";
  find("noted").textContent = learners.map((learner, place) => (isLost(learner) ? "" : learnsByHeart(titles[place], learner))).join(" ").trim();
  find("command").textContent = networks.map((network) => commandOf(network, data)).join("\n");
}

/** Show the settings that differ from the book's, or all: a row of fields per setting, a column per network. */
function drawSettings() {
  const { settings: { networks, data }, experiment } = training, isAll = find("all-settings").checked;
  const rowsOf = (fields, groups) => Object.entries(fields).flatMap(([name, field]) => {
    const isBook = groups.every((group) => group[name] === valueOf(field));
    if (name === "delay" ? data.text !== "recall" : isBook && !isAll) return [];
    const cells = groups.map((group, place) => {
      const of = groups.length > 1 ? `, network ${place + 1}` : "";
      return create("td", fieldFor(field, group, of), { colSpan: networks.length / groups.length });
    });
    const book = field.selectedOptions?.[0].text ?? field.value;
    return create("tr", [create("th", field.ariaLabel, { scope: "row" }), create("td", book), ...cells]);
  });
  const rows = [...rowsOf(NETWORK, networks), ...rowsOf(DATA, [data])];
  find("settings").replaceChildren(...rows);
  find("settings-head").hidden = !rows.length;
  find("as-book").hidden = rows.length > 0;
  find("compare").checked = networks.length > 1;
  [1, 2].forEach((place) => (find("settings-head").querySelector(`.network-${place}`).hidden = networks.length <= place));
  find("own-text").hidden = data.text !== "own";
  [...find("experiments").children].forEach((button, place) => (button.ariaPressed = `${run.experiments[place] === experiment}`));
}

/** Return a copy of a field of page.html that changes a group's setting. */
function fieldFor(template, group, of) {
  const field = document.importNode(template, true), { name, ariaLabel, type } = field;
  Object.assign(field, { defaultValue: group[name], value: group[name], ariaLabel: ariaLabel + of });
  field.addEventListener("change", () => {
    group[name] = valueOf(field);
    if (name === "cell") Object.assign(group, { optimizer: "adamw", lr: rateOf(group, (training.alphabet ?? run).tokens.length) });
    setUp(null, training.settings, type === "number"); // whose field keeps the focus, also while Tab leaves it
    if (type !== "number") find("settings").querySelector(`[aria-label="${field.ariaLabel}"]`)?.focus();
  });
  return field;
}

for (const experiment of run.experiments) {
  const button = create("button", `▶\ufe0e ${experiment.name}`, { disabled: !run.text && experiment.data?.text !== "recall" });
  button.addEventListener("click", () => [setUp(experiment), train()]);
  find("experiments").append(button);
}
DATA.text.querySelectorAll(".of-run").forEach((option) => (option.disabled = !run.text));
find("train").addEventListener("click", () => (!training.on ? train() : isWarmingUp() || pauseTraining()));
find("reset").addEventListener("click", () => setUp(training.experiment, training.settings));
find("all-settings").addEventListener("input", drawSettings);
find("compare").addEventListener("input", ({ target }) => {
  const { networks: [first], data } = training.settings;
  setUp(null, { networks: target.checked ? [first, { ...first }] : [first], data });
});
find("own").addEventListener("input", () => (training.team ? setUp(null, training.settings) : drawTraining()));
find("reader").addEventListener("input", ({ target }) => {
  if (target.value === "") return showEpoch(run.epochs.length - 1);
  chosen.network = Number(target.value);
  showTrained();
});

// The panel that trains a new network in the page, and redraws everything with its weights several times per second.

const PAUSE = 200; // ms between two drawings during training
const SMOOTHING = 0.96; // of the running loss
const MAX_SYMBOLS = 256; // of a text; rarer ones are read as <unk>
const NUM_POINTS = 500; // of the curve, about
// network: arguments of its Model. loss: running mean, in nats. curve: `loss` after each update. example: in the box.
const training = { on: false, trainer: null, network: null, updates: 0, loss: NaN, curve: [], due: 0, example: null };

const isOfPage = () => find("source").value === "page"; // the text is a part of the page
const trainingText = () => (isOfPage() ? run.text : find("own").value);

/** Return a network for a text, with the page's alphabet or with the text's most frequent symbols. */
function networkFor(text) {
  const network = { activation: "tanh", hiddens: Number(find("hiddens").value), window: STEPS };
  if (isOfPage() && run.kind === "letters") return { ...network, kind: run.kind, tokens: run.tokens, unk: run.unk };
  const counts = new Map();
  for (const symbol of NORMALISE.characters(text)) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  const symbols = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MAX_SYMBOLS);
  return { ...network, kind: "characters", tokens: [run.tokens[run.unk], ...symbols], unk: 0 };
}

/** Start again with new weights from the seed, and show them. There is no trainer if the text is too short. */
function newWeights(isShown = chosen.epoch === null) {
  const text = trainingText(), network = networkFor(text), { tokens, hiddens } = network;
  const index = new Map(tokens.map((token, place) => [token, place])), seed = seedOf(find("weights-seed"));
  const indices = Array.from(NORMALISE[network.kind](text), (token) => index.get(token) ?? network.unk);
  const isLong = indices.length > 2 * STEPS;
  const trainer = isLong ? new Trainer(Int32Array.from(indices), tokens.length, hiddens, seed) : null;
  Object.assign(training, { network, trainer, on: false, updates: 0, loss: Math.log(tokens.length), curve: [] });
  if (trainer && isShown) showTrained();
  else drawTraining();
}

function trainOnce() {
  const radius = find("clip").checked ? Number(find("clip").value) : Infinity;
  const { loss } = training.trainer.update(Number(find("rate").value), radius);
  training.loss = training.updates++ ? SMOOTHING * training.loss + (1 - SMOOTHING) * loss : loss;
  training.curve.push(training.loss);
}

/** Train for one slice, so that the page answers keys and clicks in between. */
function trainSlice() {
  if (!training.on) return;
  const until = performance.now() + SLICE;
  do trainOnce(); while (performance.now() < until);
  if (performance.now() > training.due) {
    showTrained();
    training.due = performance.now() + PAUSE;
  }
  setTimeout(trainSlice);
}

/** Read the text with a copy of the current weights, and draw. */
function showTrained() {
  const copies = Object.entries(training.trainer.weights).map(([name, weight]) => [name, weight.slice()]);
  chosen.epoch = null;
  show(new Model(training.network, Object.fromEntries(copies)), training.on);
  drawTraining();
}

/** Start or stop training, and show the network. */
function setTraining(on) {
  training.on = on;
  showTrained();
  if (!on) return;
  const numUnknown = reading.indices.filter((index) => index === model.unk).length;
  if (numUnknown > reading.indices.length / 2) { // the text is in another script
    training.replaced = box.value;
    write(excerpt(0), 0, box.value.length);
    training.example = box.value;
    report("An example replaces your text, which has other characters. Ctrl-Z or the saved network brings it back.");
  }
  trainSlice();
}

const isDiverged = () => training.updates > 0 && !(training.loss < 1.1 * Math.log(training.network.tokens.length));

function drawTraining() {
  const { on, trainer, updates, loss } = training;
  const action = on ? "❙❙ Pause" : updates ? "Continue" : "Train";
  Object.assign(find("train"), { textContent: action, ariaLabel: updates || on ? `${action} training` : "Train" });
  for (const name of ["train", "train-once"]) find(name).disabled = !trainer;
  find("own-text").hidden = isOfPage();
  find("trained").textContent = trainer
    ? `Update ${updates.toLocaleString("en")}: perplexity ${inWords(Math.exp(loss))}`
    : `The text is too short: training needs more than ${2 * STEPS} characters.`;
  find("diverged").hidden = !isDiverged();
  drawCurve();
}

/** Draw the running perplexity on a logarithmic axis, with lines for guessing and for the page's finished network. */
function drawCurve() {
  const target = find("curve"), width = target.clientWidth, height = target.clientHeight, pen = target.getContext("2d");
  Object.assign(target, { width: width * devicePixelRatio, height: height * devicePixelRatio });
  pen.scale(devicePixelRatio, devicePixelRatio);
  const { updates, network, loss } = training, V = network.tokens.length, finished = run.epochs.at(-1).train;
  const every = Math.ceil(updates / NUM_POINTS), levels = { [`guessing: ${V}`]: V };
  const curve = training.curve.filter((nats, place) => place % every === 0 && Number.isFinite(nats));
  const isOfSameKind = run.kind === "letters" && run.activation === "tanh" && !run.weights.embedding;
  const isComparable = finished && isOfPage() && isOfSameKind && !isDiverged();
  if (isComparable) levels[`the saved network: ${finished.toFixed(1)}`] = finished;
  const logs = [...curve, ...Object.values(levels).map(Math.log)];
  const least = 0.75 * Math.min(...logs), most = 1.05 * Math.max(...logs);
  const [quiet, bar] = colours("quiet", "bar").map((colour) => `rgb(${colour.join(" ")})`);
  const y = (nats) => height * Math.max(0, 1 - (nats - least) / (most - least));
  Object.assign(pen, { font: "13px system-ui, sans-serif", fillStyle: quiet, strokeStyle: quiet, textAlign: "right" });
  pen.setLineDash([4, 4]);
  for (const [name, level] of Object.entries(levels)) {
    pen.strokeRect(-1, y(Math.log(level)), width + 2, 0);
    pen.fillText(name, width, Math.min(height - 4, y(Math.log(level)) + 14));
  }
  pen.setLineDash([]);
  Object.assign(pen, { strokeStyle: bar, lineWidth: 2 });
  pen.beginPath();
  curve.forEach((nats, place) => pen.lineTo((width * place * every) / Math.max(1000, updates), y(nats)));
  pen.stroke();
  target.setAttribute("aria-label", `Running perplexity over ${updates} updates: now ${inWords(Math.exp(loss))}`);
}

find("source").firstElementChild.disabled = !run.text;
if (!run.text) find("source").value = "own";
find("train").addEventListener("click", () => setTraining(!training.on));
find("train-once").addEventListener("click", () => [trainOnce(), setTraining(false)]);
find("reset").addEventListener("click", () => newWeights(true));
find("learn-settings").addEventListener("input", ({ target }) => {
  if (!target.matches("#rate, #clip, :invalid")) newWeights(); // the first two apply to the next update
});
newWeights();

// Settings of one or two networks and of their data, and the command that repeats a training with train.py. The
// experiments of experiments.json have the settings that differ from the book's.

const choice = (label, ...values) => ({ label, values, book: values[0], accepts: (value) => values.includes(value) });
const number = (label, book, min, max, step = "any") => ({
  label, book, attributes: { type: "number", min, max, step, required: true },
  accepts: (value) => value >= min && value <= max && (step === "any" || Number.isInteger(value)),
});
const NETWORK = { // settings of a network, in the order in which they are shown
  cell: choice("cell", "rnn", "gru", "lstm"),
  activation: choice("activation of the RNN", "tanh", "relu"),
  layers: number("layers of the RNN", 1, 1, 4, 1),
  hiddens: number("hidden units", 32, 1, 256, 1),
  optimizer: choice("optimizer", "sgd", "adamw"),
  rate: number("learning rate", 1, 1e-6, 100),
  inputFactor: number("factor of the input weights' rate", 1, 0, 1000),
  radius: number("clipping radius, 0: none", 1, 0, 1000),
  sigmaXh: number("initial scale of the input weights", 0.01, 0, 10),
  sigmaHh: number("initial scale of the recurrent weights, RNN of one layer", 0.01, 0, 10),
};
const DATA = { // settings of the data, and of the training
  text: choice("text", "beginning", "whole", "recall", "own"),
  batch: number("windows per update", 1024, 1, 1024, 1),
  window: number("letters per window", 32, 2, 64, 1),
  delay: number("letters to remember over", 16, 4, 32, 1),
  updates: number("updates", 1000, 1, 20_000, 1),
  seed: number("seed", 0, 0, 2 ** 32 - 1, 1),
};
const TEXTS = { beginning: `beginning of ${run.title}`, whole: `all of ${run.title}`, recall: "letters to remember", own: "my own" };
const SIGMA = 0.01; // initial scale of all other weights
const BOOK_SPLIT = [10_000, 5_000], MOST_TRAIN = 150_000; // windows for training and validation
const EVALUATE_EVERY = 100; // updates, at least, as in worker.js

/** Return the settings of an experiment with the book's for those that it lacks: { networks, data }. */
function settingsOf({ networks, data = {} }) {
  const complete = (fields, settings) =>
    Object.fromEntries(Object.entries(fields).map(([name, { book }]) => [name, settings[name] ?? book]));
  return { networks: networks.map((network) => complete(NETWORK, network)), data: complete(DATA, data) };
}

const hasSigmaHh = ({ cell, layers }) => cell === "rnn" && layers === 1; // as in Python

/** Return the numbers of windows for training and validation; null: 90 and 5% of a text that has too few. */
function splitOf({ text, window }) {
  const [train, val] = BOOK_SPLIT, most = run.text.length - window - val;
  if (text === "own" || most < train) return [null, null];
  return [text === "whole" ? Math.min(MOST_TRAIN, most) : train, val];
}

/** Return the command that trains a network with train.py. */
function commandOf({ cell, layers, ...network }, { text, ...data }) {
  const words = ["python train.py"], isDeep = cell === "rnn" && layers > 1, [numTrain, numVal] = splitOf({ text, ...data });
  const add = (name, value, usual) => value !== usual && words.push(`${name}=${value ?? "null"}`);
  if (network.optimizer !== "sgd") words.push(`model=regularized model.optimizer=${network.optimizer}`);
  add("model.cell", isDeep ? "deep_rnn" : cell, "rnn");
  if (isDeep) words.push(`model.layers=${layers}`);
  if (cell === "rnn") add("model.activation", network.activation, "tanh");
  add("model.hiddens", network.hiddens, 32);
  add("model.lr", network.rate, 1);
  add("model.input_lr_factor", network.inputFactor, 1);
  add("trainer.gradient_clip_val", network.radius || null, 1);
  add("model.sigma_xh", network.sigmaXh, SIGMA);
  if (hasSigmaHh({ cell, layers })) add("model.sigma_hh", network.sigmaHh, SIGMA);
  const isRecall = text === "recall", usual = isRecall ? [NaN, NaN] : BOOK_SPLIT;
  if (isRecall) words.push(`data.corpus=recall${data.delay === 16 ? "" : `_${data.delay}`}`);
  else words.push(...(text === "own" ? ["data.corpus=my_text.txt", "data.tokens=characters"] : run.overrides));
  add("data.num_steps", isRecall ? 2 * data.delay + 1 : data.window, 32);
  add("data.num_train", isRecall ? 450_000 : numTrain, usual[0]);
  add("data.num_val", isRecall ? 2_000 : numVal, usual[1]);
  add("data.batch_size", data.batch, 1024);
  add("seed", data.seed, 0);
  const epochs = data.updates / Math.ceil(BOOK_SPLIT[0] / data.batch);
  if (text === "beginning" && Number.isInteger(epochs)) add("trainer.max_epochs", epochs, 100);
  else words.push(`trainer.max_epochs=-1 trainer.max_steps=${data.updates} trainer.check_val_every_n_epoch=null`,
    `trainer.val_check_interval=${Math.min(EVALUATE_EVERY, data.updates)}`);
  return words.join(" ");
}

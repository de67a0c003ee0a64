// The experiments: settings of one or two networks and of their data, as they differ from the book's, and the command
// that repeats them with train.py.

const choice = (label, ...values) => ({ label, values, book: values[0], accepts: (value) => values.includes(value) });
const number = (label, book, least, most, step = "any") => ({
  label, book, least, most, step,
  accepts: (value) => value >= least && value <= most && (step === "any" || Number.isInteger(value)),
});
const NETWORK = { // settings of a network, in the order in which they are shown
  cell: choice("cell", "rnn", "gru", "lstm"),
  activation: choice("activation of the RNN", "tanh", "relu"),
  layers: number("layers of the RNN", 1, 1, 4, 1),
  hiddens: number("hidden units", 32, 1, 256, 1),
  optimizer: choice("optimizer", "sgd", "adamw"),
  rate: number("learning rate", 1, 1e-6, 100),
  inputFactor: number("factor of the input weights' rate", 1, 0, 1000),
  radius: number("clipping radius (0: none)", 1, 0, 1000),
  sigmaXh: number("initial scale of the input weights", 0.01, 0, 10),
  sigmaHh: number("initial scale of the recurrent weights", 0.01, 0, 10),
};
const DATA = { // settings of the data, and of the training
  text: choice("text", "beginning", "whole", "recall", "own"),
  batch: number("windows per update", 1024, 1, 1024, 1),
  window: number("letters per window", 32, 2, 64, 1),
  delay: number("letters to remember over", 16, 4, 32, 1),
  updates: number("updates", 1000, 1, 20_000, 1),
  seed: number("seed", 0, 0, 2 ** 32 - 1, 1),
};
const TEXTS = { beginning: `beginning of ${run.title}`, whole: run.title, recall: "letters to remember", own: "my own" };
const SIGMA = 0.01; // initial scale of all weights, unless a setting says otherwise
const NUM_TRAIN = 10_000, NUM_VAL = 5_000, NUM_TRAIN_WHOLE = 150_000; // windows of the book, and of the whole text
const EVALUATE_EVERY = 100; // updates, as in worker.js
const MANY = { optimizer: "adamw", rate: 0.008 }, LONG = { text: "whole", batch: 32 };
const RECALL = { optimizer: "adamw", rate: 0.004, sigmaXh: 1 };

// python: training and validation perplexity, or recalled letters, of the commands (tests/page/test_experiments.py).
const EXPERIMENTS = {
  book: {
    name: "The book's experiment", networks: [{}], data: {}, python: [[6.24, 7.31]],
    says: "100 epochs, as in section 9.5. The validation perplexity falls from 28, which is guessing, to about 7.3.",
  },
  gates: {
    name: "RNN against GRU", data: LONG, python: [[5.23, 5.04], [4.58, 4.5]],
    networks: [{ ...MANY, hiddens: 128 }, { ...MANY, cell: "gru", hiddens: 72 }],
    says: "A GRU with as many parameters, 24,000, is clearly better. Is it the gates?",
  },
  inputs: {
    name: "… with larger input weights", data: LONG, python: [[4.65, 4.6], [4.55, 4.47]],
    networks: [
      { ...MANY, hiddens: 128, rate: 0.004, sigmaXh: 2 }, { ...MANY, cell: "gru", hiddens: 72, sigmaXh: 0.3 },
    ],
    says: "Input weights that start larger, for both at their best of four scales: most of the GRU's lead is gone.",
  },
  clipping: {
    name: "Without clipping", data: { updates: 500 }, python: [[NaN, NaN], [6.09, 7.61]],
    networks: [{ rate: 5, radius: 0 }, { rate: 5, radius: 0.5 }],
    says: "At a learning rate of 5 the RNN diverges without clipping. With a radius of 0.5 it learns.",
  },
  relu: {
    name: "ReLU", data: { updates: 500 }, python: [[NaN, NaN], [7.76, 8.19]],
    networks: [{ activation: "relu", sigmaHh: 0.17, radius: 0 }, { activation: "relu", sigmaHh: 0.17 }],
    says: "A ReLU state can grow with every letter, and its gradient too: with recurrent weights of ordinary size it needs clipping.",
  },
  recall: {
    name: "Remember a letter", data: { text: "recall", batch: 32 }, python: [[NaN, 0.2], [NaN, 1]],
    networks: [{ ...RECALL, hiddens: 128 }, { ...RECALL, cell: "gru", hiddens: 72 }],
    says: "After a space, the letter 16 places back comes again. The GRU learns to keep it, the RNN hardly does.",
  },
};

/** Return the settings of an experiment, complete: { networks, data }. */
function settingsOf({ networks, data }) {
  const complete = (fields, settings) =>
    Object.fromEntries(Object.entries(fields).map(([name, { book }]) => [name, settings[name] ?? book]));
  return { networks: networks.map((network) => complete(NETWORK, network)), data: complete(DATA, data) };
}

const numLetters = (window) => run.text.length - window;
const splitOf = ({ text, window }) => { // numbers of windows; a short text is split 90 to 5
  if (text === "own") return [null, null];
  const num = text === "whole" ? Math.min(NUM_TRAIN_WHOLE, numLetters(window) - NUM_VAL) : NUM_TRAIN;
  return num + NUM_VAL <= numLetters(window) && num > 0 ? [num, NUM_VAL] : [null, null];
};

/** Return the command that trains a network with train.py. */
function commandOf(network, data) {
  const { cell, layers, optimizer } = network, words = ["python train.py"], [train, val] = splitOf(data);
  const add = (name, value, book) => value !== book && words.push(`${name}=${value}`);
  if (optimizer !== "sgd") words.push(`model=regularized model.optimizer=${optimizer}`);
  add("model.cell", cell === "rnn" && layers > 1 ? "deep_rnn" : cell, "rnn");
  if (cell === "rnn" && layers > 1) words.push(`model.layers=${layers}`);
  if (cell === "rnn") add("model.activation", network.activation, "tanh");
  add("model.hiddens", network.hiddens, 32);
  add("model.lr", network.rate, 1);
  add("model.input_lr_factor", network.inputFactor, 1);
  add("trainer.gradient_clip_val", network.radius || "null", 1);
  add("model.sigma_xh", network.sigmaXh, SIGMA);
  add("model.sigma_hh", network.sigmaHh, SIGMA);
  words.push(...{ recall: ["data.corpus=recall"], own: ["data.corpus=my_text.txt data.tokens=characters"] }[data.text] ?? run.overrides);
  if (data.text === "recall") add("data.delay", data.delay, 16);
  else {
    add("data.num_steps", data.window, 32);
    add("data.num_train", train ?? "null", NUM_TRAIN);
    add("data.num_val", val ?? "null", NUM_VAL);
  }
  add("data.batch_size", data.batch, 1024);
  add("seed", data.seed, 0);
  const epochs = data.updates / Math.ceil(NUM_TRAIN / data.batch);
  if (data.text === "beginning" && Number.isInteger(epochs)) add("trainer.max_epochs", epochs, 100);
  else {
    words.push(`trainer.max_epochs=-1 trainer.max_steps=${data.updates} trainer.check_val_every_n_epoch=null`);
    words.push(`trainer.val_check_interval=${Math.min(EVALUATE_EVERY, data.updates)}`);
  }
  return words.join(" ");
}

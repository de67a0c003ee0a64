// Settings of one or two networks and of their data, by their names in train.py, and the command that repeats a training
// there. The experiments of experiments.json have the settings that differ from the book's.

/** Return the fields of a group of settings in page.html, by name. Their values are the book's. */
const fieldsOf = (group) => Object.fromEntries([...find(group).content.children].map((field) => [field.name, field]));
const NETWORK = fieldsOf("network-fields"), DATA = fieldsOf("data-fields");
const SIGMA = 0.01; // initial scale of all other weights
const BOOK_SPLIT = [10_000, 5_000], MOST_TRAIN = 150_000; // windows for training and validation
const GATES = { rnn: 1, gru: 3, lstm: 4 }, SIZES = [9000, 24_000, 70_000]; // parameters
const RATES = { rnn: [0.016, 0.008, 0.004], gru: [0.016, 0.016, 0.008], lstm: [0.032, 0.016, 0.016] }; // conf/exercise/cells.yaml
const EVALUATE_EVERY = 100; // updates, at least, as in worker.js

const bookOf = (fields) => Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, valueOf(field)]));
const BOOK = { ...bookOf(NETWORK), ...bookOf(DATA), num_train: BOOK_SPLIT[0], num_val: BOOK_SPLIT[1], max_epochs: 100 };

/** Return the settings of an experiment with the book's for those that it lacks: { networks, data }. */
function settingsOf({ networks, data }) {
  return { networks: networks.map((network) => ({ ...bookOf(NETWORK), ...network })), data: { ...bookOf(DATA), ...data } };
}

/** Return the settings that train.py accepts with a network's cell. */
function supported({ activation, layers, sigma_hh, init_hh, ...network }) {
  if (network.cell !== "rnn") return network;
  return layers > 1 ? { ...network, cell: "deep_rnn", activation, layers } : { ...network, activation, sigma_hh, init_hh };
}

/** Return the rate of AdamW that the study of cells found for a network, at the nearest of three sizes. */
function rateOf({ cell, hiddens: H }, V) {
  const parameters = GATES[cell] * (V + H + 1) * H + (H + 1) * V, distances = SIZES.map((size) => Math.abs(Math.log(parameters / size)));
  return RATES[cell][distances.indexOf(Math.min(...distances))];
}

/** Return the numbers of windows for training and validation; null: 90 and 5% of a text that has too few. */
function splitOf({ text, num_steps }) {
  if (text === "recall") return [450_000, 2_000];
  const [train, val] = BOOK_SPLIT, most = run.text.length - num_steps - val;
  if (text === "own" || most < train) return [null, null];
  return [text === "whole" ? Math.min(MOST_TRAIN, most) : train, val];
}

/** Return the command that trains a network with train.py. */
function commandOf(network, data) {
  const { text, delay, updates, batch_size, seed } = data, isRecall = text === "recall", words = ["python train.py"];
  const { optimizer, gradient_clip_val, ...model } = supported(network), [num_train, num_val] = splitOf(data);
  const add = (group, settings) => {
    for (const [name, value] of Object.entries(settings)) if (value !== BOOK[name]) words.push(`${group}${name}=${value}`);
  };
  if (optimizer !== "sgd") words.push(`model=regularized model.optimizer=${optimizer}`);
  add("model.", model);
  add("trainer.", { gradient_clip_val: gradient_clip_val || null });
  if (isRecall) words.push(`data.corpus=recall${delay === BOOK.delay ? "" : `_${delay}`}`);
  else words.push(...(text === "own" ? ["data.corpus=my_text.txt", "data.tokens=characters"] : run.overrides));
  add("data.", { num_steps: isRecall ? 2 * delay + 1 : data.num_steps, num_train, num_val, batch_size });
  add("", { seed });
  const epochs = updates / Math.ceil(BOOK_SPLIT[0] / batch_size);
  if (text === "beginning" && Number.isInteger(epochs)) add("trainer.", { max_epochs: epochs });
  else words.push(`trainer.max_epochs=-1 trainer.max_steps=${updates} trainer.check_val_every_n_epoch=null`,
    `trainer.val_check_interval=${Math.min(EVALUATE_EVERY, updates)}`);
  return words.join(" ");
}

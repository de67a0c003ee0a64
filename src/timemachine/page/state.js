// The state of the page: its data, the choices of the user, the model and its reading of the text.

const find = (id) => document.getElementById(id);
const run = JSON.parse(find("run").textContent);
// place: index of a token. alpha null: greedy. network: the trained one that reads, or null: the saved one, after `epoch`.
const chosen = { place: 0, alpha: 2, seed: 0, network: null, epoch: run.epochs.length - 1 };
let model = savedModel(chosen.epoch), reading = new Reading(model); // of the network that continues the text

/** Return the value of a field; while its number is not valid, the last valid one. */
function valueOf(field) {
  if (field.type !== "number") return field.value;
  if (field.validity.valid) field.defaultValue = field.value;
  return Number(field.defaultValue);
}

const last = () => reading.indices.length - 1;
const at = () => Math.min(chosen.place, last());
const zoom = () => (document.body.classList.contains("wall") ? 2 : 1); // of the wall mode

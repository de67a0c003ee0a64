// The state of the page: its data, the choices of the user, the model and its reading of the text.

const SLICE = 12; // ms of work between two drawings, so that the page answers keys
const find = (id) => document.getElementById(id);
const run = JSON.parse(find("run").textContent);
// Places are indices of tokens. alpha null: greedy. unit null: colours are surprise. epoch null: trained in the page.
const chosen = { place: 0, pointed: null, repeats: null, unit: null, alpha: 2, seed: 0, epoch: run.epochs.length - 1 };
let model = savedModel(chosen.epoch), reading = new Reading(model), whole = new Reading(model);

/** Return the seed in a field; while it has another value than the field accepts, the last seed. */
const seedOf = (field) => Number(field.validity.valid ? (field.defaultValue = field.value) : field.defaultValue);

const last = () => reading.indices.length - 1;
const at = () => Math.max(0, Math.min(chosen.pointed ?? chosen.place, reading.known - 1));

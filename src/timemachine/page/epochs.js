// The slider over the saved epochs, and their replay.

const EPOCH_TIME = 1400; // ms per saved epoch in the replay: enough to read its caption and the grey text
const NUM_JUDGED = 400; // letters that are written to describe an epoch
let replaying = 0; // the timer of the replay, or 0

/** Return the model with the weights after a saved epoch. */
function savedModel(place) {
  const { weights } = run.epochs[place], decode = weights ? fromHalf : fromSingle; // the last epoch is the run's model
  const decoded = Object.entries(weights ?? run.weights).map(([name, base64]) => [name, decode(base64)]);
  return new CELLS[run.cell](run, Object.fromEntries(decoded));
}

/** Read the text again with the weights after a saved epoch. */
function showEpoch(place) {
  Object.assign(chosen, { epoch: place, network: null });
  show([savedModel(place)], ["the saved network"]);
  drawReaders();
}

function drawEpoch() {
  const { epoch, train, val } = run.epochs[chosen.epoch];
  const perplexities = [train?.toFixed(2), val && `in validation ${val.toFixed(2)}`].filter(Boolean).join(", ");
  const said = (epoch ? `after epoch ${epoch}` : "random weights") + (perplexities && `: perplexity ${perplexities}`);
  find("epochs").hidden = run.epochs.length < 2 || chosen.network !== null;
  find("epoch").value = chosen.epoch;
  find("epoch-said").textContent = said;
  find("epoch").setAttribute("aria-valuetext", said);
}

/** Describe the network, from the words of a text that it writes. */
function learned() {
  const words = model.continuation(model.noState, NUM_JUDGED, 1, uniform(0)).split(" ");
  const known = new Set(run.text.split(" ")), share = words.filter((word) => known.has(word)).length / words.length;
  if (words.length < NUM_JUDGED / 10) return "it guesses";
  if (share < 0.3) return "it has learned spaces";
  return share < 0.5 ? "it has learned short words" : "most of its words are English";
}

/**
 * Show the saved epochs in order, each for the same time: they are 0, 1, 5, 10, 20, 50, …, since a network learns most in
 * the first updates. A key, a pointer, a link or the button ends this with the last epoch, the network that one came for.
 */
function replayFrom(place) {
  const { epoch } = run.epochs[place], isLast = place === run.epochs.length - 1;
  showEpoch(place);
  const said = run.kind === "letters" ? `: ${learned()}` : "";
  find("replay-said").textContent = `${epoch ? `Epoch ${epoch}` : "Before training"}${said}.`;
  find("replay").hidden = false;
  replaying = isLast ? setTimeout(stopReplay, 3 * EPOCH_TIME) : setTimeout(replayFrom, EPOCH_TIME, place + 1);
}

function stopReplay() {
  if (!replaying) return;
  clearTimeout(replaying);
  replaying = 0;
  find("replay").hidden = true;
  if (chosen.epoch < run.epochs.length - 1) showEpoch(run.epochs.length - 1);
}

for (const name of ["pointerdown", "keydown", "hashchange"]) addEventListener(name, stopReplay, { capture: true });
find("epoch").max = run.epochs.length - 1;
find("epoch").addEventListener("input", ({ target }) => showEpoch(Number(target.value)));

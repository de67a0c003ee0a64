// The slider over the saved epochs, and their replay.

const EPOCH_TIME = 1400; // ms per saved epoch in the replay: enough to read its caption and the grey text
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

// Show the saved epochs in order, each for the same time: 0, 1, 5, 10, 20, 50, …, as a network learns most in its first
// updates. A key, a pointer, a link or the button ends this with the last epoch.
function replayFrom(place) {
  const { epoch, val } = run.epochs[place], isLast = place === run.epochs.length - 1;
  showEpoch(place);
  find("replay-said").textContent = epoch ? `Epoch ${epoch}${val ? `: validation perplexity ${val.toFixed(1)}` : ""}` : "Before training";
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

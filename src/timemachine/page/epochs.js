// The slider over the saved epochs. They are replayed once, unless the page is used before.

const EPOCH_TIME = 1400; // ms per epoch in the replay
const NUM_JUDGED = 200; // letters that are written to describe an epoch
const replay = { on: false, timer: 0 };

/** Return the model with the weights after a saved epoch. */
function savedModel(place) {
  const { weights } = run.epochs[place], decode = weights ? fromHalf : fromSingle; // the last epoch is the run's model
  const decoded = Object.entries(weights ?? run.weights).map(([name, base64]) => [name, decode(base64)]);
  return new Model(run, Object.fromEntries(decoded));
}

/** Read the text again with the weights after a saved epoch. */
function showEpoch(place) {
  chosen.epoch = place;
  chosen.network = null;
  show(savedModel(place));
  drawReaders();
}

function drawEpoch() {
  const { epoch, train, val } = run.epochs[chosen.epoch], isSaved = chosen.network === null;
  const perplexities = [train?.toFixed(2), val && `in validation ${val.toFixed(2)}`].filter(Boolean).join(", ");
  const when = epoch ? `after epoch ${epoch}` : "random weights";
  find("epochs").hidden = run.epochs.length < 2 || !isSaved;
  find("epoch").value = chosen.epoch;
  find("epoch-said").textContent = when + (perplexities && `: perplexity ${perplexities}`);
  find("epoch").setAttribute("aria-valuetext", find("epoch-said").textContent);
}

/** Describe what a network has learned, from the words of a text that it writes. */
function learned() {
  const { text } = model.continuation(model.noState, NUM_JUDGED, Infinity, 1, uniform(0)), words = text.trim().split(/ +/);
  const known = new Set(run.text.split(" ")), share = words.filter((word) => known.has(word)).length / words.length;
  if (!run.epochs[chosen.epoch].epoch) return "random weights, so it guesses";
  if (words.length < NUM_JUDGED / 12) return "it has learned which letters are frequent";
  if (share < 0.25) return "it has learned spaces";
  return share < 0.45 ? "it writes short words" : "most of its words are in the text";
}

/** Show the saved epochs in order. A key, a pointer, a link or the button ends this with the last epoch. */
function startReplay() {
  if (run.epochs.length < 2 || reducedMotion.matches) return;
  replay.on = true;
  const showFrom = (place) => {
    showEpoch(place);
    const { epoch } = run.epochs[place];
    find("replay-said").textContent = `${epoch ? `Epoch ${epoch}` : "Before training"}${run.kind === "letters" ? `: ${learned()}` : ""}`;
    if (place < run.epochs.length - 1) replay.timer = setTimeout(showFrom, EPOCH_TIME, place + 1);
    else replay.timer = setTimeout(stopReplay, 2 * EPOCH_TIME);
  };
  find("replay").hidden = false;
  showFrom(0);
}

function stopReplay() {
  if (!replay.on) return;
  clearTimeout(replay.timer);
  replay.on = false;
  find("replay").hidden = true;
  if (chosen.network === null && chosen.epoch < run.epochs.length - 1) showEpoch(run.epochs.length - 1);
}

for (const name of ["pointerdown", "keydown", "hashchange"]) addEventListener(name, stopReplay, { capture: true });
find("epoch").max = run.epochs.length - 1;
find("epoch").addEventListener("input", ({ target }) => showEpoch(Number(target.value)));

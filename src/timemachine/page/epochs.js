// The slider over the saved epochs. It moves on its own once, unless the page is used before.

const EPOCH_TIME = 700; // ms per epoch while it moves

/** Return the model with the weights after a saved epoch. */
function savedModel(place) {
  const { weights } = run.epochs[place], decode = weights ? fromHalf : fromSingle; // the last epoch is the run's model
  const decoded = Object.entries(weights ?? run.weights).map(([name, base64]) => [name, decode(base64)]);
  return new Model(run, Object.fromEntries(decoded));
}

/** Read the text again with the weights after another epoch. */
function showEpoch(place) {
  training.on = false;
  chosen.epoch = place;
  report("");
  show(savedModel(place));
  if (box.value === training.example) write(training.replaced, 0, box.value.length);
  drawTraining();
}

function drawEpoch() {
  const { epoch, train, val } = run.epochs[chosen.epoch] ?? {};
  const perplexities = [train?.toFixed(2), val && `in validation ${val.toFixed(2)}`].filter(Boolean).join(", ");
  const when = epoch ? `after epoch ${epoch}` : "random weights";
  find("epoch").value = chosen.epoch ?? 0;
  find("epoch-said").textContent = chosen.epoch === null ? "" : when + (perplexities && `: perplexity ${perplexities}`);
  find("finished").hidden = chosen.epoch !== null;
  find("epoch").setAttribute("aria-valuetext", find("epoch-said").textContent);
}

/** Show the saved epochs in order. A key, a pointer or a link ends this with the last epoch. */
function playEpochs() {
  if (run.epochs.length < 2 || reducedMotion.matches) return;
  const listening = new AbortController(), options = { capture: true, signal: listening.signal };
  const showFrom = (place) => {
    showEpoch(place);
    if (place === run.epochs.length - 1) listening.abort();
    else timer = setTimeout(showFrom, EPOCH_TIME, place + 1);
  };
  const end = () => [clearTimeout(timer), showFrom(run.epochs.length - 1)];
  let timer = setTimeout(showFrom, EPOCH_TIME, 0);
  for (const name of ["pointerdown", "keydown", "click", "hashchange"]) addEventListener(name, end, options);
}

find("epochs").hidden = run.epochs.length < 2;
find("finished").addEventListener("click", () => showEpoch(run.epochs.length - 1));
find("epoch").max = run.epochs.length - 1;
find("epoch").addEventListener("input", ({ target }) => showEpoch(Number(target.value)));

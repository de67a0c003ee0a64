// The slider over the saved epochs. It moves on its own once, unless the page is used before.

const EPOCH_TIME = 700; // ms per epoch while it moves

/** Return the model with the weights after a saved epoch. */
function savedModel(place) {
  const { weights } = run.epochs[place], decode = weights ? fromHalf : fromSingle; // the last epoch is the run's model
  return new Model(run, Object.fromEntries(Object.entries(weights ?? run.weights).map(([name, it]) => [name, decode(it)])));
}

/** Read the text again with the weights after another epoch. */
function showEpoch(place) {
  training.on = false;
  pause();
  chosen.epoch = place;
  report("");
  show(savedModel(place));
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

/** Show the saved epochs in order. A key or a pointer ends this with the last epoch. */
function playEpochs() {
  if (run.epochs.length < 2 || reducedMotion.matches) return;
  let place = 0;
  const listening = new AbortController();
  const next = () => {
    showEpoch(place++);
    if (place === run.epochs.length) listening.abort();
  };
  const timer = setInterval(next, EPOCH_TIME);
  listening.signal.addEventListener("abort", () => clearInterval(timer));
  const end = () => {
    listening.abort();
    showEpoch(run.epochs.length - 1);
  };
  for (const name of ["pointerdown", "keydown", "click"]) addEventListener(name, end, { capture: true, signal: listening.signal });
}

function listenToEpochs() {
  find("epochs").hidden = run.epochs.length < 2;
  find("finished").addEventListener("click", () => showEpoch(run.epochs.length - 1));
  find("epoch").max = run.epochs.length - 1;
  find("epoch").addEventListener("input", ({ target }) => showEpoch(Number(target.value)));
}

// The curves of the networks that train: perplexity on a logarithmic axis, or the share of recalled letters.

const PERPLEXITIES = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100], SHARES = [0, 0.25, 0.5, 0.75, 1]; // ticks
const MOST = 100; // perplexity at the top, at most
const LEFT = 44, RIGHT = 40, TOP = 10, BOTTOM = 36; // margins in pixels
const svg = find("curves");

/** Return the curve of the saved network, by epoch, if the settings have its windows; otherwise []. */
function savedCurve({ text, num_steps }) {
  const isSame = run.kind === "letters" && text === "beginning" && num_steps === run.window && `${run.split}` === `${BOOK_SPLIT}`;
  return isSame ? run.epochs.filter(({ epoch, val }) => epoch && val).map(({ epoch, val }) => [epoch, val]) : [];
}

/** Return 1, 2 or 5 times a power of ten: the distance of at most `count` ticks up to `most`. */
function stepOf(most, count) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  return power * [1, 2, 5, 10].find((factor) => most / (factor * power) <= count);
}

function drawCurves() {
  const { settings: { data }, learners } = training, isRecall = data.text === "recall";
  const lines = isRecall ? { chance: 1 / 16 } : { guessing: (training.alphabet ?? run).tokens.length }; // level ones
  const until = Math.max(training.until, data.updates, ...learners.map(({ latest }) => latest?.update ?? 0));
  const unit = inEpochs() ? learners[0].ready?.updatesPerEpoch ?? Math.ceil(BOOK_SPLIT[0] / data.batch_size) : 1; // updates per tick
  const curves = learners.map((learner) => ({
    train: isRecall ? [] : learner.losses.map(([update, loss]) => [update, Math.exp(loss)]),
    val: learner.epochs.map(({ update, val, recall }) => [update, isRecall ? recall : val]),
    diverged: learner.latest && isLost(learner) ? learner.latest.update : null,
  }));
  const saved = savedCurve(data).map(([epoch, val]) => [epoch * unit, val]).filter(([update]) => update <= until);

  const width = svg.clientWidth / zoom(), height = svg.clientHeight / zoom(), right = width - RIGHT, bottom = height - BOTTOM;
  const scale = (value) => (isRecall ? value : Math.log(Math.min(MOST, value)));
  const values = [saved, ...curves.flatMap(({ train, val }) => [train, val])].flat().map(([, value]) => value).filter(Number.isFinite);
  const plotted = [...Object.values(lines), 6, ...values, ...(curves.some(({ diverged }) => diverged !== null) ? [MOST / 1.2] : [])];
  const [least, most] = isRecall ? [0, 1.03] : [scale(0.88 * Math.min(...plotted)), scale(1.2 * Math.max(...plotted))];
  const x = (update) => Math.round(LEFT + (update / until) * (right - LEFT));
  const y = (value) => Math.round(bottom - ((scale(value) - least) / (most - least)) * (bottom - TOP));

  const label = (name, left, top, text) => `<text class="${name}" x="${left}" y="${top}">${text}</text>`;
  const level = (name, value) => `<path class="${name}" d="M${LEFT} ${y(value)}H${right}"/>`;
  const line = (name, points) => `<path class="${name}" d="M${points.map(([update, value]) => `${x(update)} ${y(value)}`).join("L")}"/>`;
  const title = `${isRecall ? "recalled letters" : "perplexity"} by ${inEpochs() ? "epoch" : "update"}`;
  const parts = [label("middle", (LEFT + right) / 2, height - 3, title)];
  for (const tick of isRecall ? SHARES : PERPLEXITIES) {
    if (scale(tick) < least || scale(tick) > most) continue;
    parts.push(level("grid", tick), label("end", LEFT - 6, y(tick) + 4, isRecall ? `${100 * tick}%` : tick));
  }
  const step = stepOf(until / unit, width < 480 ? 5 : 10);
  for (let tick = 0; tick * unit <= until; tick += step) parts.push(label("middle", x(tick * unit), bottom + 16, grouped(tick)));
  for (const value of Object.values(lines)) parts.push(level("level", value), label("", right + 5, y(value) + 4, isRecall ? "6%" : value));
  if (saved.length) parts.push(line("saved", saved), label("", right + 5, y(saved.at(-1)[1]) + 4, saved.at(-1)[1].toFixed(1)));
  curves.forEach((curve, place) => {
    const [train, val] = [curve.train, curve.val].map((points) => points.filter(([, value]) => Number.isFinite(value)));
    const ends = val.slice(-1).map(([update, value]) => `<circle cx="${x(update)}" cy="${y(value)}" r="4"/>`);
    if (curve.diverged !== null) { // a line from where it was to a cross at the top
      const end = [curve.diverged, isRecall ? 1 : MOST], from = train.at(-1) ?? [0, lines.guessing ?? 0];
      train.push(from, end);
      ends.push(`<path class="cross" d="M${x(end[0]) - 6} ${y(end[1]) - 6}l12 12m0 -12l-12 12"/>`);
    }
    parts.push(`<g class="network-${place}">`, train.length ? line("train", train) : "", val.length ? line("val", val) : "", ...ends, "</g>");
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join(""); // numbers, and words of this file
  find("levels").textContent = `dashed: ${[...Object.keys(lines), saved.length && "the saved network"].filter(Boolean).join(", ")}`;
  const ends = curves.map(({ val }, place) => `${names()[place]}: ${val.length ? inWords(val.at(-1)[1]) : "not trained"}`);
  svg.setAttribute("aria-label", `${title}, in validation. ${ends.join("; ")}`);
}

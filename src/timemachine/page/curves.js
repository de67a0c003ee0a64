// The curves of the networks that train: perplexity on a logarithmic axis, or the share of recalled letters.

const PERPLEXITIES = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100], SHARES = [0, 0.25, 0.5, 0.75, 1]; // ticks
const MOST = 100; // perplexity at the top, at most
const LEFT = 44, RIGHT = 22, TOP = 10, BOTTOM = 36; // margins in pixels
const svg = find("curves");

/** Return the levels of horizontal lines, by their names. */
function levels({ text, window }) {
  if (text === "recall") return { "chance: 6%": 1 / 16 };
  const V = (training.alphabet ?? run).tokens.length, { val } = run.epochs.at(-1);
  const isSame = val && text === "beginning" && window === run.window && run.kind === "letters" && `${run.split}` === `${BOOK_SPLIT}`;
  return { [`guessing: ${V}`]: V, ...(isSame && { [`saved network, validation: ${val.toFixed(1)}`]: val }) };
}

/** Return 1, 2 or 5 times a power of ten: the distance of at most `count` ticks up to `most`. */
function stepOf(most, count) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  return power * [1, 2, 5, 10].find((factor) => most / (factor * power) <= count);
}

function drawCurves() {
  const { settings: { networks, data }, ready, progress, epochs, update } = training, isRecall = data.text === "recall";
  const width = svg.clientWidth, height = svg.clientHeight, right = width - RIGHT, bottom = height - BOTTOM;
  const until = Math.max(training.until, data.updates, update);
  const unit = inEpochs() ? ready?.updatesPerEpoch ?? Math.ceil(BOOK_SPLIT[0] / data.batch) : 1, lines = levels(data);
  const curves = networks.map((_, place) => ({
    train: isRecall ? [] : progress.map(({ update, networks }) => [update, Math.exp(networks[place].loss)]),
    val: epochs.map(({ update, networks }) => [update, networks[place][isRecall ? "recall" : "val"]]),
  }));
  const scale = (value) => (isRecall ? value : Math.log(Math.min(MOST, value)));
  const drawn = [...Object.values(lines), 6, ...curves.flatMap(({ train, val }) => [...train, ...val].map(([, value]) => value))]
    .filter(Number.isFinite);
  const [least, most] = isRecall ? [0, 1.03] : [0.88 * Math.min(...drawn), 1.2 * Math.max(...drawn)].map(scale);
  const x = (update) => Math.round(LEFT + (update / until) * (right - LEFT));
  const y = (value) => Math.round(bottom - ((scale(value) - least) / (most - least)) * (bottom - TOP));
  const line = (name, points) => `<path class="${name}" d="M${points.filter(([, value]) => Number.isFinite(value))
    .map(([update, value]) => `${x(update)} ${y(value)}`).join("L") || "0 0"}"/>`;
  const label = (name, left, top, text) => `<text class="${name}" x="${left}" y="${top}">${text}</text>`;
  const parts = (isRecall ? SHARES : PERPLEXITIES).filter((tick) => scale(tick) >= least && scale(tick) <= most).map((tick) =>
    `<path class="grid" d="M${LEFT} ${y(tick)}H${right}"/>${label("end", LEFT - 6, y(tick) + 4, isRecall ? `${100 * tick}%` : tick)}`);
  const step = stepOf(until / unit, width < 480 ? 5 : 10);
  for (let tick = 0; tick * unit <= until; tick += step) parts.push(label("middle", x(tick * unit), bottom + 16, grouped(tick)));
  const title = `${isRecall ? "recalled letters" : "perplexity"} by ${inEpochs() ? "epoch" : "update"}`;
  parts.push(label("middle", (LEFT + right) / 2, height - 3, title));
  for (const [name, value] of Object.entries(lines)) {
    parts.push(`<path class="level" d="M${LEFT} ${y(value)}H${right}"/>${label("end halo", right, y(value) - 5, name)}`);
  }
  curves.forEach(({ train, val }, place) => parts.push(
    `<g class="network-${place}">${line("train", train)}${line("val", val)}`,
    ...val.slice(-1).filter(([, value]) => value < Infinity).map(([update, value]) => `<circle cx="${x(update)}" cy="${y(value)}" r="4"/>`), "</g>"));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join(""); // numbers, and words of this file
  const ends = curves.map(({ val }, place) => `${names()[place]}: ${val.length ? inWords(val.at(-1)[1]) : "not trained"}`);
  svg.setAttribute("aria-label", `${title}, in validation. ${ends.join("; ")}`);
}

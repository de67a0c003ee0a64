// The curves of the networks that train: perplexity on a logarithmic axis, or the share of recalled letters.

const TICKS = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100], SHARES = [0, 0.2, 0.4, 0.6, 0.8, 1];
const MOST = 100; // perplexity at the top of the chart, at most
const MARGIN = { left: 40, right: 12, top: 10, bottom: 36 }; // pixels
const CHANCE = 1 / 16; // of recalling a letter

/** Return the horizontal lines of the chart, by name. */
function levels({ text, window }) {
  if (text === "recall") return { "chance: 6%": CHANCE };
  const V = (training.alphabet ?? alphabetOf(training.settings.data)).tokens.length, { val } = run.epochs.at(-1);
  const isSame = val && text === "beginning" && window === run.window && run.kind === "letters" && run.isBook;
  return { [`guessing: ${V}`]: V, ...(isSame ? { [`the saved network, validation: ${val.toFixed(1)}`]: val } : {}) };
}

/** Return a multiple of 1, 2 or 5 times a power of ten: the distance of about `count` ticks up to `most`. */
function stepOf(most, count) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  return power * ([1, 2, 5].find((factor) => most / (factor * power) <= count) ?? 10);
}

function drawCurves() {
  const svg = find("curves"), width = svg.clientWidth, height = svg.clientHeight, { settings, ready, progress, epochs } = training;
  const isRecall = settings.data.text === "recall", lines = levels(settings.data);
  const until = Math.max(training.until ?? 0, settings.data.updates, training.update ?? 0);
  const perEpoch = ready?.updatesPerEpoch ?? Math.ceil(NUM_TRAIN / settings.data.batch);
  const inEpochs = settings.data.text === "beginning" || settings.data.text === "own", unit = inEpochs ? perEpoch : 1;
  const series = settings.networks.map((_, place) => ({
    train: isRecall ? [] : progress.map(({ update, networks }) => [update, Math.exp(networks[place].loss)]),
    val: epochs.map(({ update, networks }) => [update, networks[place][isRecall ? "recall" : "val"]]),
  }));
  const values = [...Object.values(lines), ...series.flatMap(({ train, val }) => [...train, ...val]).map(([, value]) => value)];
  const scale = isRecall ? (value) => value : (value) => Math.log(Math.min(MOST, value));
  const numbers = values.filter(Number.isFinite), most = isRecall ? 1.03 : scale(1.15 * Math.max(...numbers));
  const least = isRecall ? 0 : scale(0.88 * Math.min(6, ...numbers));
  const x = (update) => MARGIN.left + (update / until) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => MARGIN.top + (1 - (scale(value) - least) / (most - least)) * (height - MARGIN.top - MARGIN.bottom);
  const path = (points) => points.filter(([, value]) => Number.isFinite(value))
    .map(([update, value], place) => `${place ? "L" : "M"}${x(update).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const parts = [], right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  for (const tick of isRecall ? SHARES : TICKS) {
    if (scale(tick) < least || scale(tick) > most) continue;
    const label = isRecall ? `${Math.round(100 * tick)}%` : tick;
    parts.push(`<path class="grid" d="M${MARGIN.left} ${y(tick)}H${right}"/>`);
    parts.push(`<text class="end" x="${MARGIN.left - 6}" y="${y(tick) + 4}">${label}</text>`);
  }
  const step = stepOf(until / unit, width < 480 ? 5 : 10);
  for (let tick = 0; tick * unit <= until * 1.001; tick += step) {
    parts.push(`<text class="middle" x="${x(tick * unit)}" y="${bottom + 15}">${Number(tick.toPrecision(3)).toLocaleString("en")}</text>`);
  }
  const title = isRecall ? "recalled letters" : "perplexity";
  parts.push(`<text class="middle" x="${(MARGIN.left + right) / 2}" y="${height - 4}">${title} by ${inEpochs ? "epoch" : "update"}</text>`);
  for (const [name, value] of Object.entries(lines)) {
    parts.push(`<path class="level" d="M${MARGIN.left} ${y(value)}H${right}"/><text class="end halo" x="${right}" y="${y(value) - 4}">${name}</text>`);
  }
  series.forEach(({ train, val }, place) => {
    parts.push(`<path class="train network-${place}" d="${path(train)}"/><path class="val network-${place}" d="${path(val)}"/>`);
    const end = val.findLast(([, value]) => Number.isFinite(value));
    if (end) parts.push(`<circle class="network-${place}" cx="${x(end[0])}" cy="${y(end[1])}" r="4"/>`);
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join(""); // numbers and words of this file only
  const ends = series.map(({ val }, place) => `${nameOf(settings.networks[place])} ${val.length ? inWords(val.at(-1)[1]) : "not yet trained"}`);
  svg.setAttribute("aria-label", `Curves of ${title}: ${ends.join("; ")}`);
}

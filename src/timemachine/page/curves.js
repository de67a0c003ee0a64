// The curves of the networks that train: perplexity on a logarithmic axis, or the share of recalled letters.

const PERPLEXITIES = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100], SHARES = [0, 0.25, 0.5, 0.75, 1]; // ticks
const MOST = 100; // perplexity at the top, at most
const LEFT = 44, RIGHT = 22, TOP = 10, BOTTOM = 36; // margins in pixels
const svg = find("curves");

/** Return the levels of horizontal lines, by their names. */
function levels({ text, num_steps }) {
  if (text === "recall") return { "chance: 6%": 1 / 16 };
  const V = (training.alphabet ?? run).tokens.length, { val } = run.epochs.at(-1), lines = { [`guessing: ${V}`]: V };
  const isSame = run.kind === "letters" && text === "beginning" && num_steps === run.window;
  if (val && isSame && `${run.split}` === `${BOOK_SPLIT}`) lines[`saved network, validation: ${val.toFixed(1)}`] = val;
  return lines;
}

/** Return 1, 2 or 5 times a power of ten: the distance of at most `count` ticks up to `most`. */
function stepOf(most, count) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  return power * [1, 2, 5, 10].find((factor) => most / (factor * power) <= count);
}

function drawCurves() {
  const { settings: { networks, data }, ready, losses, epochs } = training, isRecall = data.text === "recall";
  const until = Math.max(training.until, data.updates, training.update), lines = levels(data);
  const unit = inEpochs() ? ready?.updatesPerEpoch ?? Math.ceil(BOOK_SPLIT[0] / data.batch_size) : 1; // updates per tick
  const curves = networks.map((_, place) => ({
    train: isRecall ? [] : losses.map(([update, ...means]) => [update, Math.exp(means[place])]),
    val: epochs.map(({ update, networks }) => [update, networks[place][isRecall ? "recall" : "val"]]),
  }));

  const width = svg.clientWidth, height = svg.clientHeight, right = width - RIGHT, bottom = height - BOTTOM;
  const scale = (value) => (isRecall ? value : Math.log(Math.min(MOST, value)));
  const values = curves.flatMap(({ train, val }) => [...train, ...val]).map(([, value]) => value).filter(Number.isFinite);
  const plotted = [...Object.values(lines), 6, ...values];
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
  for (const value of Object.values(lines)) parts.push(level("level", value));
  curves.forEach((curve, place) => {
    const [train, val] = [curve.train, curve.val].map((points) => points.filter(([, value]) => Number.isFinite(value)));
    const ends = val.slice(-1).map(([update, value]) => `<circle cx="${x(update)}" cy="${y(value)}" r="4"/>`);
    parts.push(`<g class="network-${place}">`, train.length ? line("train", train) : "", val.length ? line("val", val) : "", ...ends, "</g>");
  });
  for (const [name, value] of Object.entries(lines)) parts.push(label("end halo", right, y(value) - 5, name));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join(""); // numbers, and words of this file
  const ends = curves.map(({ val }, place) => `${names()[place]}: ${val.length ? inWords(val.at(-1)[1]) : "not trained"}`);
  svg.setAttribute("aria-label", `${title}, in validation. ${ends.join("; ")}`);
}

// The network, unrolled as in the book's figures, with the values of its gates at the chosen token. Lengths are in pixels.

const drawing = find("drawing"), EARLIER = 78, NARROW = 480; // width of an earlier cell; of a page without them
const CELL_TOP = 36, CELL_BOTTOM = 196, STATE = 58, BOX = 88, BOX_HEIGHT = 84; // heights; STATE: of the upper line of state
const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const word = (x, y, text, name = "middle") => `<text class="${name}" x="${x}" y="${y}">${escaped(text)}</text>`;
const wire = (path) => `<path class="wire" d="${path}"/>`;
const arrow = (path) => `<path class="wire" marker-end="url(#head)" d="${path}"/>`;
const rectangle = (name, x, y, width, height) => `<rect class="${name}" x="${x}" y="${y}" width="${width}" height="${height}"/>`;
const operator = (x, y, sign) => `<circle class="operator" cx="${x}" cy="${y}" r="8"/>${word(x, y + 5, sign)}`;

/** Draw values as a row of coloured lines; the chosen one is framed. */
function valueLines(x, y, width, height, values, most, unit) {
  const step = width / values.length;
  const line = (h, place) => `<rect class="${h < 0 ? "minus" : "plus"}" x="${(x + place * step).toFixed(1)}" y="${y}"` +
    ` width="${step.toFixed(1)}" height="${height}" fill-opacity="${Math.min(1, Math.abs(h) / (most || 1)).toFixed(2)}"/>`;
  const chosen = unit in values ? rectangle("chosen", x + unit * step - 1, y - 2, step + 2, height + 4) : "";
  return [...values].map(line).join("") + rectangle("outline", x, y, width, height) + chosen;
}

/** Return the value of the chosen unit, or the mean size of all. */
function numberOf(values, unit) {
  return signed(values[unit] ?? values.reduce((sum, h) => sum + Math.abs(h), 0) / values.length);
}

/** Draw a box of a cell with its name, its symbol, a number and all its values. */
function gateBox([name, symbol, values], x, width, most, unit) {
  const rows = width < 54 ? [] : name.split(/ (?=hidden|\S+$)/), middle = x + width / 2; // in a narrow box the symbol only
  const names = rows.map((row, place) => word(middle, BOX + 15 + 13 * place, row));
  return rectangle("gate", x, BOX, width, BOX_HEIGHT) + names.join("") + word(middle, BOX + BOX_HEIGHT - 22, `${symbol} ${numberOf(values, unit)}`, "middle number") +
    valueLines(x + 6, BOX + BOX_HEIGHT - 15, width - 12, 9, values, most, unit);
}

/** Draw the wires and operators between the boxes of a cell, whose middles are given, from x on up to `end`. */
function wiresOf(model, middles, x, end) {
  const up = (place, height = STATE + 8) => arrow(`M${middles[place]} ${BOX}V${height}`);
  if (model instanceof GRU) { // H = Z ⊙ H(t - 1) + (1 - Z) ⊙ H̃; R multiplies the part of H̃ that comes from H(t - 1)
    const [r, z, candidate] = middles, low = BOX - 12;
    return arrow(`M${x} ${STATE}H${end}`) + wire(`M${r} ${BOX}V${low}H${candidate - 26}`) + arrow(`M${candidate - 26} ${low}V${BOX}`) +
      operator(candidate - 26, low, "⊙") + up(1) + up(2) + operator(z, STATE, "⊙") + operator(candidate, STATE, "+");
  }
  if (model instanceof LSTM) { // C = F ⊙ C(t - 1) + I ⊙ C̃; H = O ⊙ tanh(C)
    const [f, input, node, output] = middles, between = (input + node) / 2;
    return arrow(`M${x} ${STATE}H${end}`) + up(0) + operator(f, STATE, "⊙") + wire(`M${input} ${BOX}V${BOX - 10}H${node}V${BOX}`) +
      arrow(`M${between} ${BOX - 10}V${STATE + 8}`) + operator(between, BOX - 10, "⊙") + operator(between, STATE, "+") +
      wire(`M${output} ${BOX}V${STATE}`) + operator(output, BOX - 14, "⊙") + arrow(`M${output + 8} ${BOX - 14}H${end - 10}V${CELL_BOTTOM - 14}H${end}`);
  }
  const steps = middles.slice(1).map((middle, place) => arrow(`M${middles[place]} ${BOX + BOX_HEIGHT}v8H${middle}v-8`)); // layers
  return arrow(`M${x} ${STATE}H${middles[0]}V${BOX}`) + steps.join("") + arrow(`M${middles.at(-1)} ${BOX}V${STATE}H${end}`);
}

/** Draw the network that continues the text, at the token at t. */
function drawNetwork(t) {
  const view = views.find((each) => each.reading === reading), { unit, most } = view, width = drawing.clientWidth;
  const earlier = width < NARROW ? 0 : Math.min(2, t), boxes = model.boxes(reading.before(t), reading.indices[t], reading.states[t]);
  const x = 30 + earlier * (EARLIER + 24), end = width - 96, inside = end - x, gap = 10;
  const boxWidth = (inside - gap * (boxes.length + 1)) / boxes.length;
  const lefts = boxes.map((_, place) => x + gap + place * (boxWidth + gap)), isLstm = model instanceof LSTM, top = isLstm ? "C" : "H";
  const letter = (middle, place, name = "middle") => word(middle, 232, shown(reading.tokens[place]), name) + arrow(`M${middle} 218V${CELL_BOTTOM + 2}`);
  const parts = [`<defs><marker id="head" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z"/></marker></defs>`];
  for (let back = earlier; back > 0; back--) {
    const left = 30 + (earlier - back) * (EARLIER + 24), state = reading.states[t - back];
    const h = isLstm ? model.memory(state) : state;
    parts.push(rectangle("cell", left, CELL_TOP, EARLIER, CELL_BOTTOM - CELL_TOP), word(left + EARLIER / 2, BOX + 15, `${top} ${numberOf(h, unit)}`, "middle number"),
      valueLines(left + 6, BOX + 24, EARLIER - 12, 30, h, most, unit), arrow(`M${left - 24} ${STATE}H${left}`), letter(left + EARLIER / 2, t - back));
  }
  parts.push(arrow(`M${x - 24} ${STATE}H${x}`), rectangle("cell current", x, CELL_TOP, inside, CELL_BOTTOM - CELL_TOP), wiresOf(model, lefts.map((left) => left + boxWidth / 2), x, end));
  boxes.forEach((box, place) => {
    const isLayer = model instanceof RNN, ofBox = unit === null ? null : unit - (isLayer ? place * model.numHiddens : 0);
    parts.push(gateBox(box, lefts[place], boxWidth, isLayer ? most : 1, ofBox));
  });
  const after = reading.states[t], states = isLstm ? [["C", model.memory(after), STATE], ["H", model.output(after), CELL_BOTTOM - 14]] : [["H", model.hiddens(after), STATE]];
  for (const [symbol, values, y] of states) {
    parts.push(word(end + 6, y - 8, `${symbol} ${numberOf(values, unit)}`, "number"), valueLines(end + 6, y + 6, 84, 9, values, model.isBounded ? 1 : most, unit));
  }
  const P = reading.next(t), [likeliest] = [...P.keys()].sort((a, b) => P[b] - P[a]), out = `${shown(model.tokens[likeliest])} ${percent(P[likeliest])}`;
  parts.push(arrow(`M${end + 48} ${STATE - 24}V24`), word(end + 48, 16, `O: ${out}`), word(x + 2, CELL_TOP - 6, `${names()[chosen.network] ?? "the saved network"}`, ""));
  parts.push(letter(x + inside / 2, t, "middle number"));
  drawing.setAttribute("viewBox", `0 0 ${width} 240`);
  drawing.innerHTML = parts.join(""); // tokens are escaped
  const numbers = unit === null ? "mean size of all units; choose one in the map" : `of unit ${unit + 1}`;
  find("drawing-said").textContent = `From left to right, the cells that read each ${model.noun}: from hidden state H${isLstm ? " and memory C" : ""} and input to the next. Numbers: ${numbers}.`;
  drawing.setAttribute("aria-label", `At ${quoted(t)}: ${boxes.map(([name, , values]) => `${name} ${numberOf(values, unit)}`).join(", ")}; likeliest next: ${out}`);
}

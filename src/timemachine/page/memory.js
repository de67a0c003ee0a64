// How far back the model remembers at the chosen character, measured by putting others in the place of each before it.

const BEYOND = 8, MAX_BACK = 64; // tokens beyond the training's windows, and of all
const MIN_SCALE = 0.1; // bits at the top of the chart
const SAME_BITS = 0.005; // what differs by less is called the same
const chart = find("memory");
let chosenBar = 0; // how far back the place is whose bits are said

/** Measure and draw, in slices, so that no key waits; until another drawing begins. */
async function drawMemory(t) {
  const turn = drawings, bits = [];
  let until = performance.now() + SLICE;
  chart.classList.add("measuring");
  for (const value of reading.memory(t, Math.min(MAX_BACK, run.window + BEYOND))) {
    bits.push(value);
    if (performance.now() < until) continue;
    await new Promise((resolve) => setTimeout(resolve));
    if (turn !== drawings) return;
    until = performance.now() + SLICE;
  }
  drawChart(t, bits);
}

function drawChart(t, bits) {
  const most = Math.max(...bits, MIN_SCALE);
  chart.classList.remove("measuring");
  chart.replaceChildren(...bits.map((value, back) => {
    const column = create("span", "", "back"), bar = create("i");
    bar.style.height = `${(100 * value) / most}%`;
    column.append(bar, create("b", shortened(reading.tokens[t - back])));
    column.title = `${quoted(t - back)}, ${back} back: ${value.toFixed(3)} bits`;
    column.classList.toggle("window", back === run.window);
    return column;
  }).reverse());
  chart.scrollLeft = chart.scrollWidth;
  const back = bits.findLastIndex((value) => value >= 0.01 * bits[0]);
  const beyond = back ? `Farther than ${back} back` : "In any place before it";
  const reach = back === bits.length - 1 || bits[0] < SAME_BITS ? "" : ` ${beyond} it is below a hundredth of that.`;
  const window = bits.length > run.window ? `; the line: where the training's windows of ${run.window} ended` : "";
  const farther = run.window > MAX_BACK ? `; the training's windows of ${run.window} went farther back` : "";
  find("memory-said").textContent = `Another ${noun} in the place of ${quoted(t)} changes the prediction by ` +
    `${bits[0].toFixed(2)} bits on average.${reach}`;
  find("memory-axis").textContent = `0 to ${most.toFixed(2)} bits${window}${farther}`;
  chart.setAttribute("aria-valuemin", 1 - bits.length);
  chooseBar(Math.min(chosenBar, bits.length - 1));
}

/** Say and mark how much a place matters, so many back. */
function chooseBar(back) {
  const column = chart.children[chart.children.length - 1 - back];
  if (!column) return;
  chosenBar = back;
  chart.querySelector(".at")?.classList.remove("at");
  column.classList.add("at");
  find("memory-chosen").textContent = column.title;
  chart.setAttribute("aria-valuenow", -back);
  chart.setAttribute("aria-valuetext", column.title);
}

/** Say what forgetting changes; `whole` is the reading of the same text that has forgotten nothing. */
function drawForgotten(t) {
  const f = reading.start, name = quoted(f || t);
  find("forget").textContent = f ? "Remember again" : `Forget everything before ${name}`;
  find("forget").disabled = !f && t === 0;
  find("forgotten").hidden = !f;
  if (!f) return;
  whole.take(box.value);
  whole.advance();
  const place = Math.max(t, f), changed = divergence(whole.next(place), reading.next(place));
  const past = whole.bits(f), zero = reading.bits(f), count = reading.known - f;
  const than = changed < SAME_BITS ? "what it was" : `${changed.toFixed(2)} bits from what it was`;
  const cost = Math.abs(past - zero) < SAME_BITS ? ", as with their past" : `, with their past ${past.toFixed(2)}`;
  find("forgotten").textContent =
    `Before ${name} the state was set to zero. After ${quoted(place)} the prediction is ${than}; ` +
    `the ${counted(count)} from ${name} on cost ${zero.toFixed(2)} bits each${cost}.`;
}

/** Set the state to zero before the token at t; 0: nowhere. */
function forgetBefore(t) {
  reading.forget(t);
  Object.assign(chosen, { place: t || chosen.place, pointed: null });
  work();
}

function listenToMemory() {
  const lastBar = () => chart.children.length - 1;
  listenToArrows(chart, () => lastBar() - chosenBar, lastBar, (place) => chooseBar(lastBar() - place));
  for (const name of ["pointermove", "click"]) chart.addEventListener(name, ({ target }) => {
    const place = [...chart.children].indexOf(target.closest(".back"));
    if (place >= 0) chooseBar(lastBar() - place);
  });
  find("forget").addEventListener("click", () => forgetBefore(reading.start ? 0 : at()));
  find("forget-example").hidden ||= noun === "token"; // whose places are others
}

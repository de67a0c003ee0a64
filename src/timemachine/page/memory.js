// How far back the model remembers at the chosen token: the effect of replacing each earlier one.

const BEYOND = 8, MAX_BACK = 64; // bars beyond a window of the training, and in total
const MIN_SCALE = 0.1; // bits at the top of the chart, at least
const SAME_BITS = 0.005; // smaller differences are called equal
const chart = find("memory");
let chosenBar = 0; // offset of the bar that is described

/** Measure in slices, so that the page answers keys, and draw. Another drawing cancels this one. */
async function drawMemory(t) {
  const turn = drawings, bits = [];
  let until = performance.now() + SLICE;
  chart.classList.add("measuring");
  for (const value of reading.memory(t, Math.min(MAX_BACK, model.window + BEYOND))) {
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
    column.classList.toggle("window", back === model.window);
    return column;
  }).reverse());
  chart.scrollLeft = chart.scrollWidth;
  const back = bits.findLastIndex((value) => value >= 0.01 * bits[0]);
  const isAll = back === bits.length - 1 || bits[0] < SAME_BITS;
  const beyond = back ? `one more than ${back} back` : "any earlier one";
  const reach = isAll ? "" : ` Replacing ${beyond} changes it by less than a hundredth of that.`;
  const window = bits.length > model.window ? `; dashed line: length of a training window, ${model.window}` : "";
  const farther = model.window > MAX_BACK ? `; training windows are longer, ${model.window}` : "";
  find("memory-said").textContent =
    `Replacing ${quoted(t)} changes the prediction by ${bits[0].toFixed(2)} bits on average.${reach}`;
  find("memory-chart").hidden = bits.length === 1;
  find("memory-axis").textContent = `0 to ${most.toFixed(2)} bits${window}${farther}`;
  chart.setAttribute("aria-valuemin", 1 - bits.length);
  chooseBar(Math.min(chosenBar, bits.length - 1));
}

function chooseBar(back) {
  const column = chart.children[chart.children.length - 1 - back];
  if (!column) return;
  chosenBar = back;
  chart.querySelector(".at")?.classList.remove("at");
  column.classList.add("at");
  find("memory-chosen").textContent = column.title;
  Object.assign(chart, { ariaValueNow: -back, ariaValueText: column.title });
}

/** Describe the effect of forgetting, compared with `whole`, a reading that keeps its state. */
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
  const than = changed < SAME_BITS ? "unchanged" : `changed by ${changed.toFixed(2)} bits`;
  const isSame = Math.abs(past - zero) < SAME_BITS, without = isSame ? "also" : past.toFixed(2);
  find("forgotten").textContent =
    `Before ${name} the state was set to zero. After ${quoted(place)} the prediction is ${than}; ` +
    `the ${counted(count)} since ${name} cost ${zero.toFixed(2)} bits each, without forgetting ${without}.`;
}

/** Set the state to zero before the token at t; 0 restores it. */
function forgetBefore(t) {
  reading.forget(t);
  Object.assign(chosen, { place: t || chosen.place, pointed: null });
  work();
}

const lastBar = () => chart.children.length - 1;
listenToArrows(chart, () => lastBar() - chosenBar, lastBar, (place) => chooseBar(lastBar() - place));
for (const name of ["pointermove", "click"]) chart.addEventListener(name, ({ target }) => {
  const place = [...chart.children].indexOf(target.closest(".back"));
  if (place >= 0) chooseBar(lastBar() - place);
});
find("forget").addEventListener("click", () => forgetBefore(reading.start ? 0 : at()));

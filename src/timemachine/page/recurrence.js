// One step of the recurrence with the values of the chosen token.

function drawRecurrence(t) {
  const before = reading.before(t), state = reading.states[t], input = model.fromInput[reading.indices[t]];
  const fromState = affine(before, model.W_hh, model.zeros), sum = fromState.map((z, unit) => z + input[unit]);
  const steps = { before, "from-state": fromState, "from-input": input, sum, state };
  const most = maxAbsolute([...Object.values(steps), ...(model.activation === "tanh" ? [[1]] : [])]);
  for (const [name, vector] of Object.entries(steps)) drawVectors(find(name), [vector], 1, most);
  find("was").textContent = before === model.zeros ? "zero" : `after ${quoted(t - 1)}`;
  find("is").textContent = `after ${quoted(t)}`;
  find("x").textContent = shown(reading.tokens[t]);
  document.querySelectorAll(".most-of-step").forEach((place) => (place.textContent = short(most)));
  const unit = chosen.unit ?? 0, x = signed(input[unit]), plus = x.startsWith("−") ? "−" : "+";
  const is = `${model.activation}(${signed(fromState[unit])} ${plus} ${x.replace("−", "")}) = ${signed(state[unit])}`;
  const said = `Unit ${unit}, for example, was ${signed(before[unit])} and is ${is}.`;
  find("one-unit").textContent = find("cell").ariaLabel = said;
}

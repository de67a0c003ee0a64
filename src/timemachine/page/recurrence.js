// One step of the recurrence of a plain RNN with the values of the chosen token.

function drawRecurrence(t) {
  find("recurrence").hidden = !model.isPlain;
  if (!model.isPlain) return;
  const [{ W_hh }] = model.layers, before = reading.before(t), state = reading.states[t];
  const input = model.fromInput.h[reading.indices[t]], fromState = affine(before, W_hh, model.zeros);
  const sum = fromState.map((z, unit) => z + input[unit]);
  const steps = { before, "from-state": fromState, "from-input": input, sum, state };
  const most = maxAbsolute([...Object.values(steps), ...(model.isBounded ? [[1]] : [])]);
  for (const [name, vector] of Object.entries(steps)) drawVectors(find(name), [vector], 1, most);
  find("was").textContent = t ? `after ${quoted(t - 1)}` : "zero";
  find("is").textContent = `after ${quoted(t)}`;
  find("x").textContent = shown(reading.tokens[t]);
  document.querySelectorAll(".most-of-step").forEach((place) => (place.textContent = short(most)));
  const unit = chosen.unit ?? 0, x = signed(input[unit]), plus = x.startsWith("−") ? "−" : "+";
  const is = `${model.activation}(${signed(fromState[unit])} ${plus} ${x.replace("−", "")}) = ${signed(state[unit])}`;
  const said = `Unit ${unit}, for example, was ${signed(before[unit])} and is ${is}.`;
  find("one-unit").textContent = find("cell").ariaLabel = said;
}

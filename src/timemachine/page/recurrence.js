// One step of the recurrence with the values of the chosen token: the sum of what the state before and the token add.

function drawRecurrence(t) {
  const before = reading.before(t), state = reading.states[t], input = model.fromInput[reading.indices[t]];
  const fromState = model.fromState(before), sum = fromState.map((z, unit) => z + input[unit]);
  const ofStates = maxState([before, state]), ofSums = maxAbsolute([fromState, input, sum]);
  const steps = [ // a vector over the units, where its colours end, what it is
    ["before", before, ofStates, before === model.zeros ? "zero" : `after ${quoted(t - 1)}`],
    ["from-state", fromState, ofSums, ""],
    ["from-input", input, ofSums, ""],
    ["sum", sum, ofSums, ""],
    ["state", state, ofStates, `after ${quoted(t)}`],
  ];
  for (const [name, vector, most, what] of steps) {
    const place = find(name);
    drawVectors(place, [vector], 1, most);
    place.nextElementSibling.lastElementChild.innerText = `${what}${what && "\n"}± ${short(most)}`;
  }
  find("x").textContent = shown(reading.tokens[t]);
  const unit = chosen.unit ?? run.units[0]?.unit ?? run.order[0];
  const x = signed(input[unit]), plus = x.startsWith("−") ? "−" : "+";
  const z = `${signed(fromState[unit])} ${plus} ${x.replace("−", "")}`;
  const said = `Unit ${unit}, for example, was ${signed(before[unit])} and is ${run.activation}(${z}) = ${signed(state[unit])}.`;
  find("one-unit").textContent = said;
  find("cell").setAttribute("aria-label", said);
}

// The box: typed text, its grey continuation, and the buttons. They write text like typing, so that Ctrl-Z undoes it.

const NUM_GHOST = 20, NUM_MORE = 200; // tokens of the grey text, and of one click on the button
const FIRST = "the time machine stood in the laboratory and the traveller spoke of how far into the future he had been ";
const NUM_EXAMPLE = 100; // characters of an example from the training text
const MAX_NAMED = 20; // tokens in one message
const box = find("text"), FULL = `The box is full: it takes ${box.maxLength.toLocaleString("en")} characters.`;
let ghost = "", dismissed = false, speaking = 0;
let isTyped = false; // since Tab was last used: a second Tab leaves the box

const room = () => box.maxLength - box.value.length; // UTF-16 units that still fit into the box
const isInside = () => box.selectionEnd !== box.value.length; // text follows the cursor

/** Return the index of the token before the cursor or around it. */
function caret() {
  const cursor = box.selectionEnd, before = reading.tokens.slice(0, -1);
  if (model.bytePairs) return model.bytePairs.ends(before).filter((end) => end < cursor).length;
  return Math.min(model.read(box.value.slice(0, cursor)).length - 1, last());
}

/** Return the end of the token at t in the box. */
function endOf(t) {
  if (model.bytePairs) return model.bytePairs.ends(reading.tokens)[t];
  let end = box.value.length;
  while (end && model.read(box.value.slice(0, end)).length > t + 1) end--;
  return end;
}

/** Append text, or replace a part of the box, as if it were typed. */
function write(text, from = box.value.length, to = from) {
  inBox(() => [box.setSelectionRange(from, to), document.execCommand("insertText", false, text)]);
  if (!isInside()) box.closest(".editor").scrollTop = 0; // the end
}

/** Edit the text with the box focused, which `execCommand` needs, then restore the focus. */
function inBox(edit) {
  const focused = document.activeElement;
  if (focused !== box) box.inputMode = "none"; // keep a phone's keyboard closed
  box.focus({ preventScroll: true });
  edit();
  if (focused !== box && focused !== document.body) focused.focus({ preventScroll: true });
  box.inputMode = "text";
}

function report(text) {
  find("said").textContent = text;
  find("keys").hidden = text !== "";
}

/** Draw the continuation, unless the text is still being read, the cursor is inside it, or it was dismissed. */
function drawGhost() {
  const isWanted = reading.known > last() && !isInside() && !dismissed, state = reading.states[last()];
  ghost = isWanted ? model.continuation(state, NUM_GHOST, room(), chosen.alpha, source()).text : "";
  find("typed").textContent = box.value;
  find("ghost").textContent = `${ghost}\u200b`; // gives an empty last line its height
  find("take").disabled = !ghost;
  find("inside").hidden = !isInside();
  document.querySelector("#keys .keyboard").hidden = isInside();
  clearTimeout(speaking); // a screen reader reads the grey text after a pause in typing
  if (!ghost || document.activeElement !== box) return;
  speaking = setTimeout(() => (find("spoken").textContent = `continues: ${ghost}`), 1200);
}

/** List characters that the model normalises or lacks. */
function drawUnread() {
  find("reads").textContent = {
    letters: "It sees only a to z and single spaces, ␣.",
    characters: "It sees every character; ␣ is a space, ↵ a line break.",
    bpe: "It sees tokens; ␣ is a space, ↵ a line break.",
  }[model.kind];
  const unknown = model.unknown(box.value), more = unknown.length > MAX_NAMED ? " …" : "";
  const named = unknown.slice(0, MAX_NAMED).map(shown).join(" ");
  const spaced = model.kind === "letters" ? new Set(box.value.replace(/[A-Za-z\s]/g, "")) : new Set();
  find("spaces").hidden = !spaced.size;
  find("spaces").textContent = `${[...spaced].slice(0, MAX_NAMED).join(" ")}: the model reads a space instead.`;
  find("unknown").hidden = !(unknown.length && box.value);
  find("unknown").textContent =
    `The vocabulary has no ${named}${more}: the model reads <unk>, and bits and P are those of <unk>.`;
  find("empty").hidden = box.value !== "";
}

/** Return an example for the box. A byte-pair token includes the space before it, so none is typed at the end. */
const example = (text) => (model.bytePairs ? text.trimEnd() : text);

/** Return an example from the training text: whole words from a share of it on. */
function excerpt(share) {
  const characters = Array.from(chosen.epoch === null ? trainingText() : run.text);
  const from = Math.floor(share * Math.max(0, characters.length - NUM_EXAMPLE));
  const text = characters.slice(from, from + NUM_EXAMPLE).join("").replace(/(?<=\s)\S+$/u, "");
  return example(from ? text.replace(/^\S+\s+/u, "") : text);
}

box.addEventListener("input", () => {
  dismissed = false;
  isTyped = true;
  report(room() ? "" : FULL);
  update();
});
box.addEventListener("keydown", (event) => {
  if (event.isComposing || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey || !ghost) return;
  if (event.key === "Tab" && isTyped) {
    event.preventDefault();
    write(ghost);
    isTyped = false;
  } else if (event.key === "Escape") {
    dismissed = true;
    drawGhost();
  }
});
document.addEventListener("selectionchange", () => {
  if (document.activeElement !== box || reading.known <= last()) return;
  if (isInside() === find("inside").hidden) draw(); // although the token is the same
  choose(caret());
});
find("take").addEventListener("click", () => write(ghost));
find("more").addEventListener("click", writeMore);
find("excerpt").hidden = !run.text;
find("excerpt").addEventListener("click", () => write(excerpt(Math.random()), 0, box.value.length));
for (const button of document.querySelectorAll(".example")) {
  const text = example(button.dataset.text);
  button.hidden = model.unknown(text).length > 0 || (button.dataset.forget && model.bytePairs); // counts characters
  button.addEventListener("click", () => {
    write(text, 0, box.value.length);
    if (button.dataset.forget) forgetBefore(Number(button.dataset.forget));
  });
}
document.addEventListener("keydown", (event) => {
  const { key, target } = event, isCommand = event.ctrlKey || event.metaKey;
  if (target === document.body && key.length === 1 && key !== " " && !isCommand && !event.altKey) {
    box.focus({ preventScroll: true }); // the box then receives the key
  }
  if (!isCommand || key.toLowerCase() !== "z" || target.matches("textarea, input")) return;
  event.preventDefault(); // a clicked button has the focus, and nothing to undo
  inBox(() => document.execCommand(event.shiftKey ? "redo" : "undo"));
});
box.value = model.unknown(FIRST).length ? excerpt(0) : example(FIRST); // in another script, the training text

function writeMore() {
  reading.advance();
  const { alpha, seed } = chosen, from = last();
  const { tokens, text } = model.continuation(reading.states[from], NUM_MORE, room(), alpha, source());
  const written = [...reading.tokens, ...tokens];
  const choice = alpha === null ? "each the likeliest" : `α ${alpha}, seed ${seed}`;
  write(text);
  let said = tokens.length ? `${counted(tokens.length)} written at the end, ${choice}.` : FULL;
  reading.advance();
  // Byte pairs may split the text into other tokens than the generated ones.
  const isReadAsWritten = written.every((token, t) => token === reading.tokens[t]);
  const repetition = alpha === null && isReadAsWritten ? reading.repetition(from) : null;
  if (repetition) {
    const { place, period } = repetition;
    chosen.repeats = chosen.place = place; // scrolls to it
    said += ` The state at the marked ${model.noun} equals the state ${counted(period)} before, so the text repeats.`;
  }
  report(said);
  draw();
}

// The box: typed text, its grey continuation, and the buttons. They write text like typing, so that Ctrl-Z undoes it.

const NUM_GHOST = 30, NUM_MORE = 200; // tokens of the grey text, and of one click on the button
const FIRST = "the time machine stood in the laboratory and the traveller spoke of how far into the future he had been ";
const NUM_EXAMPLE = 100, MAX_EXCERPT = 10_000; // characters of an example, and of the text that it is taken from
const MAX_NAMED = 20; // tokens in one message
const box = find("text"), FULL = `The box is full: it takes ${box.maxLength.toLocaleString("en")} characters.`;
let ghost = "", dismissed = false, speaking = 0;
let isTyped = false; // since Tab was last used: a second Tab leaves the box

const room = () => box.maxLength - box.value.length; // UTF-16 units that still fit into the box

/** Append text, or replace a part of the box, as if it were typed. */
function write(text, from = box.value.length, to = from) {
  inBox(() => [box.setSelectionRange(from, to), document.execCommand("insertText", false, text)]);
  box.closest(".editor").scrollTop = 0; // the end
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

const report = (text) => (find("said").textContent = text);

/** Draw the continuation, unless the text is still being read or it was dismissed. */
function drawGhost() {
  const isWanted = reading.known > last() && !dismissed, state = reading.states[last()];
  ghost = isWanted ? model.continuation(state, NUM_GHOST, room(), chosen.alpha, source()).text : "";
  find("typed").textContent = box.value;
  find("ghost").textContent = `${ghost}\u200b`; // gives an empty last line its height
  find("take").disabled = !ghost;
  clearTimeout(speaking); // a screen reader reads the grey text after a pause in typing
  if (!ghost || document.activeElement !== box) return;
  speaking = setTimeout(() => (find("spoken").textContent = `continues: ${ghost}`), 1200);
}

/** List characters that the model normalises or lacks. */
function drawUnread() {
  const unknown = model.unknown(box.value), spaced = new Set(box.value.replace(/[A-Za-z\s]/g, ""));
  const named = (tokens) => tokens.slice(0, MAX_NAMED).map(shown).join(" ") + (tokens.length > MAX_NAMED ? " …" : "");
  const notes = [];
  if (!box.value) notes.push(`The text is empty: like generate.py, the model starts with ${shown(model.start)}.`);
  else if (unknown.length) notes.push(`The vocabulary lacks ${named(unknown)}: the model reads <unk> instead.`);
  if (model.kind === "letters" && spaced.size) notes.push(`${named([...spaced])}: the model reads a space instead.`);
  find("unread").textContent = notes.join(" ");
}

/** Return an example for the box. A byte-pair token includes the space before it, so none is typed at the end. */
const example = (text) => (model.bytePairs ? text.trimEnd() : text);

/** Return an example from the text that the shown network was trained on: whole words from a share of it on. */
function excerpt(share) {
  const text = trainedText().slice(0, MAX_EXCERPT), length = Math.max(0, text.length - NUM_EXAMPLE);
  const from = Math.floor(share * length);
  if (!length) return example(text); // a whole example
  const part = text.slice(from, from + NUM_EXAMPLE).replace(/(?<=\s)\S+$/u, "");
  return example(from ? part.replace(/^\S+\s+/u, "") : part);
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
find("take").addEventListener("click", () => write(ghost));
find("more").addEventListener("click", writeMore);
find("excerpt").addEventListener("click", () => write(excerpt(Math.random()), 0, box.value.length));
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  const isCommand = ctrlKey || metaKey, isSymbol = key.length === 1 && key !== " " && !isCommand && !altKey;
  const isUndo = isCommand && key.toLowerCase() === "z"; // of a button, which has the focus after a click
  if (target === document.body && isSymbol || isUndo && !target.matches("textarea, input")) {
    box.focus({ preventScroll: true }); // the box then receives the key
  }
});
box.value = model.unknown(FIRST).length ? excerpt(0) : example(FIRST); // in another script, the training text

function writeMore() {
  reading.advance();
  const { tokens, text } = model.continuation(reading.states[last()], NUM_MORE, room(), chosen.alpha, source());
  write(text);
  report(tokens.length ? `${counted(tokens.length)} written at the end.` : FULL);
}

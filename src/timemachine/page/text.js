// The box: typed text, its grey continuation, and the buttons. They write text like typing, so that Ctrl-Z undoes it.

const NUM_GHOST = 30, NUM_MORE = 200; // tokens of the grey text, and of one click on the button
const FIRST = "the time machine stood in the laboratory and the traveller spoke of how far into the future he had been";
const NUM_EXAMPLE = 100, MAX_EXCERPT = 10_000; // characters of an example, and of the text that it is taken from
const MAX_NAMED = 20; // tokens in one message
const box = find("text"), FULL = `The box is full: it takes ${box.maxLength.toLocaleString("en")} characters.`;
let ghost = "", dismissed = false, speaking = 0;
let isTyped = false; // since Tab was last used: a second Tab leaves the box

const room = () => box.maxLength - box.value.length; // UTF-16 units that still fit into the box

/** Append text, or replace a part of the box, as if it were typed. `execCommand` needs the box focused. */
function write(text, from = box.value.length, to = from) {
  const focused = document.activeElement;
  if (focused !== box) box.inputMode = "none"; // keep a phone's keyboard closed
  box.focus({ preventScroll: true });
  box.setSelectionRange(from, to);
  document.execCommand("insertText", false, text);
  if (focused !== box && focused !== document.body) focused.focus({ preventScroll: true });
  box.inputMode = "text";
  box.closest(".editor").scrollTop = 0; // the end
}

const report = (text) => (find("said").textContent = text);

/** Draw the continuation, unless the text is still being read or it was dismissed. */
function drawGhost() {
  const isWanted = reading.isComplete && !dismissed, state = reading.states[last()];
  ghost = isWanted ? cut(model.continuation(state, NUM_GHOST, chosen.alpha, source()), room()) : "";
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

/** Return an example from the text that the shown network was trained on: whole words from a share of it on. */
function excerpt(share) {
  const text = (chosen.network === null ? run : training.alphabet).text.slice(0, MAX_EXCERPT);
  const from = Math.floor(share * Math.max(0, text.length - NUM_EXAMPLE)), part = text.slice(from, from + NUM_EXAMPLE);
  if (part === text) return text;
  return part.replace(from ? /^\S*\s+|\s+\S*$/gu : /\s+\S*$/u, ""); // no space at the end, which starts a byte-pair token
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
find("more").addEventListener("click", () => {
  reading.advance();
  write(cut(model.continuation(reading.states[last()], NUM_MORE, chosen.alpha, source()), room())); // as much as fits
  report(room() ? `${counted(NUM_MORE)} written at the end.` : FULL);
});
find("excerpt").addEventListener("click", () => write(excerpt(Math.random()), 0, box.value.length));
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey }) => {
  const isUndo = (ctrlKey || metaKey) && key.toLowerCase() === "z";
  // A button has the focus after a click; the box then receives the key and undoes the change.
  if (isUndo && !target.matches("textarea, input")) box.focus({ preventScroll: true });
});
box.value = model.unknown(FIRST).length ? excerpt(0) : FIRST; // in another script, the training text

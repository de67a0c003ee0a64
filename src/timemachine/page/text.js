// The box: what is typed into it, the grey text that goes on behind it, and what the buttons write. Whatever is written
// goes in as if it were typed, so that Ctrl-Z undoes it.

const NUM_GHOST = 20, NUM_MORE = 200; // tokens that the grey text has, and that one click writes
const FIRST = "the time machine "; // the text at first
const MAX_NAMED = 20; // tokens that one line names
const box = find("text"), FULL = `The box is full: it takes ${box.maxLength.toLocaleString("en")} characters.`;
let ghost = "", dismissed = false, speaking = 0;

const room = () => box.maxLength - box.value.length; // how many UTF-16 units the box still takes
const isInside = () => box.selectionEnd !== box.value.length; // whether text follows the cursor

/** Return the index of the token, among those that are read, before the cursor or around it. */
function caret() {
  const cursor = box.selectionEnd, before = reading.tokens.slice(0, -1);
  if (model.bytePairs) return model.bytePairs.ends(before).filter((end) => end < cursor).length;
  return Math.min(model.read(box.value.slice(0, cursor)).length - 1, last());
}

/** Return where in the box the token at t, as it is read, ends. */
function endOf(t) {
  if (model.bytePairs) return model.bytePairs.ends(reading.tokens)[t];
  let end = box.value.length;
  while (end && model.read(box.value.slice(0, end)).length > t + 1) end--;
  return end;
}

/** Put a text behind what is there, or in the place of a part of it, as if it were typed. */
function write(text, from = box.value.length, to = from) {
  inBox(() => {
    box.setSelectionRange(from, to);
    document.execCommand("insertText", false, text);
  });
  const editor = box.closest(".editor");
  if (!isInside()) editor.scrollTop = editor.scrollHeight;
}

/** Edit the text with the box focused, as `execCommand` needs it, then focus what was focused before. */
function inBox(edit) {
  const focused = document.activeElement;
  if (focused !== box) box.inputMode = "none"; // so that a phone does not show its keyboard
  box.focus({ preventScroll: true });
  edit();
  if (focused !== box && focused !== document.body) focused.focus({ preventScroll: true });
  box.inputMode = "text";
}

/** Say what has happened, in the place of what the keys do. */
function report(text) {
  find("said").textContent = text;
  find("keys").hidden = text !== "";
}

/** Draw what follows the text; nothing until it is read, while the cursor is inside it, or once it was dismissed. */
function drawGhost() {
  const isWanted = reading.known > last() && !isInside() && !dismissed, state = reading.states[last()];
  ghost = isWanted ? model.continuation(state, NUM_GHOST, room(), chosen.alpha, source()).text : "";
  find("typed").textContent = box.value;
  find("ghost").textContent = `${ghost}\u200b`; // so that an empty last line has its height
  find("take").disabled = !ghost;
  find("inside").hidden = !isInside();
  document.querySelector("#keys .keyboard").hidden = isInside();
  clearTimeout(speaking); // a screen reader hears the grey text when the typing rests
  if (!ghost || document.activeElement !== box) return;
  speaking = setTimeout(() => (find("spoken").textContent = `goes on: ${ghost}`), 1200);
}

/** Say what of the box the model does not read as it is. */
function drawUnread() {
  const unknown = model.unknown(box.value), more = unknown.length > MAX_NAMED ? " …" : "";
  const named = unknown.slice(0, MAX_NAMED).map(shown).join(" ");
  const spaced = run.kind === "letters" ? new Set(box.value.replace(/[A-Za-z\s]/g, "")) : new Set();
  find("spaces").hidden = !spaced.size;
  find("spaces").textContent = `${[...spaced].slice(0, MAX_NAMED).join(" ")}: the model reads a space instead.`;
  find("unknown").hidden = !(unknown.length && box.value);
  find("unknown").textContent =
    `The vocabulary has no ${named}${more}: the model reads <unk>, and bits and P are those of <unk>.`;
  find("empty").hidden = box.value !== "";
}

/** Return an example as it is typed: without a space at the end where it is part of the token after it. */
function example(text) {
  return model.bytePairs ? text.trimEnd() : text;
}

/** Return the text at first: one that the model draws after a line break if its script lacks the letters of `FIRST`. */
function firstText() {
  const first = example(FIRST);
  if (!model.unknown(first).length) return first;
  const afterLineBreak = model.step(model.zeros, model.indices(model.read("\n"))[0]);
  return model.continuation(afterLineBreak, NUM_GHOST, room(), 1, uniform(0)).text;
}

function listenToText() {
  box.addEventListener("input", () => {
    dismissed = false;
    report(room() ? "" : FULL);
    update();
  });
  box.addEventListener("keydown", (event) => {
    if (event.isComposing || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey || !ghost) return;
    if (event.key === "Tab") {
      event.preventDefault();
      write(ghost);
    } else if (event.key === "Escape") {
      dismissed = true;
      drawGhost();
    }
  });
  document.addEventListener("selectionchange", () => {
    if (document.activeElement !== box || reading.known <= last()) return;
    if (isInside() === find("inside").hidden) draw(); // also where the place is the same
    choose(caret());
  });
  find("take").addEventListener("click", () => write(ghost));
  find("more").addEventListener("click", writeMore);
  for (const button of document.querySelectorAll(".example")) {
    const text = example(button.dataset.text);
    button.hidden = model.unknown(text).length > 0;
    button.addEventListener("click", () => {
      write(text, 0, box.value.length);
      if (button.dataset.forget) forgetBefore(Number(button.dataset.forget));
    });
  }
  document.addEventListener("keydown", (event) => {
    const { key, target } = event, isCommand = event.ctrlKey || event.metaKey;
    if (target === document.body && key.length === 1 && key !== " " && !isCommand && !event.altKey) {
      box.focus({ preventScroll: true }); // the key then goes there
    }
    if (!isCommand || key.toLowerCase() !== "z" || target.matches("textarea, input")) return;
    event.preventDefault(); // the button that was clicked has the focus, and nothing to undo
    inBox(() => document.execCommand(event.shiftKey ? "redo" : "undo"));
  });
  box.value = firstText();
}

function writeMore() {
  reading.advance();
  const { alpha, seed } = chosen, from = last();
  const { tokens, text } = model.continuation(reading.states[from], NUM_MORE, room(), alpha, source());
  const written = [...reading.tokens, ...tokens];
  const choice = alpha === null ? "each the likeliest" : `α ${alpha}, seed ${seed}`;
  write(text);
  let said = tokens.length ? `${counted(tokens.length)} written at the end, ${choice}.` : FULL;
  reading.advance();
  // As tokens, the text may be read in another way than it was written.
  const isReadAsWritten = written.every((token, t) => token === reading.tokens[t]);
  const repetition = alpha === null && isReadAsWritten ? reading.repetition(from) : null;
  if (repetition) {
    const { place, period } = repetition;
    chosen.repeats = chosen.place = place; // chosen, so that it is seen
    said += ` At the marked ${noun} the state is the same as ${counted(period)} before: from here the text repeats.`;
  }
  report(said);
  draw();
}

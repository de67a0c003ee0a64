// The box: what is typed into it, the grey text that goes on behind it, and what the buttons write. Whatever is written
// goes in as if it were typed, so that Ctrl-Z undoes it.

const GHOST = 20, MORE = 200; // tokens that the grey text has, and that one click writes
const FIRST = "the time machine "; // the text at first
const MOST_NAMED = 20; // characters that one line names
const box = find("text"), FULL = `The box is full: it takes ${box.maxLength.toLocaleString("en")} characters.`;
let ghost = "", dismissed = false, speaking = 0;

/** Return how many UTF-16 units the box still takes. */
function room() {
  return box.maxLength - box.value.length;
}

/** Return the index of the token, among those that are read, before the cursor or around it. */
function caret() {
  if (model.bytePairs) return model.bytePairs.ends(typed.slice(0, -1)).filter((end) => end < box.selectionEnd).length;
  return Math.min(model.read(box.value.slice(0, box.selectionEnd)).length, model.read(box.value).length) - 1;
}

/** Return whether text follows the cursor. */
function isInside() {
  return box.selectionEnd !== box.value.length;
}

/** Return where in the box the token at t, as it is read, ends. */
function endOf(t) {
  if (model.bytePairs) return model.bytePairs.ends(typed)[t];
  let low = 0, high = box.value.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (model.read(box.value.slice(0, middle)).length > t + 1) high = middle - 1;
    else low = middle;
  }
  return low;
}

/** Put a text behind what is there, or in the place of a part of it, as if it were typed. */
function write(text, from = box.value.length, to = from) {
  const focused = document.activeElement;
  if (focused !== box) box.inputMode = "none"; // a phone shall not show its keyboard
  box.focus({ preventScroll: true });
  box.setSelectionRange(from, to);
  document.execCommand("insertText", false, text);
  if (focused !== box && focused !== document.body) focused.focus({ preventScroll: true });
  box.inputMode = "text";
  const editor = box.closest(".editor");
  if (!isInside()) editor.scrollTop = editor.scrollHeight;
}

/** Say what has happened, in the place of what the keys do. */
function say(text) {
  find("said").textContent = text;
  find("keys").hidden = text !== "";
}

function drawGhost(text) {
  ghost = text;
  find("typed").textContent = box.value;
  find("ghost").textContent = `${text}\u200b`; // so that an empty last line has its height
  find("take").disabled = !text;
  find("inside").hidden = !isInside();
  document.querySelector("#keys .keyboard").hidden = isInside();
  clearTimeout(speaking); // a screen reader hears the grey text when the typing rests
  if (!text || document.activeElement !== box) return;
  speaking = setTimeout(() => (find("spoken").textContent = `goes on: ${text}`), 1200);
}

/** Draw what follows the text; nothing while the cursor is inside it. */
function drawGhostOf(state) {
  drawGhost(dismissed || isInside() ? "" : model.continuation(state, GHOST, room(), chosen.alpha, source()).text);
}

/** Say what of the box the model does not read as it is. */
function drawUnread() {
  const unknown = model.unknown(box.value), more = unknown.length > MOST_NAMED ? " …" : "";
  const named = unknown.slice(0, MOST_NAMED).map(shown).join(" ");
  const spaced = run.kind === "letters" ? new Set(box.value.replace(/[A-Za-z\s]/g, "")) : new Set();
  find("spaces").hidden = !spaced.size;
  find("spaces").textContent = `${[...spaced].slice(0, MOST_NAMED).join(" ")}: the model reads a space instead.`;
  find("unknown").hidden = !(unknown.length && box.value);
  find("unknown").textContent =
    `The vocabulary has no ${named}${more}: the model reads <unk>, and bits and P are those of <unk>.`;
  find("empty").hidden = box.value !== "";
}

/** Return a text that the model draws after a line break: where to begin in a script that no example is in. */
function ownText() {
  const [lineBreak] = model.indices("\n");
  return model.continuation(model.step(null, lineBreak), GHOST, room(), 1, uniform(0)).text;
}

function listenToText() {
  box.addEventListener("input", () => {
    dismissed = false;
    say(room() ? "" : FULL);
    update();
  });
  box.addEventListener("keydown", (event) => {
    if (event.isComposing || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey || !ghost) return;
    if (event.key === "Tab") {
      event.preventDefault();
      write(ghost);
    } else if (event.key === "Escape") {
      dismissed = true;
      drawGhost("");
    }
  });
  document.addEventListener("selectionchange", () => {
    if (document.activeElement !== box || reading.known < reading.characters.length) return;
    if (isInside() === find("inside").hidden) draw(); // also where the place is the same
    choose(caret());
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.matches("textarea, input")) return;
    event.preventDefault(); // the button that was clicked has the focus, and nothing to undo
    const focused = document.activeElement;
    box.focus({ preventScroll: true });
    document.execCommand(event.shiftKey ? "redo" : "undo");
    focused.focus({ preventScroll: true });
  });
  find("take").addEventListener("click", () => write(ghost));
  find("more").addEventListener("click", writeMore);
  for (const button of document.querySelectorAll(".example")) {
    if (model.bytePairs) button.dataset.text = button.dataset.text.trimEnd(); // a space is part of the token after it
    button.hidden = model.unknown(button.dataset.text).length > 0;
    button.addEventListener("click", () => {
      write(button.dataset.text, 0, box.value.length);
      if (button.dataset.forget) forgetBefore(Number(button.dataset.forget));
    });
  }
  document.addEventListener("keydown", ({ target, key, ctrlKey, metaKey, altKey }) => {
    if (target === document.body && key.length === 1 && key !== " " && !ctrlKey && !metaKey && !altKey) {
      box.focus({ preventScroll: true }); // the key then goes there
    }
  });
  const first = model.bytePairs ? FIRST.trimEnd() : FIRST;
  box.value = model.unknown(first).length ? ownText() : first;
}

function writeMore() {
  reading.advance();
  const before = typed, found = model.continuation(reading.states[last()], MORE, room(), chosen.alpha, source());
  const how = chosen.alpha === null ? "each the likeliest" : `α ${chosen.alpha}`;
  const seed = chosen.alpha === null ? "" : `, seed ${chosen.seed}`, count = found.tokens.length;
  write(found.text);
  let said = count ? `${counted(count)} written at the end, ${how}${seed}.` : FULL;
  // As tokens, the text may be read in another way than it was written.
  const isReadSo = [...before, ...found.tokens].every((token, t) => token === typed[t]);
  if (found.repeats !== null && isReadSo) {
    chosen.repeats = chosen.place = last() - count + found.repeats; // chosen, so that it is seen
    said += ` At the marked ${noun} the state is the same as ${counted(found.period)} before: from here the text repeats.`;
  }
  say(said);
  draw();
}

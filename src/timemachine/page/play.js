// Play: read the text one token at a time.

const BEAT = 600; // ms per token
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const play = { on: false, blank: false, timer: 0 }; // blank: nothing after the chosen token is drawn

/** Return the number of tokens whose states are drawn. */
const horizon = () => (play.blank ? at() : last()) + 1;

/** Show the token at t and its state, and nothing after it. */
function showUpTo(t) {
  chosen.place = t;
  play.blank = t < last();
  if (!play.blank) pause();
  work();
}

/** Stop at the current token; the tokens after it stay blank. */
function pause() {
  clearInterval(play.timer);
  play.on = false;
}

function togglePlay() {
  if (play.on) return [pause(), work()];
  if (training.on) pauseTraining();
  play.on = true;
  play.timer = setInterval(() => showUpTo(at() + 1), BEAT);
  showUpTo(at() === last() ? 0 : at() + 1); // from the beginning
}

function drawPlay() {
  find("play").textContent = play.on ? "❙❙ Pause" : "▶\ufe0e Play";
  find("back").disabled = at() === 0;
  find("forth").disabled = at() === last();
}

find("play").addEventListener("click", togglePlay);
for (const [name, step] of [["back", -1], ["forth", 1]]) find(name).addEventListener("click", () => [pause(), showUpTo(at() + step)]);
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || !event.target.matches("body, .strip, .map")) return;
  togglePlay();
  event.preventDefault();
});

// The state of the page as a link: the text, the chosen token, the saved epoch or the experiment, its settings and the
// number of updates. The part after # is never sent. A link may come from anyone, so each value is checked.

const MAX_SHARED = 2000; // characters of an own training text in a link

/** Return the groups of settings with their fields and the beginnings of their names in a link. */
const groupsOf = ({ networks, data }) =>
  [...networks.map((network, place) => [network, NETWORK, `${place}.`]), [data, DATA, "data."]];

/** Return the state of the page as the part of a link after #. */
function linkOf() {
  const { settings, update } = training, { epoch } = run.epochs[chosen.epoch], own = find("own").value;
  const state = new URLSearchParams({ text: box.value, at: at(), networks: settings.networks.length });
  for (const [group, fields, beginning] of groupsOf(settings)) {
    for (const [name, { book }] of Object.entries(fields)) if (group[name] !== book) state.set(beginning + name, group[name]);
  }
  if (chosen.network !== null) state.set("network", chosen.network);
  else if (epoch !== null) state.set("epoch", epoch);
  if (update) state.set("trained", update);
  if (settings.data.text === "own" && own.length <= MAX_SHARED) state.set("own", own);
  return state;
}

/** Return the settings of a link; those that it lacks or that are not valid are the book's. */
function settingsFrom(state) {
  const settings = settingsOf({ networks: state.get("networks") === "2" ? [{}, {}] : [{}] });
  for (const [group, fields, beginning] of groupsOf(settings)) {
    for (const [name, { values, accepts }] of Object.entries(fields)) {
      const typed = state.get(beginning + name), value = values ? typed : Number(typed || NaN);
      if (accepts(value)) group[name] = value;
    }
  }
  return settings;
}

/** Show the state of the page's address, and train up to its update. Return whether it has one. */
function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  const whole = (name, accepts) => [Number(state.get(name) || NaN)].find((value) => Number.isInteger(value) && accepts(value));
  if (!state.has("text")) return false;
  box.value = state.get("text").slice(0, box.maxLength);
  find("own").value = (state.get("own") ?? "").slice(0, MAX_SHARED);
  const settings = settingsFrom(state), isSame = (other) => JSON.stringify(settingsOf(other)) === JSON.stringify(settings);
  setUp(run.experiments.find(isSame) ?? null, settings);
  const epoch = run.epochs.findIndex((saved) => saved.epoch === Number(state.get("epoch") ?? NaN));
  showEpoch(epoch >= 0 ? epoch : run.epochs.length - 1);
  update();
  reading.advance();
  choose(whole("at", (t) => t >= 0 && t <= last()) ?? last());
  const trained = whole("trained", DATA.updates.accepts), network = whole("network", (place) => place in settings.networks);
  if (network !== undefined) chosen.network = network;
  if (trained) train(trained);
  return true;
}

/** Copy a text and say so; browsers may refuse it, for a page from a file also without `navigator.clipboard`. */
async function copy(text, copied, refused) {
  const isCopied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  find("copied").textContent = isCopied ? copied : refused;
}

addEventListener("hashchange", restore);
find("copy").addEventListener("click", () => {
  const isCut = training.settings.data.text === "own" && find("own").value.length > MAX_SHARED;
  const trained = training.update ? `, and trains ${grouped(training.update)} updates again` : "";
  const lacks = isCut ? ` It lacks your training text, which has more than ${grouped(MAX_SHARED)} characters.` : "";
  const said = `restores text and settings${trained}.${lacks}`;
  history.replaceState(null, "", `#${linkOf()}`);
  copy(location.href, `Copied: ${said}`, `In the address bar: ${said}`);
});
find("copy-command").addEventListener("click", () =>
  copy(find("command").textContent, "Copied.", "Select the command and copy it."));
const [, owner] = /^([\w-]+)\.github\.io$/.exec(location.hostname) ?? []; // the code's address on GitHub Pages
find("code").hidden = !owner;
if (owner) find("code").href = `https://github.com/${owner}/${location.pathname.split("/")[1] || location.hostname}`;

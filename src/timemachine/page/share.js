// The state of the page as a link: the text, the chosen token, the saved epoch or the experiment, its settings and the
// number of updates. The part after # is never sent. A link may come from anyone, so each value is checked.

const MAX_SHARED = 2000; // characters of an own training text in a link

/** Return the groups of settings with their fields and the beginnings of their names in a link. */
const groupsOf = ({ networks, data }) =>
  [...networks.map((network, place) => [network, NETWORK, `${place}.`]), [data, DATA, "data."]];

/** Return the state of the page as the part of a link after #. */
function linkOf() {
  const { experiment, settings, update } = training, { epoch } = run.epochs[chosen.epoch], own = find("own").value;
  const state = new URLSearchParams({ text: box.value, at: at(), experiment: experiment ?? "book" });
  if (chosen.network !== null) state.set("network", chosen.network);
  else if (epoch !== null) state.set("epoch", epoch);
  state.set("networks", settings.networks.length);
  for (const [group, fields, beginning] of groupsOf(settings)) {
    for (const [name, { book }] of Object.entries(fields)) {
      if (group[name] !== book || !experiment) state.set(beginning + name, group[name]);
    }
  }
  if (update) state.set("trained", update);
  if (settings.data.text === "own" && own.length <= MAX_SHARED) state.set("own", own);
  return state;
}

/** Return the settings of a link; those that it lacks or that are not valid are the book's. */
function settingsFrom(state) {
  const settings = settingsOf({ networks: state.get("networks") === "2" ? [{}, {}] : [{}], data: {} });
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
  const state = new URLSearchParams(location.hash.slice(1)), whole = (name) => Number(state.get(name) || NaN);
  if (!state.has("text")) return false;
  box.value = state.get("text").slice(0, box.maxLength);
  find("own").value = (state.get("own") ?? "").slice(0, MAX_SHARED);
  const name = Object.hasOwn(EXPERIMENTS, state.get("experiment") ?? "") ? state.get("experiment") : "book";
  const settings = settingsFrom(state), isSame = JSON.stringify(settings) === JSON.stringify(settingsOf(EXPERIMENTS[name]));
  setUp(isSame ? name : null, settings);
  update();
  const epoch = run.epochs.findIndex((saved) => saved.epoch === whole("epoch"));
  if (epoch >= 0) showEpoch(epoch);
  reading.advance();
  if (Number.isInteger(whole("at")) && whole("at") >= 0 && whole("at") <= last()) choose(whole("at"));
  if (Number.isInteger(whole("trained")) && DATA.updates.accepts(whole("trained"))) {
    if (state.has("network")) chosen.network = Math.min(whole("network") || 0, settings.networks.length - 1);
    train(whole("trained"));
  }
  return true;
}

addEventListener("hashchange", restore);
find("copy").addEventListener("click", async () => {
  const isCut = training.settings.data.text === "own" && find("own").value.length > MAX_SHARED;
  history.replaceState(null, "", `#${linkOf()}`);
  const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  const trained = training.update ? `, and trains ${training.update.toLocaleString("en")} updates again` : "";
  const lacks = isCut ? ` It lacks your training text, which has more than ${MAX_SHARED} characters.` : "";
  find("copied").textContent = `${isCopied ? "Copied" : "In the address bar"}: the link restores text and settings${trained}.${lacks}`;
});
find("copy-command").addEventListener("click", async () => {
  const isCopied = await navigator.clipboard?.writeText(find("command").textContent).then(() => true, () => false);
  find("command-copied").textContent = isCopied ? "Copied." : "Select the command and copy it.";
});
const [, owner] = /^([\w-]+)\.github\.io$/.exec(location.hostname) ?? []; // the code's address on GitHub Pages
find("code").hidden = !owner;
if (owner) find("code").href = `https://github.com/${owner}/${location.pathname.split("/")[1] || location.hostname}`;

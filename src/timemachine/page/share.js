// The state of the page as a link: the text, the chosen token, the saved epoch or the experiment, its settings and the
// number of updates. The part after # is never sent. A link may come from anyone, so each value is checked.

const MAX_SHARED = 2000; // characters of an own training text in a link

/** Return the groups of settings with their fields and the beginnings of their names in a link. */
const groupsOf = ({ networks, data }) =>
  [...networks.map((network, place) => [network, NETWORK, `${place}.`]), [data, DATA, "data."]];

/** Return the state of the page as the part of a link after #. */
function linkOf() {
  const { settings } = training, update = reached(), { epoch } = run.epochs[chosen.epoch], own = find("own").value;
  const state = new URLSearchParams({ text: cut(box.value, box.maxLength), at: at(), networks: settings.networks.length });
  if (chosen.alpha !== 2) state.set("alpha", chosen.alpha ?? "greedy");
  if (chosen.seed) state.set("seed", chosen.seed);
  for (const [group, fields, beginning] of groupsOf(settings)) {
    for (const [name, field] of Object.entries(fields)) {
      if (group[name] !== valueOf(field)) state.set(beginning + name, group[name]);
    }
  }
  if (chosen.network !== null) state.set("network", chosen.network);
  else if (epoch !== null) state.set("epoch", epoch);
  if (update) state.set("trained", Math.min(update, DATA.updates.max));
  views.forEach(({ unit }, place) => unit === null || state.set(`${place}.unit`, unit));
  if (find("sorted").checked) state.set("sorted", 1);
  if (settings.data.text === "own" && own.length <= MAX_SHARED) state.set("own", own);
  return state;
}

/** Return the value of a setting in a link; undefined if the field does not accept it. */
function accepted(field, text) {
  const copy = document.importNode(field, true);
  copy.value = text ?? "";
  return copy.value && copy.validity.valid ? valueOf(copy) : undefined; // an option that does not exist leaves no value
}

/** Return the settings of a link; those that it lacks or that are not valid are the book's. */
function settingsFrom(state) {
  const number = ["1", "2", "3"].indexOf(state.get("networks")), networks = Array.from({ length: Math.max(0, number) + 1 }, () => ({}));
  const settings = settingsOf({ networks });
  for (const [group, fields, beginning] of groupsOf(settings)) {
    for (const [name, field] of Object.entries(fields)) {
      group[name] = accepted(field, state.get(beginning + name)) ?? group[name];
    }
  }
  return settings;
}

/** Show the state of the page's address, and train up to its update. Return whether it has one. */
function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  if (!state.has("text")) return false;
  box.value = cut(state.get("text"), box.maxLength);
  find("own").value = cut(state.get("own") ?? "", MAX_SHARED);
  const settings = settingsFrom(state), isSame = (other) => JSON.stringify(settingsOf(other)) === JSON.stringify(settings);
  setUp(run.experiments.find(isSame) ?? null, settings);
  training.isRestored = true;
  const epoch = run.epochs.findIndex((saved) => saved.epoch === Number(state.get("epoch") ?? NaN));
  showEpoch(epoch >= 0 ? epoch : run.epochs.length - 1);
  reading.advance();
  find(state.get("alpha") === "greedy" ? "greedy" : "drawn").checked = true;
  find("alpha").value = state.get("alpha") ?? find("alpha").defaultValue;
  find("seed").value = accepted(find("seed"), state.get("seed")) ?? 0;
  find("choice").dispatchEvent(new Event("input"));
  find("sorted").checked = state.has("sorted");
  VIEWS.forEach((view, place) => (view.unit = /^\d{1,4}$/.test(state.get(`${place}.unit`)) ? Number(state.get(`${place}.unit`)) : null));
  choose(state.has("at") ? Math.trunc(state.get("at")) || 0 : last());
  const trained = accepted(DATA.updates, state.get("trained")), network = ["0", "1", "2"].indexOf(state.get("network"));
  if (!trained) return true;
  if (network in settings.networks) chosen.network = network;
  train(trained);
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
  const update = Math.min(reached(), DATA.updates.max);
  const trained = update ? `, and trains ${grouped(update)} updates again` : "";
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

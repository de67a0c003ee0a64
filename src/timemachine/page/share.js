// The state of the page as a link: the text, the chosen token, and the epoch. The part after # is never sent.

/** Show the state of the page's address. Return whether it has one. */
function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  if (!state.has("text")) return false;
  const place = run.epochs.findIndex(({ epoch }) => epoch === Number(state.get("epoch") ?? NaN));
  box.value = state.get("text").slice(0, box.maxLength);
  update();
  if (place >= 0) showEpoch(place);
  reading.advance();
  const t = Number(state.get("at") ?? NaN);
  if (Number.isInteger(t) && t >= 0 && t <= last()) choose(t);
  return true;
}

addEventListener("hashchange", restore);
find("copy").addEventListener("click", async () => {
  const state = new URLSearchParams({ text: box.value, at: at() }), { epoch } = run.epochs[chosen.epoch] ?? {};
  if (epoch != null) state.set("epoch", epoch);
  history.replaceState(null, "", `#${state}`);
  const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  const shows = chosen.epoch === null ? "; the link shows the saved network." : ".";
  find("copied").textContent = (isCopied ? "Copied" : "It is in the address bar") + shows;
});
const [, owner] = /^([\w-]+)\.github\.io$/.exec(location.hostname) ?? []; // the code's address on GitHub Pages
find("code").hidden = !owner;
if (owner) find("code").href = `https://github.com/${owner}/${location.pathname.split("/")[1] || location.hostname}`;

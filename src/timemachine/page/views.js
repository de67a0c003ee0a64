// The views of the networks that read the text, one above the other: strip, map and next tokens of each.

const VIEWS = Array.from({ length: 3 }, createView);
let views = []; // those that are shown; one of them has `model` and `reading`

/** Return a view without a model, hidden. unit: the chosen one, or null. heatStart: the first token in its map. */
function createView(_, place) {
  const element = find("view").content.firstElementChild.cloneNode(true), part = (name) => element.querySelector(name);
  const view = { element, unit: null, heatStart: 0, order: [], model: null, reading: null };
  for (const name of ["name", "strip", "map", "labels", "next", "after", "bars", "inspected", "total", "continues"]) view[name] = part(`.${name}`);
  Object.assign(view, { canvas: part("canvas"), row: part(".unit"), range: part(".most") });
  Object.assign(element, { hidden: true, className: `view network-${place}` });
  view.after.id = `after-${place}`;
  view.bars.setAttribute("aria-labelledby", view.after.id);
  find("views").append(element);
  return view;
}

/** Show networks, by their names; the text is read again by those that are new. The one at `front` continues it. */
function showViews(models, names, front) {
  views = VIEWS.slice(0, models.length);
  VIEWS.forEach(({ element }, place) => (element.hidden = place >= models.length));
  views.forEach((view, place) => {
    Object.assign(view.name, { textContent: names[place], hidden: models.length === 1 });
    view.strip.ariaLabel = `It reads: ${names[place]}`;
    view.map.ariaLabel = `Unit of ${names[place]}: row of the map`;
    if (view.model === models[place]) return;
    Object.assign(view, { model: models[place], reading: new Reading(models[place]) });
    view.reading.take(box.value);
    if (view.unit >= view.model.numUnits) view.unit = null;
  });
  ({ model, reading } = views[front]);
}

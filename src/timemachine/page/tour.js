// A tour of four steps down the page, which Escape or a button ends; and the wall mode, for a large screen in a room.

const tour = find("tour"), texts = [...tour.querySelectorAll("[data-about]")];
const sectionOf = (text) => find(text.dataset.about).closest("section, #views");
let stop = 0, stops = texts;

/** Start the tour: on a narrow page, whose sections have another order, from top to bottom. */
function startTour() {
  const topOf = (text) => sectionOf(text).getBoundingClientRect().top;
  stops = innerWidth < 960 ? [...texts].sort((a, b) => topOf(a) - topOf(b)) : texts;
  showStop(0);
}

function showStop(place) {
  document.querySelector(".toured")?.classList.remove("toured");
  if (place === stops.length) return tour.close();
  stop = place;
  texts.forEach((text) => (text.hidden = text !== stops[place]));
  find("tour-place").textContent = `${place + 1} of ${stops.length}`;
  find("tour-next").textContent = place === stops.length - 1 ? "Done" : "Next";
  const section = sectionOf(stops[place]);
  section.classList.add("toured");
  section.scrollIntoView({ block: "nearest" });
  if (!tour.open) tour.show();
  find("tour-next").focus({ preventScroll: true });
}

/** Show strip, curves and letters at twice their size, and hide settings and texts; or show the page again. */
function toggleWall() {
  const isWall = !document.body.classList.contains("wall") && innerWidth >= 960;
  find("wall").ariaPressed = `${document.body.classList.toggle("wall", isWall)}`;
  work();
  drawCurves();
}

find("wall").addEventListener("click", toggleWall);
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (key === "w" && !ctrlKey && !metaKey && !altKey && !target.matches("textarea, input, select")) toggleWall();
});
find("start-tour").addEventListener("click", startTour);
find("tour-next").addEventListener("click", () => showStop(stop + 1));
find("tour-leave").addEventListener("click", () => showStop(stops.length));
tour.addEventListener("keydown", ({ key }) => key === "Escape" && showStop(stops.length));

// A tour of four steps, which Escape or a button ends.

const tour = find("tour"), stops = tour.querySelectorAll("[data-about]");
let stop = 0;

function showStop(place) {
  document.querySelector(".toured")?.classList.remove("toured");
  if (place === stops.length) return tour.close();
  stop = place;
  stops.forEach((text, other) => (text.hidden = other !== place));
  find("tour-place").textContent = `${place + 1} of ${stops.length}`;
  find("tour-next").textContent = place === stops.length - 1 ? "Done" : "Next";
  const section = find(stops[place].dataset.about).closest("section");
  section.classList.add("toured");
  section.scrollIntoView({ block: "nearest" });
  if (!tour.open) tour.show();
  find("tour-next").focus({ preventScroll: true });
}

find("start-tour").addEventListener("click", () => showStop(0));
find("tour-next").addEventListener("click", () => showStop(stop + 1));
find("tour-leave").addEventListener("click", () => showStop(stops.length));
tour.addEventListener("keydown", ({ key }) => key === "Escape" && showStop(stops.length));

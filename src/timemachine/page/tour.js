// A tour of four steps, which Escape or a button ends.

const STOPS = [
  ["h-text", "Type here. The network continues your text in grey: it predicts one letter after the other."],
  ["h-read", "The darker the orange, the more a letter surprised it. Below: its hidden units, the only memory it has of the text."],
  ["h-learn", "Train starts from random weights. The curves fall while it learns, and the grey text becomes words."],
  ["experiments", "Each button is an experiment. RNN against GRU trains two networks on the same text, side by side."],
];
const tour = find("tour");
let stop = 0;

function showStop(place) {
  stop = place;
  document.querySelector(".toured")?.classList.remove("toured");
  if (!STOPS[place]) return tour.close();
  const [id, text] = STOPS[place], section = find(id).closest("section");
  find("tour-said").textContent = text;
  find("tour-place").textContent = `${place + 1} of ${STOPS.length}`;
  find("tour-next").textContent = place === STOPS.length - 1 ? "Done" : "Next";
  section.classList.add("toured");
  section.scrollIntoView({ block: "nearest" });
  if (!tour.open) tour.show();
  find("tour-next").focus({ preventScroll: true });
}

find("start-tour").addEventListener("click", () => showStop(0));
find("tour-next").addEventListener("click", () => showStop(stop + 1));
find("tour-leave").addEventListener("click", () => showStop(STOPS.length));
tour.addEventListener("keydown", ({ key }) => key === "Escape" && showStop(STOPS.length));

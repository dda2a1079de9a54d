// Before the first paint: the chosen theme. After it: the keys of lists, and the words of the graphs' tooltips.
const root = document.documentElement;
const THEMES = ["system", "light", "dark"];

function useTheme(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
}

function savedTheme() {
  try {
    return THEMES.includes(localStorage.theme) ? localStorage.theme : "system";
  } catch {
    return "system"; // storage is forbidden: the choice lasts for this page
  }
}

function saveTheme(theme) {
  try {
    localStorage.theme = theme;
  } catch {
    return;
  }
}

useTheme(savedTheme());

document.addEventListener("change", ({ target }) => {
  if (target.name !== "theme") return;
  useTheme(target.value);
  saveTheme(target.value);
});

new MutationObserver(() => {
  const choice = document.querySelector(`input[name=theme][value=${root.dataset.theme ?? "system"}]`);
  if (choice && !choice.checked) choice.checked = true;
}).observe(root, { childList: true, subtree: true });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input:not([type=checkbox],[type=radio]), select, textarea");
  const search = document.querySelector("[data-hotkey='/']");
  if (event.key === "/" && !typing && search) {
    event.preventDefault();
    search.focus();
    search.select();
  }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") step(event, event.key === "ArrowDown" ? 1 : -1);
});

// From one row's link to the next; from the search box into the list.
function step(event, by) {
  const links = [...document.querySelectorAll("[data-row]")];
  const at = links.indexOf(event.target);
  const from = event.target.dataset?.hotkey && by > 0 ? -1 : at;
  if (!links.length || (at < 0 && from !== -1) || (at < 0 && !event.target.dataset?.hotkey)) return;
  const next = links[from + by];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

// ECharts asks for nodes, not for HTML: what is in a name or a number stays text.
const clock = new Intl.DateTimeFormat("en-GB", {
  weekday: "short",
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

let pointer = null;
for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => (pointer = event), { capture: true, passive: true });
}

// The time under the pointer: each series tells of its own nearest point, which may be far away.
function pointedAt() {
  const graph = pointer?.target.closest?.(".graph");
  const chart = graph && window.getElement?.(graph.id.slice(1))?.chart;
  return chart?.convertFromPixel({ xAxisIndex: 0 }, pointer.clientX - graph.getBoundingClientRect().left);
}

window.companionTooltip = (points) => {
  const there = pointedAt();
  const near = points
    .filter(({ value: [at, , , reach] }) => !(reach && Math.abs(at - there) > reach))
    .sort((one, other) => one.seriesIndex - other.seriesIndex);
  const box = document.createElement("div");
  box.className = "tooltip";
  const line = (text, cls) => {
    const row = box.appendChild(document.createElement("div"));
    row.className = cls;
    row.textContent = text;
  };
  const [time] = (near.find(({ value }) => !value[3]) ?? points[0]).value;
  line(clock.format(new Date(time)), "tooltip-time");
  for (const { value, seriesName } of near) {
    const said = value[2] ?? value[1];
    if (said !== null && said !== "") line(`${seriesName} ${said}`, "tooltip-line");
  }
  return box;
};

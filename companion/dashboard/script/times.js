// Times as a person says them, in the zone of the browser.
const UNITS = [
  [86400, "day", "d"],
  [3600, "hour", "h"],
  [60, "minute", "min"],
  [1, "second", "s"],
];
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export function say(at, style, now) {
  if (Number.isNaN(at.getTime())) return "–";
  if (style === "clock") return clock(at, now);
  if (style === "exact") return `${CLOCK.format(at)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  if (style === "date") return `${DAY.format(at)} ${CLOCK.format(at)}`;
  if (style === "brief") return distance(at, now, true);
  const said = distance(at, now, false);
  return style === "moment" ? `${said} (${clock(at, now)})` : said;
}

export function utc(at) {
  return Number.isNaN(at.getTime()) ? "" : `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function clock(at, now) {
  const today = DAY.format(at) === DAY.format(new Date(now));
  return today ? CLOCK.format(at) : `${DAY.format(at)} ${CLOCK.format(at)}`;
}

function distance(at, now, brief) {
  const seconds = Math.round((now - at.getTime()) / 1000);
  const length = Math.abs(seconds);
  if (length < 1) return brief ? "now" : "just now";
  const [size, name, short] = UNITS.find(([size]) => length >= size);
  const count = Math.floor(length / size);
  const said = brief ? `${count} ${short}` : `${count} ${name}${count === 1 ? "" : "s"}`;
  if (seconds < 0) return `in ${said}`;
  return brief ? said : `${said} ago`;
}

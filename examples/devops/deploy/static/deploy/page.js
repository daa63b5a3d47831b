/* The page of one service: connects the two sockets with what is on the screen. */

import { LiveSocket } from "./live-socket.js";

const SIGNED_OUT = 4401;
const NO_SUCH_SERVICE = 4404;
const MOST_LINES = 1000;
const MOST_NOTIFICATIONS = 12;
const PING_EVERY = 5_000;

const byId = (id) => document.getElementById(id);
const uid = document.querySelector("main").dataset.uid;
const pane = byId("deploy-res");

const log = new LiveSocket(`/ws/deploy/${encodeURIComponent(uid)}/`, [SIGNED_OUT, NO_SUCH_SERVICE]);
const notifications = new LiveSocket("/ws/notifications/", [SIGNED_OUT]);
const sockets = [log, notifications];

/* --- connection state ------------------------------------------------------------------- */

const VERDICTS = {
  [SIGNED_OUT]: "Signed out: reload the page to log in",
  [NO_SUCH_SERVICE]: "This service no longer exists",
};
let verdict = "";
let lostAt = 0;

function showConnection({ detail }) {
  const states = sockets.map((socket) => socket.state);
  const state = states.includes("closed") ? "closed" : states.includes("connecting") ? "connecting" : "open";
  const pill = byId("connection");
  if (pill.dataset.state === "open" && state !== "open") lostAt = Date.now();
  pill.dataset.state = state;
  verdict = VERDICTS[detail.code] ?? verdict;
  if (detail.code === SIGNED_OUT) sockets.forEach((socket) => socket.stop());
  byId("connection-text").textContent =
    verdict || (state === "open" ? "Live" : lostAt ? "Reconnecting" : "Connecting");
  if (state === "open" && lostAt) {
    const text = `connected again after ${duration(Date.now() - lostAt)}; notes of that time are not shown`;
    addLine({ level: "gap", text });
    lostAt = 0;
  }
}

function duration(milliseconds) {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

/* --- log pane ----------------------------------------------------------------------------- */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function addLine({ level, text, author, at, step }) {
  const atEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 40;
  const line = element("li", level);
  const when = at ? new Date(at) : new Date();
  const time = element("time", "", clock.format(when));
  time.dateTime = when.toISOString();
  line.append(time);
  if (step) line.append(element("b", "", String(step)));
  if (author) line.append(element("b", "", author));
  line.append(element("span", "", text));
  pane.append(line);
  while (pane.childElementCount > MOST_LINES) pane.firstElementChild.remove();
  // Follow the end, unless the reader has scrolled up to read something.
  if (atEnd) followEnd();
}

/** Scroll to the end, with as much room behind the last line as puts a whole line at the upper edge. */
function followEnd() {
  pane.style.paddingBottom = "";
  const hidden = pane.scrollHeight - pane.clientHeight;
  if (hidden > 0) {
    const edge = pane.getBoundingClientRect().top + pane.clientTop;
    const top = (line) => line.getBoundingClientRect().top - edge + pane.scrollTop;
    const first = [...pane.children].find((line) => top(line) >= hidden);
    const room = parseFloat(getComputedStyle(pane).paddingBottom);
    if (first) pane.style.paddingBottom = `${room + top(first) - hidden}px`;
  }
  pane.scrollTop = pane.scrollHeight;
}
addEventListener("resize", followEnd);

/* Lines of deployments have a run and a number; one that the pane has is not shown twice. */
let shown = { run: "", number: 0 };

function isNew({ run, number }) {
  if (!run) return true;
  if (run < shown.run || (run === shown.run && number <= shown.number)) return false;
  shown = { run, number };
  return true;
}

function showProgress({ level, text, step, steps, done }) {
  const bar = byId("progress");
  if (level === "start") {
    bar.value = 0;
    byId("step-text").textContent = "";
  }
  if (step) {
    bar.max = steps;
    bar.value = step - 1;
    byId("step-text").textContent = `${step} of ${steps}: ${text}`;
  }
  if (done) {
    bar.value = level === "ok" ? bar.max : 0;
    byId("step-text").textContent = level === "ok" ? "Done" : "Failed";
  }
}

log.addEventListener("state", showConnection);
log.addEventListener("message", ({ detail }) => {
  for (const line of detail.lines ?? [detail]) {
    if (!isNew(line)) continue;
    addLine(line);
    showProgress(line);
  }
});

/* --- services, badge, notifications ------------------------------------------------------- */

function showService(service) {
  for (const place of document.querySelectorAll(`[data-service="${CSS.escape(service.uid)}"]`)) {
    place.dataset.state = service.state;
    place.querySelector(".version").textContent = service.version;
    place.querySelector(".dot").title = service.label;
    const label = place.querySelector(".label");
    if (label) label.textContent = service.label;
  }
  if (service.uid !== uid) return;
  byId("deployed-at").dateTime = service.deployed_at ?? "";
  byId("deploy-button").textContent = service.state === "deploying" ? "Deploying…" : "Deploy";
  showAges();
}

function showUnread(count) {
  const badge = byId("unread");
  badge.textContent = String(count);
  badge.hidden = count === 0;
  byId("clear-unread").disabled = count === 0;
}

function showNotification({ service, text, at }) {
  const list = byId("notification-list");
  const link = element("a", "", text);
  link.href = `/services/${encodeURIComponent(service)}/`;
  const time = element("time");
  time.dateTime = at;
  const item = element("li");
  item.append(link, " ", time);
  list.prepend(item);
  while (list.childElementCount > MOST_NOTIFICATIONS) list.lastElementChild.remove();
  showAges();
}

const ages = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function age(when) {
  const seconds = Math.round((Date.parse(when) - Date.now()) / 1000);
  if (seconds > -45) return "just now";
  if (seconds > -3600) return ages.format(Math.round(seconds / 60), "minute");
  if (seconds > -86_400) return ages.format(Math.round(seconds / 3600), "hour");
  return ages.format(Math.round(seconds / 86_400), "day");
}

function showAges() {
  for (const time of document.querySelectorAll("#notification-list time, #deployed-at")) {
    time.textContent = time.dateTime ? age(time.dateTime) : "never";
    if (time.dateTime) time.title = new Date(time.dateTime).toLocaleString();
  }
}

notifications.addEventListener("state", showConnection);
notifications.addEventListener("message", ({ detail }) => {
  detail.services?.forEach(showService);
  if (detail.unread !== undefined) showUnread(detail.unread);
  if (detail.notification) showNotification(detail.notification);
  if (detail.http_version) showProtocols(detail.http_version);
  if (detail.pong !== undefined) showRoundTrip(performance.now() - detail.pong);
});

/* --- how page and server talk --------------------------------------------------------------- */

const PROTOCOLS = { "http/1.0": "HTTP/1.0", "http/1.1": "HTTP/1.1", h2: "HTTP/2" };

function showProtocols(version) {
  const [entry] = performance.getEntriesByType("navigation");
  const page = PROTOCOLS[entry?.nextHopProtocol] ?? "HTTP";
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const text = `${page}, ${scheme}${version === "2" ? " over HTTP/2" : ""}`;
  for (const place of document.querySelectorAll(".protocols")) place.textContent = text;
}

function ping() {
  if (document.visibilityState === "visible") notifications.send({ action: "ping", sent: performance.now() });
}

function showRoundTrip(milliseconds) {
  byId("round-trip").hidden = false;
  byId("round-trip").textContent = `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}

notifications.addEventListener("state", ({ detail }) => {
  if (detail.state === "open") ping();
  else byId("round-trip").hidden = true;
});
setInterval(ping, PING_EVERY);

byId("clear-unread").addEventListener("click", () => notifications.send({ action: "clear" }));

/* --- what the user does ------------------------------------------------------------------- */

async function deploy(form) {
  const response = await fetch(form.action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new FormData(form),
  });
  if (response.redirected) {
    location.reload(); // the session has ended: the login page will ask
  } else if (!response.ok) {
    const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
    throw new Error(isJson ? (await response.json()).error : `the server answered ${response.status}`);
  }
}

byId("deploy-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = byId("deploy-button");
  button.disabled = true;
  try {
    await deploy(event.target);
  } catch (error) {
    addLine({ level: "error", text: `Could not deploy: ${error.message}` });
  } finally {
    button.disabled = false;
  }
});

byId("note-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = byId("note");
  if (log.send({ message: input.value })) input.value = "";
  else addLine({ level: "error", text: "Not sent: there is no connection at the moment" });
});

/* A click elsewhere, or Escape, closes the notifications. */
const sheet = byId("notifications");
document.addEventListener("click", (event) => {
  if (!sheet.contains(event.target)) sheet.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") sheet.open = false;
});

/* A page in the back/forward cache must not hold connections. */
addEventListener("pagehide", () => sockets.forEach((socket) => socket.stop()));
addEventListener("pageshow", () => sockets.forEach((socket) => socket.start()));

/* On a narrow screen the list is a row that scrolls. */
document.querySelector(".services [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

setInterval(showAges, 30_000);
showAges();

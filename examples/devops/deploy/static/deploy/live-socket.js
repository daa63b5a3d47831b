/*
 * A WebSocket that comes back.
 *
 * After a lost connection it waits a random time below a bound that doubles with every
 * failure, so that the pages of a restarted server do not all return in the same instant.
 * It tries at once when the machine goes online again or the page becomes visible.
 *
 * Events: "state" (detail: {state, wait}) and "message" (detail: the parsed JSON).
 * States: "connecting", "open", "closed" (wait: milliseconds until the next attempt, or null
 * if there will be none because the server said so with one of `finalCodes`).
 */

const FIRST_BOUND = 500;
const LONGEST_BOUND = 10_000;
const OPEN_TIMEOUT = 10_000;
// A connection that lived this long counts as a success and resets the bound.
const STABLE = 3_000;

export class LiveSocket extends EventTarget {
  state = "closed";
  #url;
  #finalCodes;
  #socket = null;
  #failures = 0;
  #openedAt = 0;
  #retryTimer = 0;
  #openTimer = 0;
  #stopped = true;

  constructor(path, finalCodes = []) {
    super();
    this.#url = new URL(path, location.href);
    this.#url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#finalCodes = finalCodes;
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#retryNow();
    });
  }

  start() {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#connect();
  }

  /** Close for good: no further attempt until start() is called again. */
  stop() {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#openTimer);
    if (!this.#socket) return;
    // Its close event may come after a new start(): it must not be taken for the new one's.
    this.#socket.onclose = null;
    this.#socket.close(1000);
    this.#socket = null;
    this.#become("closed");
  }

  /** Returns false, and sends nothing, while there is no connection. */
  send(data) {
    if (this.state !== "open") return false;
    this.#socket.send(JSON.stringify(data));
    return true;
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#become("connecting");
    this.#openTimer = setTimeout(() => socket.close(), OPEN_TIMEOUT);
    socket.onopen = () => {
      clearTimeout(this.#openTimer);
      this.#openedAt = performance.now();
      this.#become("open");
    };
    socket.onmessage = (event) => {
      this.dispatchEvent(new CustomEvent("message", { detail: JSON.parse(event.data) }));
    };
    socket.onclose = (event) => this.#onClose(event.code);
  }

  #onClose(code) {
    clearTimeout(this.#openTimer);
    this.#socket = null;
    if (this.#openedAt && performance.now() - this.#openedAt > STABLE) this.#failures = 0;
    this.#openedAt = 0;
    if (this.#finalCodes.includes(code)) this.#stopped = true;
    if (this.#stopped) {
      this.#become("closed", null, code);
      return;
    }
    const bound = Math.min(LONGEST_BOUND, FIRST_BOUND * 2 ** this.#failures);
    const wait = bound / 2 + (Math.random() * bound) / 2;
    this.#failures += 1;
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
    this.#become("closed", wait, code);
  }

  #retryNow() {
    if (this.#stopped || this.#socket) return;
    clearTimeout(this.#retryTimer);
    this.#connect();
  }

  #become(state, wait = null, code = null) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, wait, code } }));
  }
}

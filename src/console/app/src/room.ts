// What is so in a room: keyed state, announced events and running one-shots, as a fold over its events.
//
// The fold gives the same whatever the order and number of what comes in: the last write of a key wins by `seq`,
// and what is gone leaves a mark, so that a late copy can't bring it back.

import { hasExpired, hasFired, isRunning, type LiveEvent, type Moment, type Snapshot } from "./event";

const EVENTS_MAX = 1024;
const MARKS_MAX = 1024;

/** The events of one source that still matter. */
export class Room {
  /** By seq. */
  #events = new Map<number, LiveEvent>();
  readonly #deleted = new Map<string, number>();
  readonly #dropped = new Map<string, number>();

  /** Takes an event, whether its time has come or not. A cancellation works at once. */
  apply(event: LiveEvent): void {
    const at_ms = event.time.wall_ms ?? Infinity;
    for (const id of stopped(event)) this.#drop(id, at_ms);
    const dropped_ms = this.#dropped.get(event.id);
    if (dropped_ms === undefined) this.#events.set(event.seq, event);
    else this.#deleteKey(event, dropped_ms);
    if (this.#events.size > EVENTS_MAX) this.#events.delete(Math.min(...this.#events.keys()));
  }

  /** Takes a joiner's events for the truth: state that is not among them is gone, even if its end was missed. */
  replace(events: LiveEvent[], now: Moment, marks: Partial<Pick<Snapshot, "deleted" | "dropped">> = {}): void {
    // The sender is ahead of the screen: one-shots that are over for him may still have to come here.
    const due = this.coming(now).filter((event) => event.op === "fire" && event.time.mode === "pts");
    this.#events = new Map();
    for (const [key, seq] of Object.entries(marks.deleted ?? {})) this.#markDeleted(key, seq);
    for (const [id, at_ms] of Object.entries(marks.dropped ?? {})) this.#markDropped(id, at_ms);
    for (const event of [...due, ...events]) this.apply(event);
  }

  /** The events that have fired and are still known, oldest first. */
  fired(now: Moment): LiveEvent[] {
    return this.#sorted().filter((event) => hasFired(event, now) && !hasExpired(event, now));
  }

  /** The keyed state. */
  active(now: Moment): LiveEvent[] {
    const active = new Map<string, LiveEvent>();
    for (const event of this.#sorted()) {
      if (event.key === undefined || event.op === "fire" || !hasFired(event, now)) continue;
      const here = event.op === "set" && !hasExpired(event, now) && !this.#isDeleted(event);
      if (here) active.set(event.key, event);
      else active.delete(event.key);
    }
    return [...active.values()];
  }

  /** Events whose time is yet to come. */
  coming(now: Moment): LiveEvent[] {
    return this.#sorted().filter((event) => !hasFired(event, now) && !hasExpired(event, now));
  }

  /** One-shots that go on. */
  running(now: Moment): LiveEvent[] {
    return this.#sorted().filter((event) => isRunning(event, now));
  }

  /** Forgets what is over. */
  advance(now: Moment): void {
    const newest = new Map<string, LiveEvent>();
    for (const event of this.#sorted()) {
      if (event.key !== undefined && event.op !== "fire" && hasFired(event, now)) newest.set(event.key, event);
    }
    for (const [key, event] of newest) {
      if (event.op === "delete" || hasExpired(event, now)) this.#markDeleted(key, event.seq);
    }
    for (const [seq, event] of this.#events) {
      const stays =
        event.op === "fire"
          ? !hasFired(event, now) || isRunning(event, now)
          : !this.#isDeleted(event) && (!hasFired(event, now) || newest.get(event.key ?? "") === event);
      if (!stays) this.#events.delete(seq);
    }
  }

  #sorted(): LiveEvent[] {
    return [...this.#events.values()].sort((a, b) => a.seq - b.seq);
  }

  #drop(id: string, at_ms: number): void {
    const event = [...this.#events.values()].find((event) => event.id === id);
    if (event) {
      this.#events.delete(event.seq);
      this.#deleteKey(event, at_ms);
    }
    this.#markDropped(id, at_ms);
  }

  /** An event that had fired when it was dropped takes its key with it; one that had not leaves the key as it is. */
  #deleteKey(event: LiveEvent, dropped_ms: number): void {
    if (event.op !== "set" || event.key === undefined || (event.time.wall_ms ?? Infinity) > dropped_ms) return;
    this.#markDeleted(event.key, event.seq);
  }

  /** A poll's tally goes with the poll. */
  #isDeleted({ key = "", seq }: LiveEvent): boolean {
    const covers = (key: string) => (this.#deleted.get(key) ?? -1) >= seq;
    return covers(key) || (key.endsWith(":tally") && covers(key.slice(0, -":tally".length)));
  }

  #markDeleted(key: string, seq: number): void {
    mark(this.#deleted, key, Math.max(seq, this.#deleted.get(key) ?? -1));
  }

  #markDropped(id: string, at_ms: number): void {
    mark(this.#dropped, id, Math.min(at_ms, this.#dropped.get(id) ?? Infinity));
  }
}

/** Keeps the newest marks. */
function mark(marks: Map<string, number>, name: string, value: number): void {
  marks.delete(name);
  marks.set(name, value);
  const [oldest] = marks.keys();
  if (marks.size > MARKS_MAX && oldest !== undefined) marks.delete(oldest);
}

/** The ids of the events that this one stops. */
function stopped(event: LiveEvent): string[] {
  const ids = Array.isArray(event.supersedes) ? [...event.supersedes] : [];
  if (event.type === "cancel" && typeof event.data?.ref === "string") ids.push(event.data.ref);
  return ids;
}

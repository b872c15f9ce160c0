// What is so in a room: keyed state, announced events and running one-shots, as a fold over its events.
//
// It is the server's fold: the last write of a key wins by `seq`, and what is gone leaves a mark, so that a late copy
// can't bring it back. An event's own fields, and the word of its origin on whether what it drops had fired, decide.

import { expiresBeforeItFires, hasExpired, hasFired, isRunning, type LiveEvent, type Moment, type Snapshot } from "./event";

/** As many as the server keeps. */
const EVENTS_MAX = 512;
const MARKS_MAX = 64;
const TALLY = ":tally";

/** The events of one source that still matter. */
export class Room {
  /** By seq: set, announced or running. */
  #events = new Map<number, LiveEvent>();
  /** Keys that were deleted or ran out, with the seq up to which nothing of them matters any more. */
  #deleted = new Map<string, number>();
  /** Ids that were cancelled or superseded; true for those that had fired before that. */
  #dropped = new Map<string, boolean>();

  /** Takes an event, whether its time has come or not. A cancellation works at once. */
  apply(event: LiveEvent): void {
    const { supersedes = [] } = event;
    for (const id of supersedes) this.#drop(id, false);
    const ref = event.type === "cancel" ? event.data?.ref : undefined;
    if (typeof ref === "string" && !supersedes.includes(ref)) this.#drop(ref, true);
    if (expiresBeforeItFires(event)) return;
    const fired = this.#dropped.get(event.id);
    if (fired === undefined) this.#events.set(event.seq, event);
    else this.#dropKey(event, fired);
  }

  /**
   * Takes a joiner's events for the truth: state that is not among them is gone, even if its end was missed. The
   * marks of what was deleted here before stay.
   */
  replace(events: LiveEvent[], now: Moment, marks: Partial<Pick<Snapshot, "deleted" | "dropped">> = {}): void {
    // The sender is ahead of the screen: one-shots that are over for him may still have to come here.
    const due = this.coming(now).filter((event) => event.op === "fire" && event.time.mode === "pts");
    const [deleted, dropped] = [this.#deleted, this.#dropped];
    this.#events = new Map();
    this.#deleted = new Map(Object.entries(marks.deleted ?? {}));
    this.#dropped = new Map(Object.entries(marks.dropped ?? {}));
    for (const event of events) this.apply(event);
    const keys = new Set([...this.#events.values()].map((event) => event.key));
    for (const [key, seq] of deleted) if (!keys.has(key)) this.#markDeleted(key, seq);
    for (const [id, fired] of dropped) this.#markDropped(id, fired);
    for (const event of due) this.apply(event);
  }

  /** The events that have fired and are still known, oldest first. */
  fired(now: Moment): LiveEvent[] {
    return this.#sorted().filter((event) => hasFired(event, now) && !hasExpired(event, now));
  }

  /** The keyed state. */
  active(now: Moment): LiveEvent[] {
    const active = this.#standing(now).filter((event) => stateKey(event) !== undefined && hasBegun(event, now));
    const opened = new Map(active.map(({ key, seq }) => [key, seq]));
    // A tally counts for the poll that was open when it was made.
    return active.filter(({ key = "", seq }) => !key.endsWith(TALLY) || (opened.get(pollOf(key)) ?? Infinity) < seq);
  }

  /** Events whose time is yet to come. */
  coming(now: Moment): LiveEvent[] {
    return this.#standing(now).filter((event) => !hasBegun(event, now));
  }

  /** One-shots that go on. */
  running(now: Moment): LiveEvent[] {
    return this.#standing(now).filter((event) => isRunning(event, now));
  }

  /** Forgets what is over. */
  advance(now: Moment): void {
    const standing = this.#standing(now);
    for (const [key, event] of this.#newest(now)) {
      if (event.op === "delete" || hasExpired(event, now)) this.#markDeleted(key, event.seq);
    }
    this.#events = new Map(standing.slice(-EVENTS_MAX).map((event) => [event.seq, event]));
  }

  /** The newest write of each key whose time has come. */
  #newest(now: Moment): Map<string, LiveEvent> {
    const newest = new Map<string, LiveEvent>();
    for (const event of this.#sorted()) {
      const key = stateKey(event);
      if (key !== undefined && hasBegun(event, now)) newest.set(key, event);
    }
    return newest;
  }

  /**
   * What still matters, oldest first: of each key the newest write and those that will overwrite it, and one-shots
   * that are to come or going on.
   */
  #standing(now: Moment): LiveEvent[] {
    const newest = this.#newest(now);
    return this.#sorted().filter((event) => {
      const key = stateKey(event);
      if (key === undefined) return !hasExpired(event, now) && (!hasFired(event, now) || isRunning(event, now));
      const overtaken = (newest.get(key)?.seq ?? -1) > event.seq;
      const over = hasBegun(event, now) && (event.op === "delete" || hasExpired(event, now));
      return !overtaken && !over && !this.#isDeleted(key, event.seq);
    });
  }

  #sorted(): LiveEvent[] {
    return [...this.#events.values()].sort((a, b) => a.seq - b.seq);
  }

  #drop(id: string, fired: boolean): void {
    const event = [...this.#events.values()].find((event) => event.id === id);
    if (event) {
      this.#events.delete(event.seq);
      this.#dropKey(event, fired);
    }
    this.#markDropped(id, fired);
  }

  /** An event that had fired when it was dropped takes its key with it; one that had not leaves the key as it is. */
  #dropKey(event: LiveEvent, fired: boolean): void {
    const key = stateKey(event);
    if (key !== undefined && fired) this.#markDeleted(key, event.seq);
  }

  /** A poll's tally goes with the poll. */
  #isDeleted(key: string, seq: number): boolean {
    const covers = (key: string) => (this.#deleted.get(key) ?? -1) >= seq;
    return covers(key) || (key.endsWith(TALLY) && covers(pollOf(key)));
  }

  #markDeleted(key: string, seq: number): void {
    this.#deleted.set(key, Math.max(seq, this.#deleted.get(key) ?? -1));
    if (this.#deleted.size <= MARKS_MAX) return;
    const [oldest] = [...this.#deleted].reduce((a, b) => (b[1] < a[1] ? b : a));
    this.#deleted.delete(oldest);
  }

  #markDropped(id: string, fired: boolean): void {
    this.#dropped.set(id, fired && (this.#dropped.get(id) ?? true));
    if (this.#dropped.size <= MARKS_MAX) return;
    // ULIDs sort by time.
    this.#dropped.delete([...this.#dropped.keys()].reduce((a, b) => (b < a ? b : a)));
  }
}

/** The key that the event writes. */
const stateKey = ({ op, key }: LiveEvent): string | undefined => (op === "fire" ? undefined : key);

/** True if its time has come. One that has run out had its time, whatever the stream's clock says. */
const hasBegun = (event: LiveEvent, now: Moment): boolean => hasFired(event, now) || hasExpired(event, now);

const pollOf = (key: string): string => key.slice(0, -TALLY.length);

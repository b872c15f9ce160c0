// When an event fires: on the first displayed frame whose PTS has reached it.

export interface LiveEvent {
  id: string;
  seq: number;
  type: string;
  op: "set" | "delete" | "fire";
  key?: string;
  time: { mode: "pts" | "wall" | "asap"; pts_us?: number; wall_ms?: number; expires_ms?: number };
  data?: Record<string, unknown>;
}

export type Carriage = "moq" | "flv";

/** An event at the moment the viewer sees it. Times are on the carriage's own timeline. */
export interface Fired {
  event: LiveEvent;
  carriage: Carriage;
  pts_us: number | undefined;
  shown_pts_us: number | undefined;
  /** It happened before this viewer's first frame: state to catch up with, not news. */
  replay: boolean;
}

const PENDING_MAX = 256;
const SEEN_MAX = 4096;
/** A PTS this far behind the last one is another timeline: the server was restarted. */
const RESTART_US = 2_000_000;

export class Timeline {
  readonly #carriage: Carriage;
  readonly #fire: (fired: Fired) => void;
  readonly #seen = new Set<string>();
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #pending: { event: LiveEvent; pts_us: number }[] = [];
  #first_us: number | undefined;
  #shown_us: number | undefined;

  constructor(carriage: Carriage, fire: (fired: Fired) => void) {
    this.#carriage = carriage;
    this.#fire = fire;
  }

  /** Takes an event off the wire; one that was seen before is ignored, as every carriage repeats. */
  add(event: LiveEvent, pts_us: number | undefined): void {
    if (this.#seen.has(event.id)) return;
    this.#remember(event.id);
    if (event.time.expires_ms !== undefined && event.time.expires_ms <= Date.now()) return;
    if (event.type === "cancel") this.#cancel(String(event.data?.ref));

    if (event.time.mode === "wall" && event.time.wall_ms !== undefined) {
      this.#at(event, event.time.wall_ms);
    } else if (event.time.mode === "asap" || pts_us === undefined) {
      this.#emit(event, undefined, false);
    } else {
      this.#pending.push({ event, pts_us });
      this.#pending.sort((a, b) => a.pts_us - b.pts_us || a.event.seq - b.event.seq);
      // A hidden page shows no frames, so it may fall behind; of a key's values the newest counts.
      if (this.#pending.length > PENDING_MAX) this.#pending.shift();
    }
  }

  /** The frame with this PTS is on the screen now. */
  shown(pts_us: number): void {
    const restarted = this.#shown_us !== undefined && pts_us < this.#shown_us - RESTART_US;
    if (this.#first_us === undefined || restarted) this.#first_us = pts_us;
    this.#shown_us = pts_us;
    const first_us = this.#first_us;
    const later = this.#pending.findIndex((due) => due.pts_us > pts_us);
    const due = this.#pending.splice(0, later < 0 ? this.#pending.length : later);
    for (const { event, pts_us: at } of due) this.#emit(event, at, at < first_us);
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#pending = [];
  }

  #emit(event: LiveEvent, pts_us: number | undefined, replay: boolean): void {
    this.#fire({ event, carriage: this.#carriage, pts_us, shown_pts_us: this.#shown_us, replay });
  }

  #at(event: LiveEvent, wall_ms: number): void {
    const wait_ms = wall_ms - Date.now();
    if (wait_ms <= 0) return this.#emit(event, undefined, true);
    if (this.#timers.size >= PENDING_MAX) return;
    const timer = setTimeout(() => {
      this.#timers.delete(event.id);
      this.#emit(event, undefined, false);
    }, Math.min(wait_ms, 2 ** 31 - 1));
    this.#timers.set(event.id, timer);
  }

  #cancel(id: string): void {
    this.#pending = this.#pending.filter((due) => due.event.id !== id);
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  #remember(id: string): void {
    this.#seen.add(id);
    if (this.#seen.size <= SEEN_MAX) return;
    const [oldest] = this.#seen;
    if (oldest !== undefined) this.#seen.delete(oldest);
  }
}

/** An event from the wire, or undefined for what is not one. */
export function parseEvent(value: unknown): LiveEvent | undefined {
  const event = value as Partial<LiveEvent> | null;
  const sound =
    typeof event === "object" &&
    event !== null &&
    typeof event.id === "string" &&
    typeof event.seq === "number" &&
    typeof event.type === "string" &&
    typeof event.time === "object" &&
    event.time !== null;
  return sound ? (event as LiveEvent) : undefined;
}

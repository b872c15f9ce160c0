// What a viewer sees of a stream's events: each fires on the first displayed frame whose PTS has reached it, or at
// its UTC instant by the server's clock; what they leave is the room's state.

import type { LiveEvent, Moment, Snapshot } from "./event";
import { Room } from "./room";

export type Carriage = "moq" | "flv" | "whep";

/** An event at the moment the viewer sees it. */
export interface Fired {
  event: LiveEvent;
  carriage: Carriage;
  pts_us: number | undefined;
  shown_pts_us: number | undefined;
  /** It happened before this viewer came: state to catch up with, not news. */
  replay: boolean;
}

/** What is so where the viewer is. */
export interface Current {
  now: Moment;
  /** The keyed state. */
  active: LiveEvent[];
  /** Announced, of any kind. */
  coming: LiveEvent[];
  /** One-shots that go on. */
  running: LiveEvent[];
}

const SEEN_MAX = 4096;
/** A PTS this far behind the last one is another timeline: the server was restarted. */
const RESTART_US = 2_000_000;

export class Timeline {
  readonly #carriage: Carriage;
  readonly #clock: () => number;
  readonly #fire: (fired: Fired) => void;
  /** The room's own events, and those for all rooms. */
  readonly #rooms: Map<string, Room>;
  /** Ids of what has fired. */
  readonly #seen = new Set<string>();
  readonly #joined_ms: number;
  #first_us: number | undefined;
  #shown_us: number | undefined;

  /** `clock` tells the server's time in UTC milliseconds. */
  constructor(stream: string, carriage: Carriage, clock: () => number, fire: (fired: Fired) => void) {
    this.#carriage = carriage;
    this.#clock = clock;
    this.#fire = fire;
    this.#joined_ms = clock();
    this.#rooms = new Map([stream, `${stream.split("/")[0]}/_global`].map((source) => [source, new Room()]));
  }

  /** Takes an event off the wire; every carriage repeats. */
  add(event: LiveEvent): void {
    this.#rooms.get(event.source)?.apply(event);
    this.tick();
  }

  /** Takes what a joiner is told, for the whole truth. */
  replace(snapshot: Pick<Snapshot, "events"> & Partial<Snapshot>): void {
    const now = this.#now();
    for (const [source, room] of this.#rooms) {
      const events = snapshot.events.filter((event) => event.source === source);
      room.replace(events, now, source === snapshot.source ? snapshot : {});
    }
    this.tick();
  }

  /** The frame with this PTS is on the screen now. */
  shown(pts_us: number): void {
    const restarted = this.#shown_us !== undefined && pts_us < this.#shown_us - RESTART_US;
    if (this.#first_us === undefined || restarted) this.#first_us = pts_us;
    this.#shown_us = pts_us;
    this.tick();
  }

  /** Fires what is due; to be called now and then, for what waits for no frame. */
  tick(): void {
    const now = this.#now();
    const rooms = [...this.#rooms.values()];
    const due = rooms.flatMap((room) => room.fired(now)).filter((event) => !this.#seen.has(event.id));
    for (const room of rooms) room.advance(now);
    due.sort((a, b) => (a.time.wall_ms ?? 0) - (b.time.wall_ms ?? 0) || a.seq - b.seq);
    for (const event of due) {
      this.#remember(event.id);
      const { mode, pts_us } = event.time;
      const at_us = mode === "pts" ? pts_us : undefined;
      const [carriage, shown_pts_us] = [this.#carriage, this.#shown_us];
      this.#fire({ event, carriage, pts_us: at_us, shown_pts_us, replay: this.#isOld(event) });
    }
  }

  current(): Current {
    const now = this.#now();
    const all = (read: (room: Room) => LiveEvent[]) => [...this.#rooms.values()].flatMap(read);
    return {
      now,
      active: all((room) => room.active(now)),
      coming: all((room) => room.coming(now)),
      running: all((room) => room.running(now)),
    };
  }

  /** Before the first frame no event of a frame has fired. */
  #now(): Moment {
    return { pts_us: this.#shown_us ?? -Infinity, wall_ms: this.#clock() };
  }

  #isOld({ time }: LiveEvent): boolean {
    if (time.mode === "pts") return (time.pts_us ?? 0) < (this.#first_us ?? 0);
    return (time.wall_ms ?? Infinity) < this.#joined_ms;
  }

  #remember(id: string): void {
    this.#seen.add(id);
    const [oldest] = this.#seen;
    if (this.#seen.size > SEEN_MAX && oldest !== undefined) this.#seen.delete(oldest);
  }
}

// The commerce event as every carriage brings it, and when its time has come.

export interface LiveEvent {
  v: number;
  id: string;
  /** The stream's name, or `org/_global` for all rooms of an organisation. */
  source: string;
  seq: number;
  type: string;
  op: "set" | "delete" | "fire";
  key?: string;
  time: {
    mode: "pts" | "wall" | "asap";
    pts_us?: number;
    wall_ms?: number;
    duration_ms?: number;
    expires_ms?: number;
  };
  data?: Record<string, unknown>;
  supersedes?: string[];
  kid?: string;
  sig?: string;
}

/** A moment on both clocks that trigger events: the displayed frame's PTS, and the server's UTC. */
export interface Moment {
  pts_us: number;
  wall_ms: number;
}

/** What is so in a room, as a joiner is told. */
export interface Snapshot {
  source: string;
  pts_us: number;
  events: LiveEvent[];
  /** Keys, with the seq up to which nothing of them matters any more. */
  deleted: Record<string, number>;
  /** Ids that were cancelled or superseded; true for those that had fired before that. */
  dropped: Record<string, boolean>;
}

/** True from the first displayed frame with PTS >= `pts_us` on, or from `wall_ms` on. */
export function hasFired({ time }: LiveEvent, now: Moment): boolean {
  if (time.mode === "pts") return (time.pts_us ?? 0) <= now.pts_us;
  if (time.mode === "wall") return (time.wall_ms ?? 0) <= now.wall_ms;
  return true;
}

export const hasExpired = ({ time }: LiveEvent, now: Moment): boolean => (time.expires_ms ?? Infinity) <= now.wall_ms;

/** True if it never applies: it has expired when its time comes, by the UTC time that it names itself. */
export const expiresBeforeItFires = ({ time: { wall_ms, expires_ms } }: LiveEvent): boolean =>
  wall_ms !== undefined && expires_ms !== undefined && expires_ms <= wall_ms;

/** True while a one-shot with a duration goes on, by the clock that triggered it. */
export function isRunning(event: LiveEvent, now: Moment): boolean {
  const { mode, pts_us = 0, wall_ms = 0, duration_ms = 0 } = event.time;
  if (event.op !== "fire" || !hasFired(event, now) || hasExpired(event, now)) return false;
  return mode === "pts" ? pts_us + duration_ms * 1000 > now.pts_us : wall_ms + duration_ms > now.wall_ms;
}

/** An event from the wire, or undefined for what is not one. */
export function parseEvent(value: unknown): LiveEvent | undefined {
  const event = value as Partial<LiveEvent> | null;
  if (typeof event !== "object" || event === null || event.v !== 1) return undefined;
  const { id, source, seq, type, op, key, time, supersedes = [] } = event;
  const named = typeof id === "string" && typeof source === "string" && typeof type === "string";
  const keyed = op === "fire" || ((op === "set" || op === "delete") && typeof key === "string");
  if (!named || !keyed || typeof seq !== "number" || !Array.isArray(supersedes)) return undefined;
  if (typeof time !== "object" || time === null) return undefined;
  const timed =
    time.mode === "asap" ||
    (time.mode === "pts" && typeof time.pts_us === "number") ||
    (time.mode === "wall" && typeof time.wall_ms === "number");
  return timed ? (event as LiveEvent) : undefined;
}

/** A snapshot from the wire, without what in it is not an event; undefined for what is no snapshot. */
export function parseSnapshot(value: unknown): Snapshot | undefined {
  const snapshot = value as Partial<Snapshot & { v: number }> | null;
  if (typeof snapshot !== "object" || snapshot === null || snapshot.v !== 1) return undefined;
  const { source, pts_us, events, deleted = {}, dropped = {} } = snapshot;
  if (typeof source !== "string" || typeof pts_us !== "number" || !Array.isArray(events)) return undefined;
  if (!areAll("number", deleted) || !areAll("boolean", dropped)) return undefined;
  return { source, pts_us, events: events.map(parseEvent).filter((event) => event !== undefined), deleted, dropped };
}

/** True for an object whose values are all of that type. */
function areAll(type: "number" | "boolean", marks: unknown): boolean {
  return typeof marks === "object" && marks !== null && Object.values(marks).every((mark) => typeof mark === type);
}

// Events for tests.

import type { LiveEvent } from "./event";

export const SOURCE = "live/a";

/** An event with that id and seq: a `card.show` of `card:main` at PTS 0 unless told otherwise. */
export function event(id: string, seq: number, rest: Partial<LiveEvent> = {}): LiveEvent {
  const base = { v: 1, id, seq, source: SOURCE, type: "card.show", op: "set", key: "card:main" } as const;
  return { ...base, time: { mode: "pts", pts_us: 0, wall_ms: 0 }, ...rest };
}

/** A frame's time, with the UTC that a room clock would have said. */
export const at = (pts_us: number): LiveEvent["time"] => ({ mode: "pts", pts_us, wall_ms: Math.floor(pts_us / 1000) });

/** For `event`: a one-shot. */
export const fire = (type: string, rest: Partial<LiveEvent> = {}): Partial<LiveEvent> => ({
  type,
  op: "fire",
  key: undefined,
  ...rest,
});

/** For `event`: stops the one with the id `ref`, which had fired if nothing else is said. */
export const cancel = (ref: string): Partial<LiveEvent> =>
  fire("cancel", { data: { ref }, time: { mode: "asap", wall_ms: 0 } });

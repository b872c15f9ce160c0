// What all ways to play a stream have in common.

import type { LiveEvent, Snapshot } from "./event";

export type State =
  | { kind: "connecting" }
  | { kind: "waiting" }
  | { kind: "live" }
  | { kind: "error"; message: string };

/** Where a player reports to. */
export interface Sink {
  state(state: State): void;
  /** The frame with this PTS, on the stream's timeline, is on the screen now. */
  shown(pts_us: number): void;
  /** An event arrived. */
  event(event: LiveEvent): void;
  /** What a joiner is told; anything known before that is not in it is gone. */
  snapshot(snapshot: Pick<Snapshot, "events"> & Partial<Snapshot>): void;
}

export interface Stats {
  width: number;
  height: number;
  /** How much the player holds back before it shows a frame. */
  buffer_ms: number | undefined;
}

export interface Player {
  /** The picture, for the page to place. */
  readonly element: HTMLElement;
  setMuted(muted: boolean): void;
  stats(): Stats;
  close(): void;
}

// What both ways to play a stream have in common.

import type { LiveEvent } from "./timeline";

export type State =
  | { kind: "connecting" }
  | { kind: "waiting" }
  | { kind: "live" }
  | { kind: "error"; message: string };

/** Where a player reports to. */
export interface Sink {
  state(state: State): void;
  /** The frame with this PTS is on the screen now. */
  shown(pts_us: number): void;
  /** An event arrived; `pts_us` is its place on the timeline that `shown` counts on. */
  event(event: LiveEvent, pts_us: number | undefined): void;
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

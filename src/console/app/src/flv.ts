// Plays a stream over HTTP-FLV with mpegts.js; events come as `onLiveEvent` script tags in the FLV itself.

import Mpegts from "mpegts.js";
import { flvUrl } from "./api";
import { type LiveEvent, parseEvent, parseSnapshot, type Snapshot } from "./event";
import type { Player, Sink, Stats } from "./player";


const RETRY_MS = 2000;
/** The server answers a request for a stream that isn't there yet with silence; this much of it says so. */
const SILENCE_MS = 3000;

/** The AMF0 body of an event's script tag. */
interface LiveEventTag {
  /** The PTS of the event, or of the moment that a snapshot tells, in ms on this FLV's timeline. */
  ts: number;
  kind: "ev" | "snap";
  json: string;
  /** Index and number of a snapshot's parts, if it is too long for one tag. */
  part?: [number, number];
}

export class FlvPlayer implements Player {
  readonly element = document.createElement("video");
  readonly #stream: string;
  readonly #sink: Sink;
  #player: Mpegts.Player | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  /** mpegts.js starts its media clock at the session's first timestamp, which the metadata names. */
  #first_ms = 0;
  /** Where this FLV's time 0 is on the stream's timeline, which events count on. Every event's tag tells it. */
  #base_ms = 0;
  #parts: Snapshot[] = [];

  constructor(stream: string, sink: Sink) {
    this.#stream = stream;
    this.#sink = sink;
    this.element.muted = true;
    this.element.playsInline = true;
    if (!Mpegts.isSupported()) {
      sink.state({ kind: "error", message: "This browser has no Media Source Extensions, which HTTP-FLV needs." });
      return;
    }
    this.element.requestVideoFrameCallback(this.#onFrame);
    this.#start();
  }

  setMuted(muted: boolean): void {
    this.element.muted = muted;
  }

  stats(): Stats {
    const { videoWidth, videoHeight, buffered, currentTime } = this.element;
    const end_s = buffered.length > 0 ? buffered.end(buffered.length - 1) : undefined;
    const buffer_ms = end_s === undefined ? undefined : (end_s - currentTime) * 1000;
    return { width: videoWidth, height: videoHeight, buffer_ms };
  }

  close(): void {
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    this.#player?.destroy();
    this.#player = undefined;
    this.element.remove();
  }

  #start(): void {
    this.#sink.state({ kind: "connecting" });
    this.#base_ms = 0;
    this.#silence = setTimeout(() => this.#sink.state({ kind: "waiting" }), SILENCE_MS);
    const player = Mpegts.createPlayer(
      { type: "flv", isLive: true, url: flvUrl(this.#stream) },
      {
        enableStashBuffer: false,
        lazyLoad: false,
        liveSync: true,
        autoCleanupSourceBuffer: true,
        autoCleanupMaxBackwardDuration: 30,
        autoCleanupMinBackwardDuration: 10,
      },
    );
    this.#player = player;
    player.on(Mpegts.Events.METADATA_ARRIVED, (meta: { firstTs?: number }) => {
      this.#first_ms = meta.firstTs ?? 0;
    });
    player.on(Mpegts.Events.SCRIPTDATA_ARRIVED, (data: { onLiveEvent?: LiveEventTag }) => {
      if (data.onLiveEvent) this.#onLiveEvent(data.onLiveEvent);
    });
    player.on(Mpegts.Events.ERROR, (type: string, detail: string, info: { code?: number }) => {
      const network = type === Mpegts.ErrorTypes.NETWORK_ERROR;
      const message = network ? "The server can't be reached. Trying again." : `The player gave up (${detail}). Trying again.`;
      this.#restart(info?.code === 404 ? undefined : message);
    });
    player.on(Mpegts.Events.LOADING_COMPLETE, () => this.#restart(undefined));
    player.attachMediaElement(this.element);
    player.load();
    void this.element.play().catch(() => undefined);
  }

  /** Tries again later; without a message the stream just isn't there now. */
  #restart(message: string | undefined): void {
    this.#sink.state(message === undefined ? { kind: "waiting" } : { kind: "error", message });
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    this.#retry = setTimeout(() => {
      this.#player?.destroy();
      this.#start();
    }, RETRY_MS);
  }

  readonly #onFrame = (_now: number, frame: VideoFrameCallbackMetadata): void => {
    this.element.requestVideoFrameCallback(this.#onFrame);
    clearTimeout(this.#silence);
    this.#sink.state({ kind: "live" });
    // FLV counts whole milliseconds, so rounding takes away only the media clock's float error. What stood behind
    // the millisecond was cut off from the frame's PTS: it may be as late as the end of it.
    const tag_ms = Math.round(frame.mediaTime * 1000) + this.#first_ms;
    this.#sink.shown((this.#base_ms + tag_ms) * 1000 + 999);
  };

  #onLiveEvent(tag: LiveEventTag): void {
    try {
      const body: unknown = JSON.parse(tag.json);
      if (tag.kind === "snap") this.#onSnapshot(tag, parseSnapshot(body));
      else this.#onEvent(tag, parseEvent(body));
    } catch (error) {
      console.warn("an event that isn't JSON:", error);
    }
  }

  #onEvent(tag: LiveEventTag, event: LiveEvent | undefined): void {
    if (!event) return;
    this.#align(tag, event.time.pts_us);
    this.#sink.event(event);
  }

  /** Each part is a snapshot of some of the events; together they are the truth. */
  #onSnapshot(tag: LiveEventTag, snapshot: Snapshot | undefined): void {
    if (!snapshot) return;
    this.#align(tag, snapshot.pts_us);
    const [index, count] = tag.part ?? [0, 1];
    if (index === 0) this.#parts = [];
    this.#parts.push(snapshot);
    if (this.#parts.length < count) return;
    const events = this.#parts.flatMap((part) => part.events);
    this.#parts = [];
    this.#sink.snapshot({ ...snapshot, events });
  }

  #align(tag: LiveEventTag, pts_us: number | undefined): void {
    if (pts_us !== undefined) this.#base_ms = Math.floor(pts_us / 1000) - tag.ts;
  }
}

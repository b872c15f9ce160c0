// Plays a stream over HTTP-FLV with mpegts.js; events come as `onLiveEvent` script tags in the FLV itself.

import Mpegts from "mpegts.js";
import { flvUrl } from "./api";
import type { Player, Sink, Stats } from "./player";
import { parseEvent } from "./timeline";

const RETRY_MS = 2000;
/** The server answers a request for a stream that isn't there yet with silence; this much of it says so. */
const SILENCE_MS = 3000;

/** The AMF0 body of an event's script tag. `ts` is the event's PTS on this FLV's timeline. */
interface LiveEventTag {
  ts: number;
  json: string;
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
    // FLV counts whole milliseconds, so rounding takes away only the media clock's float error.
    this.#sink.shown((Math.round(frame.mediaTime * 1000) + this.#first_ms) * 1000);
  };

  /** A tag holds one event, or a snapshot: an array of those that still matter. */
  #onLiveEvent(tag: LiveEventTag): void {
    try {
      const body: unknown = JSON.parse(tag.json);
      for (const item of Array.isArray(body) ? body : [body]) {
        const event = parseEvent(item);
        if (event) this.#sink.event(event, tag.ts * 1000);
      }
    } catch (error) {
      console.warn("an event that isn't JSON:", error);
    }
  }
}

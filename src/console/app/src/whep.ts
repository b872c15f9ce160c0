// Plays a stream over WebRTC, asked for by WHEP; events come on a data channel, with the RTP timestamp of their frame.

import { whepUrl } from "./api";
import { parseEvent, type LiveEvent } from "./event";
import type { Player, Sink, State, Stats } from "./player";

const RETRY_MS = 2000;
/** While nobody publishes the server holds its answer back; this much silence says so. */
const SILENCE_MS = 3000;
const EVENTS_CHANNEL = "live-events";
const UNREACHABLE = "The server can't be reached. Trying again.";
const NO_MEDIA = "No pictures come through; a firewall may block UDP. Trying again.";
/** RTP's clock of video. */
const TICK_US = 1000 / 90;

/** What the data channel carries. */
interface Message {
  /** The event's frame, or for what had fired before the join a later one. */
  rtp: number;
  /** 1 for what a joiner is told. */
  rp: 0 | 1;
  ev: unknown;
}

export class WhepPlayer implements Player {
  readonly element = document.createElement("video");
  readonly #url: URL;
  readonly #sink: Sink;
  #attempt = new AbortController();
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** A PTS and its RTP timestamp. */
  #known: { pts_us: number; rtp: number } | undefined;
  /** What a joiner was told so far. */
  #told: LiveEvent[] = [];
  #buffer_ms: number | undefined;

  constructor(stream: string, sink: Sink) {
    this.#url = whepUrl(stream);
    this.#sink = sink;
    this.element.muted = true;
    this.element.autoplay = true;
    this.element.playsInline = true;
    this.element.requestVideoFrameCallback(this.#onFrame);
    sink.state({ kind: "connecting" });
    this.#start();
  }

  setMuted(muted: boolean): void {
    this.element.muted = muted;
  }

  stats(): Stats {
    const { videoWidth, videoHeight } = this.element;
    return { width: videoWidth, height: videoHeight, buffer_ms: this.#buffer_ms };
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#attempt.abort();
    this.element.remove();
  }

  #start(): void {
    this.#attempt = new AbortController();
    this.#known = undefined;
    this.#told = [];
    const { signal } = this.#attempt;
    this.#connect(signal).catch((error: unknown) => {
      console.debug("no WebRTC session:", error);
      this.#restart(signal, { kind: "error", message: UNREACHABLE });
    });
  }

  /** Tries again later, unless that attempt is over already. */
  #restart(attempt: AbortSignal, state: State): void {
    if (attempt.aborted) return;
    this.#attempt.abort();
    this.#sink.state(state);
    this.#retry = setTimeout(() => this.#start(), RETRY_MS);
  }

  async #connect(attempt: AbortSignal): Promise<void> {
    const peer = this.#open(attempt);
    await peer.setLocalDescription();
    const offer = { method: "POST", headers: { "content-type": "application/sdp" }, body: peer.localDescription?.sdp };
    const silence = setTimeout(() => attempt.aborted || this.#sink.state({ kind: "waiting" }), SILENCE_MS);
    const asked = fetch(this.#url, { ...offer, signal: attempt }).finally(() => clearTimeout(silence));
    const response = await asked;
    const answer = await response.text();
    if (response.status === 404) return this.#restart(attempt, { kind: "waiting" });
    if (!response.ok) return this.#restart(attempt, { kind: "error", message: `The server refused: ${answer.trim()}` });
    const session = new URL(response.headers.get("location") ?? "", response.url);
    attempt.addEventListener("abort", () => {
      void fetch(session, { method: "DELETE", keepalive: true }).catch(() => undefined);
    });
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
  }

  /** A connection that is closed with its attempt. */
  #open(attempt: AbortSignal): RTCPeerConnection {
    const peer = new RTCPeerConnection();
    attempt.addEventListener("abort", () => peer.close());
    const media = new MediaStream();
    this.element.srcObject = media;
    peer.ontrack = ({ track }) => media.addTrack(track);
    peer.onconnectionstatechange = () => {
      const lost = ["disconnected", "failed"].includes(peer.connectionState);
      if (lost) this.#restart(attempt, { kind: "error", message: NO_MEDIA });
    };
    for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
    const channel = peer.createDataChannel(EVENTS_CHANNEL);
    channel.onmessage = ({ data }) => this.#onMessage(data);
    // The server ended the session: the stream is over.
    channel.onclose = () => this.#restart(attempt, { kind: "waiting" });
    return peer;
  }

  readonly #onFrame = (_now: number, frame: VideoFrameCallbackMetadata): void => {
    this.element.requestVideoFrameCallback(this.#onFrame);
    this.#sink.state({ kind: "live" });
    if (frame.receiveTime !== undefined) this.#buffer_ms = frame.expectedDisplayTime - frame.receiveTime;
    const pts_us = frame.rtpTimestamp === undefined ? undefined : this.#pts_us(frame.rtpTimestamp);
    // Of both timestamps what stood behind the tick was cut off: the frame's PTS may be that much later.
    if (pts_us !== undefined) this.#sink.shown(Math.round(pts_us + TICK_US));
  };

  #onMessage(data: string): void {
    try {
      const { rtp, rp, ev } = JSON.parse(data) as Message;
      const event = parseEvent(ev);
      if (!event) return;
      this.#align(rtp, rp, event.time.pts_us);
      // Joiners are told an event at a time. All of those so far are what is known to be.
      this.#told = rp === 1 ? [...this.#told, event] : [];
      if (rp === 1) this.#sink.snapshot({ events: this.#told });
      else this.#sink.event(event);
    } catch (error) {
      console.warn("a message that isn't JSON:", error);
    }
  }

  /** What had fired before the join comes with too late a timestamp: whichever of those is nearest must do at first. */
  #align(rtp: number, rp: 0 | 1, pts_us: number | undefined): void {
    if (pts_us === undefined) return;
    const before_us = this.#pts_us(rtp);
    if (rp === 0 || before_us === undefined || before_us < pts_us) this.#known = { pts_us, rtp };
  }

  #pts_us(rtp: number): number | undefined {
    // `| 0` makes of a difference modulo 2^32 the signed one.
    return this.#known && this.#known.pts_us + ((rtp - this.#known.rtp) | 0) * TICK_US;
  }
}

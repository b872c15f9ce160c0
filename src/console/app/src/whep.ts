// Plays a stream over WebRTC, asked for by WHEP; events come on a data channel, with the RTP timestamp of their frame.

import { whepUrl } from "./api";
import { type LiveEvent, parseEvent } from "./event";
import type { Player, Sink, State, Stats } from "./player";
import { RtpClock } from "./rtp";
import { askForStereo } from "./sdp";

const RETRY_MS = 2000;
/** While nobody publishes the server holds its answer back; this much silence says so. */
const SILENCE_MS = 3000;
const EVENTS_CHANNEL = "live-events";
const UNREACHABLE = "The server can't be reached. Trying again.";
const NO_MEDIA = "No pictures come through; a firewall may block UDP. Trying again.";

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
  #clock = new RtpClock();
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
    this.element.srcObject = null;
    this.element.remove();
  }

  #start(): void {
    this.#attempt = new AbortController();
    this.#clock = new RtpClock();
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
    let session: URL | undefined;
    attempt.addEventListener("abort", () => void leave(peer, session));
    const { sdp } = await peer.createOffer();
    await peer.setLocalDescription({ type: "offer", sdp: askForStereo(sdp ?? "") });
    const offer = { method: "POST", headers: { "content-type": "application/sdp" }, body: peer.localDescription?.sdp };
    const silence = setTimeout(() => attempt.aborted || this.#sink.state({ kind: "waiting" }), SILENCE_MS);
    const posted = fetch(this.#url, { ...offer, signal: attempt });
    const response = await posted.finally(() => clearTimeout(silence));
    const answer = await response.text();
    if (response.status === 404) return this.#restart(attempt, { kind: "waiting" });
    if (!response.ok) return this.#restart(attempt, { kind: "error", message: `The server refused: ${answer.trim()}` });
    session = new URL(response.headers.get("location") ?? "", response.url);
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
    // Not before: a media element without media keeps the page from being loaded.
    if (!attempt.aborted) this.element.srcObject = new MediaStream(peer.getReceivers().map(({ track }) => track));
  }

  #open(attempt: AbortSignal): RTCPeerConnection {
    const peer = new RTCPeerConnection();
    peer.onconnectionstatechange = () => {
      const lost = ["disconnected", "failed"].includes(peer.connectionState);
      if (lost) this.#restart(attempt, { kind: "error", message: NO_MEDIA });
    };
    for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
    const channel = peer.createDataChannel(EVENTS_CHANNEL);
    channel.addEventListener("message", ({ data }) => this.#onMessage(data), { signal: attempt });
    channel.onclose = () => {
      // The server ended the session: the stream is over.
      peer.close();
      this.#restart(attempt, { kind: "waiting" });
    };
    return peer;
  }

  readonly #onFrame = (_now: number, frame: VideoFrameCallbackMetadata): void => {
    this.element.requestVideoFrameCallback(this.#onFrame);
    this.#sink.state({ kind: "live" });
    if (frame.receiveTime !== undefined) this.#buffer_ms = frame.expectedDisplayTime - frame.receiveTime;
    const pts_us = frame.rtpTimestamp === undefined ? undefined : this.#clock.pts_us(frame.rtpTimestamp);
    if (pts_us !== undefined) this.#sink.shown(pts_us);
  };

  #onMessage(data: string): void {
    try {
      const { rtp, rp, ev } = JSON.parse(data) as Message;
      const event = parseEvent(ev);
      if (!event) return;
      if (event.time.pts_us !== undefined) this.#clock.learn(rtp, event.time.pts_us, rp === 1);
      // Joiners are told an event at a time. All of those so far are what is known to be.
      this.#told = rp === 1 ? [...this.#told, event] : [];
      if (rp === 1) this.#sink.snapshot({ events: this.#told });
      else this.#sink.event(event);
    } catch (error) {
      console.warn("a message that isn't JSON:", error);
    }
  }
}

/** The server is told first: once the connection has ended there is no session left to delete. */
async function leave(peer: RTCPeerConnection, session: URL | undefined): Promise<void> {
  const open = peer.connectionState === "connected";
  if (session && open) await fetch(session, { method: "DELETE", keepalive: true }).catch(() => undefined);
  peer.close();
}

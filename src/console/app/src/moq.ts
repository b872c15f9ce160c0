// Plays a stream over MoQ with @moq/watch, and reads its `events` track on the same connection.

import { Hang, Net, Signals } from "@moq/watch";
import MoqWatch from "@moq/watch/element";
import { type MoqEndpoint, moqEndpoint, withToken } from "./api";
import { type LiveEvent, parseEvent } from "./event";
import type { Player, Sink, State, Stats } from "./player";

// Between the catalog (100) and audio (80): an event is small, and must not wait behind pictures.
const EVENTS_PRIORITY = (Hang.Catalog.PRIORITY.catalog + Hang.Catalog.PRIORITY.audio) / 2;
/** How long a connection may take before the page says that something is wrong. */
const PATIENCE_MS = 8000;
const NO_CONNECTION = "The server can't be reached over QUIC; a firewall may block UDP. Trying again.";
const RETRY = { initial: 500, multiplier: 2, max: 5000, timeout: 0 };

export class MoqPlayer implements Player {
  readonly element: MoqWatch;
  readonly #canvas = document.createElement("canvas");
  readonly #effects = new Signals.Effect();
  readonly #sink: Sink;
  readonly #overdue = new Signals.Signal(false);

  constructor(stream: string, sink: Sink) {
    this.#sink = sink;
    this.element = new MoqWatch();
    this.element.append(this.#canvas);
    this.element.muted = true;
    this.element.name = Net.Path.from(stream);
    this.element.connection.websocket = { enabled: false };
    this.element.connection.delay = RETRY;

    if (!("WebTransport" in window)) {
      sink.state({ kind: "error", message: noWebTransport() });
      return;
    }
    this.#effects.run((effect) => this.#locate(effect));
    this.#effects.run((effect) => {
      this.#overdue.set(false);
      if (!effect.get(this.element.connection.established)) effect.timer(() => this.#overdue.set(true), PATIENCE_MS);
    });
    this.#effects.run((effect) => sink.state(this.#state(effect)));
    this.#effects.run((effect) => {
      const frame = effect.get(this.element.renderer.out.frame);
      if (frame) sink.shown(frame.timestamp);
    });
    this.#effects.run((effect) => this.#readEvents(effect));
  }

  setMuted(muted: boolean): void {
    this.element.muted = muted;
  }

  stats(): Stats {
    return { width: this.#canvas.width, height: this.#canvas.height, buffer_ms: this.element.sync.out.buffer.peek() };
  }

  close(): void {
    this.#effects.close();
    this.element.remove();
    this.element.signals.close();
  }

  /** Asks where to connect, again after every loss: a restarted server may have a new certificate. */
  #locate(effect: Signals.Effect): void {
    if (effect.get(this.element.connection.status) !== "disconnected") return;
    effect.spawn(async () => {
      const endpoint = await Promise.race([effect.cancel, retried(moqEndpoint, effect.abort)]);
      if (endpoint) this.#aim(endpoint);
    });
  }

  #aim(endpoint: MoqEndpoint): void {
    const { connection } = this.element;
    const hash = endpoint.certificate_sha256;
    connection.webtransport = hash ? { serverCertificateHashes: [{ algorithm: "sha-256", value: hash }] } : {};
    connection.url.set(withToken(new URL(endpoint.url)));
  }

  #state(effect: Signals.Effect): State {
    const { connection, broadcast, video, renderer } = this.element;
    if (!effect.get(connection.established)) {
      return effect.get(this.#overdue) ? { kind: "error", message: NO_CONNECTION } : { kind: "connecting" };
    }
    if (effect.get(video.source.out.error)) {
      return { kind: "error", message: "This browser can't decode the stream's video codec." };
    }
    if (effect.get(broadcast.out.status) === "offline") return { kind: "waiting" };
    return effect.get(renderer.out.timestamp) === undefined ? { kind: "connecting" } : { kind: "live" };
  }

  #readEvents(effect: Signals.Effect): void {
    const broadcast = effect.get(this.element.broadcast.out.active);
    if (!broadcast) return;
    const track = broadcast.track("events").subscribe({ priority: EVENTS_PRIORITY });
    effect.cleanup(() => track.close());
    const groups = new EventGroups(this.#sink);
    effect.spawn(async () => {
      try {
        for (;;) {
          const group = await Promise.race([effect.cancel, track.recvGroup()]);
          if (!group) return;
          effect.spawn(() => groups.read(group));
        }
      } catch (error) {
        console.warn("no events on this stream:", error);
      }
    });
  }
}

/** The groups of one subscription. Each begins with all records that still matter. */
class EventGroups {
  readonly #sink: Sink;
  /** The newest group that began. */
  #newest = -1;
  /** At first, and after a group was cut short, there may be events that never came. */
  #missing = true;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  async read(group: { sequence: number; readJson(): Promise<unknown> }): Promise<void> {
    try {
      const first = records(await group.readJson());
      if (this.#missing && group.sequence > this.#newest) {
        this.#missing = false;
        this.#sink.snapshot({ events: first });
      } else {
        for (const event of first) this.#sink.event(event);
      }
      this.#newest = Math.max(this.#newest, group.sequence);
      for (let next = await group.readJson(); next !== undefined; next = await group.readJson()) {
        for (const event of records(next)) this.#sink.event(event);
      }
    } catch (error) {
      this.#missing = true;
      console.debug("event group ended early:", error);
    }
  }
}

/** The events of MSF event timeline records. */
function records(value: unknown): LiveEvent[] {
  const events = Array.isArray(value) ? value.map((record: { data?: unknown } | null) => parseEvent(record?.data)) : [];
  return events.filter((event) => event !== undefined);
}

/** Calls `ask` until it succeeds or `signal` aborts. */
async function retried<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  while (!signal.aborted) {
    try {
      return await ask();
    } catch (error) {
      console.warn("the server doesn't say where MoQ is:", error);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  return undefined;
}

function noWebTransport(): string {
  return window.isSecureContext
    ? "This browser has no WebTransport. Play over HTTP-FLV instead."
    : "Browsers allow WebTransport only on https:// and localhost pages. Play over HTTP-FLV instead.";
}

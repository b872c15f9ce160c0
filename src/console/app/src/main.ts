// The page: one stream at a time, its picture and its events.

import "./style.css";
import { eventKeys, listStreams, serverTime, type StreamInfo } from "./api";
import { ServerClock } from "./clock";
import { FlvPlayer } from "./flv";
import { MoqPlayer } from "./moq";
import type { Player, Sink, State } from "./player";
import { Signatures, type Verdict } from "./signature";
import { type Carriage, type Fired, Timeline } from "./timeline";
import { View } from "./view";
import { WhepPlayer } from "./whep";

const PLAYERS: Record<Carriage, new (stream: string, sink: Sink) => Player> = {
  moq: MoqPlayer,
  whep: WhepPlayer,
  flv: FlvPlayer,
};
const LIST_EVERY_MS = 3000;
/** Without a new frame for this long, the publisher is taken to be gone. */
const STILL_S_MAX = 2;
const KEPT_MAX = 1000;
/** Countdowns and events of the wall clock need no frame. */
const TICK_MS = 200;

/** What tests read. */
interface Probe {
  state: State["kind"];
  message: string | undefined;
  /** Frames shown since the page opened. */
  frames: number;
  /** The PTS of the latest of them, oldest first. */
  shown_us: number[];
  events: {
    id: string;
    pts_us?: number;
    shown_pts_us?: number;
    carriage: Carriage;
    replay: boolean;
    /** Once it is known. */
    verdict?: Verdict;
  }[];
}

declare global {
  interface Window {
    hawker: Probe;
  }
}

const isCarriage = (name: string): name is Carriage => Object.hasOwn(PLAYERS, name);

class Page {
  readonly probe: Probe = { state: "connecting", message: undefined, frames: 0, shown_us: [], events: [] };
  readonly #view: View;
  readonly #clock = new ServerClock(serverTime);
  readonly #signatures = new Signatures(eventKeys);
  #stream: string | undefined;
  #carriage: Carriage;
  #muted = true;
  #player: Player | undefined;
  /** What the player says of itself; a picture that stands still is the page's own finding. */
  #said: State = { kind: "connecting" };
  #still_s = 0;
  #timeline: Timeline | undefined;

  constructor(root: HTMLElement, query: URLSearchParams) {
    this.#stream = query.get("stream") ?? undefined;
    // Plain http pages on other hosts have no WebTransport; they still have a picture.
    const possible = "WebTransport" in window ? "moq" : "flv";
    const asked = query.get("over") ?? "";
    this.#carriage = isCarriage(asked) ? asked : possible;
    this.#view = new View(root, {
      choose: (stream) => this.#choose(stream, this.#carriage),
      carry: (carriage) => this.#choose(this.#stream, carriage),
      mute: (muted) => {
        this.#muted = muted;
        this.#player?.setMuted(muted);
      },
    });
    this.#view.state(this.#said, this.#stream);
    this.#play();
    void this.#follow();
    this.#measure();
    setInterval(() => this.#tick(), TICK_MS);
  }

  /** Keeps the list of streams fresh, and starts with its first when the URL named none. */
  async #follow(): Promise<void> {
    for (;;) {
      const list = await listStreams().catch(() => undefined);
      this.#listed(list);
      await new Promise((resolve) => setTimeout(resolve, LIST_EVERY_MS));
    }
  }

  #listed(list: StreamInfo[] | undefined): void {
    const first = list?.[0];
    if (this.#stream === undefined && first) this.#choose(first.name, this.#carriage);
    if (list) this.#view.streams(list, this.#stream);
    if (this.#stream !== undefined) return;
    this.#setState(list ? { kind: "waiting" } : { kind: "error", message: "The server doesn't answer. Trying again." });
  }

  #choose(stream: string | undefined, carriage: Carriage): void {
    if (stream === this.#stream && carriage === this.#carriage) return;
    this.#stream = stream;
    this.#carriage = carriage;
    const url = new URL(location.href);
    if (stream !== undefined) url.searchParams.set("stream", stream);
    url.searchParams.set("over", carriage);
    history.replaceState(null, "", url);
    this.#play();
  }

  #play(): void {
    this.#player?.close();
    this.#player = undefined;
    this.#timeline = undefined;
    this.#still_s = 0;
    this.#setState({ kind: "connecting" });
    if (this.#stream !== undefined) {
      const timeline = new Timeline(this.#stream, this.#carriage, this.#clock.now, (fired) => this.#fired(fired));
      this.#timeline = timeline;
      const sink: Sink = {
        state: (state) => this.#setState(state),
        shown: (pts_us) => {
          this.#still_s = 0;
          this.probe.frames += 1;
          this.probe.shown_us.push(pts_us);
          if (this.probe.shown_us.length > KEPT_MAX) this.probe.shown_us.shift();
          timeline.shown(pts_us);
          this.#view.room(timeline.current());
        },
        event: (event) => timeline.add(event),
        snapshot: (snapshot) => timeline.replace(snapshot),
      };
      this.#player = new PLAYERS[this.#carriage](this.#stream, sink);
      this.#player.setMuted(this.#muted);
    }
    this.#view.play(this.#stream, this.#carriage, this.#player?.element);
    this.#tick();
  }

  #tick(): void {
    this.#timeline?.tick();
    this.#view.room(this.#timeline?.current());
  }

  #setState(said: State): void {
    this.#said = said;
    const state: State = said.kind === "live" && this.#still_s >= STILL_S_MAX ? { kind: "waiting" } : said;
    const message = state.kind === "error" ? state.message : undefined;
    if (state.kind === this.probe.state && message === this.probe.message) return;
    this.probe.state = state.kind;
    this.probe.message = message;
    this.#view.state(state, this.#stream);
  }

  #fired(fired: Fired): void {
    const { event, ...when } = fired;
    const seen: Probe["events"][number] = { id: event.id, ...when };
    this.probe.events.push(seen);
    if (this.probe.events.length > KEPT_MAX) this.probe.events.shift();
    const verdict = this.#signatures.check(event);
    void verdict.then((verdict) => (seen.verdict = verdict));
    this.#view.fired(fired, verdict);
  }

  #measure(): void {
    let before = this.probe.frames;
    setInterval(() => {
      const frames = this.probe.frames - before;
      before = this.probe.frames;
      // A hidden page draws nothing, whatever arrives.
      this.#still_s = document.hidden ? 0 : this.#still_s + 1;
      this.#setState(this.#said);
      const live = this.probe.state === "live" ? this.#player : undefined;
      this.#view.stats(live?.stats(), frames);
    }, 1000);
  }
}

const root = document.querySelector<HTMLElement>("#app");
if (root) window.hawker = new Page(root, new URLSearchParams(location.search)).probe;

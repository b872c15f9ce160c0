// The page's parts and what they show. It decides nothing: `main.ts` does.

import type { StreamInfo } from "./api";
import { card, cards } from "./card";
import { button, h } from "./dom";
import { clock, rain, type Tile, tiles } from "./now";
import type { State, Stats } from "./player";
import type { Verdict } from "./signature";
import type { Carriage, Current, Fired } from "./timeline";
import { detail, kind } from "./words";

const EVENTS_SHOWN_MAX = 100;
const CARRIAGES: [Carriage, string][] = [
  ["moq", "MoQ"],
  ["whep", "WebRTC"],
  ["flv", "HTTP-FLV"],
];

export interface Actions {
  choose(stream: string): void;
  carry(carriage: Carriage): void;
  mute(muted: boolean): void;
}

export class View {
  readonly #actions: Actions;
  readonly #pill = h("span", "pill");
  readonly #streams = h("ul", "streams");
  readonly #title = h("h1", "title");
  readonly #picture = h("div", "picture");
  readonly #cards = new Part("div", "cards");
  readonly #rain = new Part("div", "rains");
  readonly #notice = h("div", "notice");
  readonly #stats = h("p", "stats");
  readonly #clock = new Part("p", "stats");
  readonly #tiles = new Part("dl", "tiles");
  readonly #events = h("ol", "events");
  readonly #sound: HTMLButtonElement;
  readonly #carriages: Map<Carriage, HTMLButtonElement>;
  readonly #stage: HTMLElement;
  #muted = true;

  constructor(root: HTMLElement, actions: Actions) {
    this.#actions = actions;
    this.#sound = button("ghost", "", () => this.#toggleSound());
    this.#labelSound();
    this.#carriages = new Map(CARRIAGES.map(([id, label]) => [id, button("", label, () => actions.carry(id))]));
    this.#stage = h("div", "stage", this.#picture, this.#cards.element, this.#rain.element, this.#notice);
    this.#notice.setAttribute("role", "status");
    this.#events.setAttribute("aria-label", "Events");

    const nav = h("nav", "panel", h("h2", "", "Streams"), this.#streams);
    root.replaceChildren(
      h("header", "top", logo(), this.#pill),
      h(
        "div",
        "columns",
        h("section", "", this.#stage, this.#bar(), this.#tiles.element, nav),
        h("aside", "panel", h("h2", "", "Events"), this.#events),
      ),
    );
  }

  #bar(): HTMLElement {
    const choice = h("div", "choice", ...this.#carriages.values());
    choice.setAttribute("role", "group");
    choice.setAttribute("aria-label", "Play over");
    const full = button("ghost", "Full screen", () => void this.#stage.requestFullscreen());
    const about = h("div", "about", this.#title, this.#stats, this.#clock.element);
    return h("div", "bar", about, h("div", "controls", choice, this.#sound, full));
  }

  streams(list: StreamInfo[], current: string | undefined): void {
    this.#streams.replaceChildren(
      ...list.map((info) => {
        const choose = button("stream", "", () => this.#actions.choose(info.name));
        if (info.name === current) choose.setAttribute("aria-current", "true");
        choose.append(h("span", "stream-name", info.name), h("span", "stream-about", about(info)));
        return h("li", "", choose);
      }),
    );
    if (list.length === 0) this.#streams.append(h("li", "quiet", "No stream is live."));
  }

  play(stream: string | undefined, carriage: Carriage, picture: HTMLElement | undefined): void {
    this.#title.textContent = stream ?? "";
    this.#picture.replaceChildren(...(picture ? [picture] : []));
    this.#events.replaceChildren(h("li", "quiet", "Events appear here with the frame they belong to."));
    for (const [id, element] of this.#carriages) element.setAttribute("aria-pressed", String(id === carriage));
  }

  state(state: State, stream: string | undefined): void {
    document.body.dataset.state = state.kind;
    this.#pill.textContent = LABELS[state.kind];
    this.#notice.replaceChildren(...notice(state, stream));
  }

  stats(stats: Stats | undefined, frames_per_s: number): void {
    const parts = stats && [
      stats.width > 0 ? `${stats.width} × ${stats.height}` : undefined,
      frames_per_s > 0 ? `${frames_per_s} fps` : undefined,
      stats.buffer_ms === undefined ? undefined : `${Math.round(stats.buffer_ms)} ms buffered`,
    ];
    this.#stats.textContent = parts?.filter((part) => part).join("  ·  ") ?? "";
  }

  /** Shows what is so; cheap when nothing changed. */
  room(current: Current | undefined): void {
    const shown = current ? cards(current) : [];
    const key = shown.map(({ event, stock }) => `${event.id} ${stock}`).join();
    this.#cards.show(key, () => shown.map(({ event, stock }) => card(event, stock)));
    const falls = current && rain(current);
    this.#rain.show(falls, (text) => [h("p", "rain", text)]);
    this.#clock.show(current && clock(current), (text) => [text]);
    const now = current ? tiles(current) : [];
    this.#tiles.show(JSON.stringify(now), () => now.map(tile));
  }

  fired(fired: Fired, verdict: Promise<Verdict>): void {
    if (fired.event.type === "clock") return;
    this.#events.querySelector(".quiet")?.remove();
    const mark = h("span", "event-mark");
    const item = h(
      "li",
      fired.replay ? "event replay" : "event",
      h("span", "event-kind", kind(fired.event)),
      h("span", "event-time", fired.replay ? "earlier" : new Date().toLocaleTimeString()),
      h("span", "event-detail", detail(fired.event)),
      mark,
    );
    item.dataset.noun = fired.event.type.split(".")[0];
    item.title = `${fired.event.type} ${fired.event.id} over ${fired.carriage}`;
    this.#events.prepend(item);
    while (this.#events.children.length > EVENTS_SHOWN_MAX) this.#events.lastElementChild?.remove();
    void verdict.then((verdict) => {
      mark.dataset.verdict = verdict;
      mark.textContent = VERDICTS[verdict];
    });
  }

  #toggleSound(): void {
    this.#muted = !this.#muted;
    this.#labelSound();
    this.#actions.mute(this.#muted);
  }

  #labelSound(): void {
    this.#sound.textContent = this.#muted ? "Sound on" : "Mute";
  }
}

/** A part of the page that is built anew only when what it says has changed. */
class Part {
  readonly element: HTMLElement;
  #shown = "";

  constructor(tag: "div" | "dl" | "p", className: string) {
    this.element = h(tag, className);
  }

  show(what: string | undefined, build: (what: string) => (Node | string)[]): void {
    if ((what ?? "") === this.#shown) return;
    this.#shown = what ?? "";
    this.element.replaceChildren(...(what ? build(what) : []));
  }
}

const tile = ({ label, value, more }: Tile): HTMLElement =>
  h("div", "tile", h("dt", "", label), h("dd", "tile-value", value), more ? h("dd", "tile-more", more) : undefined);

const VERDICTS: Record<Verdict, string> = {
  verified: "signed",
  refuted: "signature wrong",
  unchecked: "not checked",
};

const LABELS: Record<State["kind"], string> = {
  connecting: "Connecting",
  waiting: "Waiting for a publisher",
  live: "Live",
  error: "Trouble",
};

function notice(state: State, stream: string | undefined): HTMLElement[] {
  switch (state.kind) {
    case "live":
      return [];
    case "connecting":
      return [h("p", "notice-title", "Connecting…")];
    case "waiting":
      return [
        h("p", "notice-title", "Waiting for a publisher"),
        h("p", "", stream ? `${stream} starts here as soon as it is live.` : "Start a stream and it appears here."),
      ];
    case "error":
      return [h("p", "notice-title", "This isn't playing"), h("p", "", state.message)];
  }
}

function about(info: StreamInfo): string {
  const size = info.video?.height ? `${info.video.height}p ${info.video.codec}` : info.video?.codec;
  const viewers = `${info.viewers} ${info.viewers === 1 ? "viewer" : "viewers"}`;
  return [info.state === "live" ? undefined : info.state, size, viewers].filter((part) => part).join(" · ");
}

function logo(): HTMLElement {
  const mark = h("img", "mark");
  mark.src = "/console/icon.svg";
  mark.alt = "";
  return h("div", "logo", mark, "hawker");
}

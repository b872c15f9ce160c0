// The product cards over the picture, one in each corner at most.

import { h } from "./dom";
import type { LiveEvent } from "./event";
import type { Current } from "./timeline";
import { money, stock, text, title } from "./words";

const SLOTS = new Set(["top-left", "top-right", "bottom-left", "bottom-right"]);

/** What is to be drawn: each corner's newest card, with the newest word on what is left of it. */
export function cards({ active }: Current): { event: LiveEvent; stock: number | undefined }[] {
  const bySlot = new Map<string, LiveEvent>();
  const shown = active.filter((event) => event.type === "card.show").sort((a, b) => wall(a) - wall(b) || a.seq - b.seq);
  for (const event of shown) bySlot.set(slot(event), event);
  return [...bySlot.values()].map((event) => {
    const told = active.find(({ key, source }) => key === `stock:${text(event, "sku")}` && source === event.source);
    return { event, stock: told && told.seq > event.seq ? stock(told) : stock(event) };
  });
}

export function card(event: LiveEvent, left: number | undefined): HTMLElement {
  const price = money(event, "price_minor");
  const was = money(event, "list_price_minor");
  const element = h(
    "article",
    `card ${slot(event)}`,
    image(event),
    h(
      "div",
      "card-text",
      h("h3", "", title(event) ?? "Product"),
      h("p", "card-price", h("strong", "", price ?? ""), was && was !== price ? h("s", "", was) : undefined),
      left === undefined ? undefined : h("p", "card-stock", `${left} left`),
    ),
  );
  element.dataset.event = event.id;
  return element;
}

const wall = (event: LiveEvent): number => event.time.wall_ms ?? 0;

function slot(event: LiveEvent): string {
  const asked = text(event, "slot");
  return asked && SLOTS.has(asked) ? asked : "bottom-left";
}

function image(event: LiveEvent): HTMLElement | undefined {
  const source = text(event, "image");
  if (!source || !URL.canParse(source, location.href)) return undefined;
  const url = new URL(source, location.href);
  if (url.protocol !== "https:" && url.origin !== location.origin) return undefined;
  const picture = h("img", "");
  picture.alt = "";
  picture.referrerPolicy = "no-referrer";
  // A card without its picture is whole; one with a broken picture is not.
  picture.addEventListener("error", () => picture.remove());
  picture.src = url.href;
  return picture;
}

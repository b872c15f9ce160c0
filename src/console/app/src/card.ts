// The product card over the picture, and how the page words an event.

import { h } from "./dom";
import type { LiveEvent } from "./timeline";

const SLOTS = new Set(["top-left", "top-right", "bottom-left", "bottom-right"]);

/** The cards that are set now, by key; the newest one shows. */
export class Cards {
  readonly element = h("div", "cards");
  readonly #shown = new Map<string, LiveEvent>();

  apply(event: LiveEvent): void {
    if (!event.type.startsWith("card.") || event.key === undefined) return;
    const current = this.#shown.get(event.key);
    if (current && current.seq > event.seq) return;
    if (event.op === "set") this.#shown.set(event.key, event);
    else this.#shown.delete(event.key);
    const newest = [...this.#shown.values()].sort((a, b) => a.seq - b.seq).at(-1);
    this.element.replaceChildren(...(newest ? [card(newest)] : []));
  }

  clear(): void {
    this.#shown.clear();
    this.element.replaceChildren();
  }
}

function card(event: LiveEvent): HTMLElement {
  const price = money(event, "price_minor");
  const was = money(event, "list_price_minor");
  const stock = number(event, "stock");
  const slot = text(event, "slot");
  const element = h(
    "article",
    `card ${slot && SLOTS.has(slot) ? slot : "bottom-left"}`,
    image(event),
    h(
      "div",
      "card-text",
      h("h3", "", title(event)),
      h("p", "card-price", h("strong", "", price ?? ""), was && was !== price ? h("s", "", was) : undefined),
      stock !== undefined ? h("p", "card-stock", `${stock} left`) : undefined,
    ),
  );
  element.dataset.event = event.id;
  return element;
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

const WORDS: Record<string, string> = {
  "card.show": "Card shown",
  "card.hide": "Card hidden",
  "list.set": "Product list",
  "sale.start": "Sale opened",
  "sale.end": "Sale ended",
  "stock.update": "Stock",
  "price.update": "Price",
  "coupon.offer": "Coupon offered",
  "coupon.end": "Coupon ended",
  "rain.start": "Red packets",
  "poll.open": "Poll opened",
  "poll.tally": "Poll tally",
  "poll.close": "Poll closed",
  "lottery.open": "Lottery opened",
  "lottery.draw": "Lottery drawn",
  "host.set": "Host",
  "chapter.start": "Chapter",
  "prompt.show": "Prompt",
  "gift.send": "Gift",
  cancel: "Cancelled",
};

/** The kind of an event in words. */
export const kind = (event: LiveEvent): string => WORDS[event.type] ?? event.type;

/** What an event is about, in one line. */
export function detail(event: LiveEvent): string {
  const stock = event.type === "stock.update" ? number(event, "stock") : undefined;
  const amount = stock === undefined ? money(event, "price_minor") : `${stock} left`;
  const parts = [title(event, ""), amount].filter((part) => part);
  return parts.join(" · ") || event.key || "";
}

const title = (event: LiveEvent, otherwise = "Product"): string =>
  text(event, "title") ?? text(event, "name") ?? text(event, "text") ?? text(event, "sku") ?? otherwise;

/** An amount in minor units, in the viewer's own way of writing money. */
function money(event: LiveEvent, field: string): string | undefined {
  const minor = number(event, field);
  const currency = text(event, "currency");
  if (minor === undefined || !currency || !/^[A-Z]{3}$/.test(currency)) return undefined;
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

function text(event: LiveEvent, field: string): string | undefined {
  const value = event.data?.[field];
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(event: LiveEvent, field: string): number | undefined {
  const value = event.data?.[field];
  return typeof value === "number" ? value : undefined;
}

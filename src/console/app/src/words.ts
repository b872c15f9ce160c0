// How the page words an event.

import type { LiveEvent } from "./event";

const KINDS: Record<string, string> = {
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
export const kind = (event: LiveEvent): string => KINDS[event.type] ?? event.type;

/** What an event is about, in one line. */
export function detail(event: LiveEvent): string {
  const left = event.type === "stock.update" ? stock(event) : undefined;
  const amount = left === undefined ? (money(event, "price_minor") ?? discount(event)) : `${left} left`;
  const counts = Array.isArray(event.data?.counts) ? event.data.counts : [];
  return [title(event), amount, ...counts].filter((part) => part !== undefined).join(" · ") || event.key || "";
}

/** Its name, as the seller wrote it. */
export const title = (event: LiveEvent): string | undefined =>
  ["title", "name", "question", "text", "sku"].map((field) => text(event, field)).find((value) => value);

/** How much is left, under either of its names. */
export const stock = (event: LiveEvent): number | undefined => number(event, "left") ?? number(event, "stock");

/** What a coupon takes off. */
export function discount(event: LiveEvent): string | undefined {
  const off = money(event, "off_minor");
  const from = money(event, "min_minor");
  return off && `${off} off${from ? ` from ${from}` : ""}`;
}

/** An amount in minor units, in the viewer's own way of writing money. */
export function money(event: LiveEvent, field: string): string | undefined {
  const minor = number(event, field);
  const currency = text(event, "currency");
  if (minor === undefined || !currency || !/^[A-Z]{3}$/.test(currency)) return undefined;
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

export function text(event: LiveEvent, field: string): string | undefined {
  const value = event.data?.[field];
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function number(event: LiveEvent, field: string): number | undefined {
  const value = event.data?.[field];
  return typeof value === "number" ? value : undefined;
}

/** Time left as m:ss, rounded up: it reads 0:00 only when it is over. */
export function left(ms: number): string {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (value: number) => String(value).padStart(2, "0");
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes}:${two(s % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
}

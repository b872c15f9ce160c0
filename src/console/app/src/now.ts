// What is so in the room, in words: what stands beside the picture, and what goes over it for a while.

import type { LiveEvent } from "./event";
import type { Current } from "./timeline";
import { discount, left, money, number, text, title } from "./words";

/** One thing that is so. */
export interface Tile {
  label: string;
  value: string;
  more: string | undefined;
}

/** The sales, coupons, polls, chapter and host of this moment. */
export function tiles({ active, coming, now }: Current): Tile[] {
  const of = (type: string) => active.filter((event) => event.type === type);
  const keys = new Set(active.map((event) => event.key));
  const announced = coming.filter((event) => event.type === "sale.start" && !keys.has(event.key));
  return [
    ...[...of("sale.start"), ...announced].map((event) => sale(event, now.wall_ms)),
    ...of("coupon.offer").flatMap((event) => coupon(event, now.wall_ms)),
    ...of("poll.open").map((event) => poll(event, active)),
    ...of("chapter.start").map((event) => ({
      label: ["Chapter", number(event, "number")].join(" "),
      value: title(event) ?? "",
      more: undefined,
    })),
    ...of("host.set").map((event) => ({ label: "Host", value: title(event) ?? "", more: text(event, "role") })),
  ];
}

/** The rain of red packets that is announced or falls. */
export function rain({ running, coming, now }: Current): string | undefined {
  const event = [...running, ...coming].find((event) => event.type === "rain.start");
  if (!event) return undefined;
  const starts_ms = event.time.wall_ms ?? 0;
  if (starts_ms > now.wall_ms) return `Red packets in ${left(starts_ms - now.wall_ms)}`;
  return `Red packets · ${left(starts_ms + (event.time.duration_ms ?? 0) - now.wall_ms)} left`;
}

/** How well the room knows the time of its frames. */
export function clock({ active }: Current): string | undefined {
  const event = active.find((event) => event.type === "clock");
  if (!event) return undefined;
  return `room clock ± ${number(event, "error_ms") ?? "?"} ms, ${text(event, "quality") ?? "unknown"}`;
}

function sale(event: LiveEvent, now_ms: number): Tile {
  const value = [title(event), money(event, "price_minor")].filter((part) => part).join(" · ");
  return { label: "Sale", value: value || (event.key ?? ""), more: phase(event, now_ms) };
}

function phase(event: LiveEvent, now_ms: number): string | undefined {
  const opens_ms = number(event, "opens_ms");
  const closes_ms = number(event, "closes_ms");
  if (opens_ms !== undefined && now_ms < opens_ms) return `opens in ${left(opens_ms - now_ms)}`;
  if (closes_ms === undefined) return undefined;
  return now_ms < closes_ms ? `ends in ${left(closes_ms - now_ms)}` : "over";
}

/** A coupon is shown while it can be claimed, or will be. */
function coupon(event: LiveEvent, now_ms: number): Tile[] {
  const claim = event.data?.claim_ms;
  const [from_ms, to_ms] = Array.isArray(claim) ? claim : [undefined, undefined];
  if (typeof to_ms === "number" && to_ms <= now_ms) return [];
  const value = title(event) ?? discount(event) ?? event.key ?? "";
  if (typeof from_ms === "number" && from_ms > now_ms) {
    return [{ label: "Coupon", value, more: `to claim in ${left(from_ms - now_ms)}` }];
  }
  const more = typeof to_ms === "number" ? `to claim for ${left(to_ms - now_ms)}` : undefined;
  return [{ label: "Coupon", value, more }];
}

function poll(event: LiveEvent, active: LiveEvent[]): Tile {
  const options = Array.isArray(event.data?.options) ? event.data.options : [];
  const tally = active.find(({ key, source }) => key === `${event.key}:tally` && source === event.source);
  const counts = Array.isArray(tally?.data?.counts) ? tally.data.counts : [];
  const names = options.map((option: unknown) => String(Array.isArray(option) ? option[1] : option));
  const more = names.map((name, index) => [name, counts[index]].filter((part) => part !== undefined).join(" "));
  return { label: "Poll", value: title(event) ?? "", more: more.join(" · ") };
}

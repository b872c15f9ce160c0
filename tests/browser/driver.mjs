// What every driver here needs, with a browser or without.
import { parseArgs } from "node:util";

/** The command line's `--name value` pairs, with defaults. */
export function options(defaults) {
  const described = Object.entries(defaults).map(([name, value]) => [name, { type: "string", default: value }]);
  return parseArgs({ options: Object.fromEntries(described) }).values;
}

/** Throws unless `ok`. */
export function check(ok, what) {
  if (!ok) throw new Error(what);
}

/** Shows a card, with the next frame unless told otherwise; returns it as it was stamped. */
export async function post({ api, token, stream, sku, at = { now: true }, time }) {
  const response = await fetch(`${api}/v1/streams/${stream}/events`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ type: "card.show", op: "set", key: "card:main", data: { sku }, at, time }),
  });
  const body = await response.text();
  check(response.ok, `the API answered ${response.status}: ${body}`);
  return JSON.parse(body);
}

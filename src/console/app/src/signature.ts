// Who made an event: Ed25519 over its canonical form without `sig`, by a key that the server believes.

import type { Jwk } from "./api";
import type { LiveEvent } from "./event";

/** "unchecked" where the browser can't: it has no Ed25519, or the page came over plain http. */
export type Verdict = "verified" | "refuted" | "unchecked";

/** An unknown key is asked for again this often at most. */
const ASK_EVERY_MS = 10_000;

export class Signatures {
  readonly #ask: () => Promise<Jwk[]>;
  #keys: Promise<Map<string, CryptoKey> | undefined> | undefined;
  #asked_ms = -Infinity;

  /** `ask` gets the keys that the server believes. */
  constructor(ask: () => Promise<Jwk[]>) {
    this.#ask = ask;
  }

  async check(event: LiveEvent): Promise<Verdict> {
    const { kid = "", sig = "" } = event;
    let keys = await (this.#keys ??= this.#load());
    if (!keys?.has(kid) && performance.now() - this.#asked_ms > ASK_EVERY_MS) keys = await (this.#keys = this.#load());
    if (!keys) return "unchecked";
    const key = keys.get(kid);
    return key && (await verifies(key, event, sig)) ? "verified" : "refuted";
  }

  async #load(): Promise<Map<string, CryptoKey> | undefined> {
    this.#asked_ms = performance.now();
    try {
      return await imported(await this.#ask());
    } catch (error) {
      console.info("signatures are not checked:", error);
      return undefined;
    }
  }
}

async function imported(jwks: Jwk[]): Promise<Map<string, CryptoKey>> {
  const keys = new Map<string, CryptoKey>();
  for (const { kty, crv, x, kid } of jwks) {
    if (kty !== "OKP" || crv !== "Ed25519" || kid === undefined) continue;
    keys.set(kid, await crypto.subtle.importKey("jwk", { kty, crv, x }, "Ed25519", false, ["verify"]));
  }
  return keys;
}

async function verifies(key: CryptoKey, event: LiveEvent, sig: string): Promise<boolean> {
  const { sig: _, ...signed } = event;
  const text = new TextEncoder().encode(`hawker-event-v1\n${canonical(signed)}`);
  try {
    return await crypto.subtle.verify("Ed25519", key, fromBase64url(sig), text);
  } catch {
    return false;
  }
}

/** RFC 8785, for what an event may hold: ASCII keys, integers, no null. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(",")}}`;
}

const fromBase64url = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));

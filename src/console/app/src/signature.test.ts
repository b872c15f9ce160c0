import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../../tests/data/event_vectors.json";
import type { Jwk } from "./api";
import type { LiveEvent } from "./event";
import { canonical, Signatures } from "./signature";

const key: Jwk = { kty: "OKP", crv: "Ed25519", kid: vectors.kid, x: vectors.public };
const events = vectors.events as unknown as LiveEvent[];

test("the contract's signed events verify, and not after a change", async () => {
  const signatures = new Signatures(async () => [key]);
  assert.ok(events.length > 10);
  for (const event of events) {
    assert.equal(await signatures.check(event), "verified", event.id);
    assert.equal(await signatures.check({ ...event, seq: event.seq + 1 }), "refuted", event.id);
  }
});

test("an event without a signature, or by a key that the server doesn't name, is refuted", async () => {
  const [event] = events;
  assert.ok(event);
  const signatures = new Signatures(async () => [key]);
  assert.equal(await signatures.check({ ...event, sig: undefined }), "refuted");
  assert.equal(await signatures.check({ ...event, sig: "no base64!" }), "refuted");
  assert.equal(await new Signatures(async () => []).check(event), "refuted");
});

test("without keys nothing is said", async () => {
  const [event] = events;
  assert.ok(event);
  const signatures = new Signatures(() => Promise.reject(new Error("no answer")));
  assert.equal(await signatures.check(event), "unchecked");
});

test("the canonical form sorts keys by their bytes, also those that look like numbers", () => {
  const value = { b: [1, { z: "é\n", a: true }], a: -1, "9": 0, "10": 0, B: {} };
  assert.equal(canonical(value), '{"10":0,"9":0,"B":{},"a":-1,"b":[1,{"a":true,"z":"é\\n"}]}');
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Fired, type LiveEvent, parseEvent, Timeline } from "./timeline";

const event = (id: string, seq: number, time: LiveEvent["time"] = { mode: "pts" }, rest: Partial<LiveEvent> = {}): LiveEvent => ({
  id,
  seq,
  type: "card.show",
  op: "set",
  time,
  ...rest,
});

function timeline(): { timeline: Timeline; fired: Fired[]; ids: () => string[] } {
  const fired: Fired[] = [];
  return { timeline: new Timeline("moq", (f) => fired.push(f)), fired, ids: () => fired.map((f) => f.event.id) };
}

test("fires on the first displayed frame at or after its PTS, never before", () => {
  const { timeline: line, fired } = timeline();
  line.shown(1_000_000);
  line.add(event("a", 1), 1_050_000);
  line.shown(1_033_333);
  assert.equal(fired.length, 0);
  line.shown(1_066_666);
  assert.equal(fired[0]?.shown_pts_us, 1_066_666);
  assert.equal(fired[0]?.replay, false);
});

test("events from before the first frame are replayed with it, in order", () => {
  const { timeline: line, fired, ids } = timeline();
  line.add(event("b", 2), 200);
  line.add(event("a", 1), 200);
  line.add(event("future", 3), 2_000);
  line.shown(1_000);
  assert.deepEqual(ids(), ["a", "b"]);
  assert.ok(fired.every((f) => f.replay));
});

test("a repeated event is applied once", () => {
  const { timeline: line, ids } = timeline();
  for (let i = 0; i < 3; i++) {
    line.add(event("a", 1), 10);
    line.shown(10 + i);
  }
  assert.deepEqual(ids(), ["a"]);
});

test("after a restart of the timeline, events are news again from its first frame on", () => {
  const { timeline: line, fired } = timeline();
  line.shown(9_000_000);
  line.add(event("a", 1), 500_000);
  line.shown(400_000);
  line.add(event("b", 2), 450_000);
  line.shown(500_000);
  assert.deepEqual(fired.map((f) => [f.event.id, f.replay]), [["b", false], ["a", false]]);
});

test("a cancelled event never fires", () => {
  const { timeline: line, ids } = timeline();
  line.shown(0);
  line.add(event("a", 1), 100);
  line.add(event("stop", 2, { mode: "asap" }, { type: "cancel", op: "fire", data: { ref: "a" } }), undefined);
  line.shown(200);
  assert.deepEqual(ids(), ["stop"]);
});

test("an expired event is dropped", () => {
  const { timeline: line, ids } = timeline();
  line.add(event("old", 1, { mode: "asap", expires_ms: 1 }), undefined);
  assert.deepEqual(ids(), []);
});

test("what is not an event is refused", () => {
  for (const value of [null, 1, "x", [], {}, { id: "a" }, { id: "a", seq: 1, type: "x", time: null }]) {
    assert.equal(parseEvent(value), undefined);
  }
});

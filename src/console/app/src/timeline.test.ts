import assert from "node:assert/strict";
import { test } from "node:test";
import { measure } from "./clock";
import { parseEvent, parseSnapshot } from "./event";
import { at, cancel, event, fire, SOURCE } from "./testing";
import { type Fired, Timeline } from "./timeline";

function timeline() {
  const fired: Fired[] = [];
  const clock = { ms: 1_000 };
  const timeline = new Timeline(SOURCE, "moq", () => clock.ms, (f) => fired.push(f));
  return { timeline, fired, clock, ids: () => fired.map((f) => f.event.id) };
}

test("fires on the first displayed frame at or after its PTS, never before", () => {
  const { timeline: line, fired } = timeline();
  line.shown(1_000_000);
  line.add(event("a", 1, { time: at(1_050_000) }));
  line.shown(1_033_333);
  assert.equal(fired.length, 0);
  line.shown(1_066_666);
  assert.equal(fired[0]?.shown_pts_us, 1_066_666);
  assert.equal(fired[0]?.replay, false);
});

test("a joiner has the state with his first frame, as something from before", () => {
  const { timeline: line, fired, ids } = timeline();
  const events = [event("b", 2, { key: "card:left", time: at(200) }), event("a", 1, { time: at(200) })];
  line.replace({ source: SOURCE, events: [...events, event("future", 3, { time: at(2_000) })] });
  assert.deepEqual(ids(), []);
  line.shown(1_000);
  assert.deepEqual(ids(), ["a", "b"]);
  assert.ok(fired.every((f) => f.replay));
  assert.deepEqual(line.current().active.map((event) => event.id), ["a", "b"]);
});

test("a repeated event fires once", () => {
  const { timeline: line, ids } = timeline();
  for (let i = 0; i < 3; i++) {
    line.add(event("a", 1, { time: at(10) }));
    line.replace({ events: [event("a", 1, { time: at(10) })] });
    line.shown(10 + i);
  }
  assert.deepEqual(ids(), ["a"]);
});

test("after a restart of the timeline, events are news again from its first frame on", () => {
  const { timeline: line, fired } = timeline();
  line.shown(9_000_000);
  line.shown(400_000);
  line.add(event("a", 1, { time: at(500_000) }));
  line.add(event("b", 2, { time: at(450_000) }));
  line.shown(500_000);
  assert.deepEqual(fired.map((f) => [f.event.id, f.replay]), [["b", false], ["a", false]]);
});

test("a cancelled event never fires", () => {
  const { timeline: line, ids } = timeline();
  line.shown(0);
  line.add(event("a", 1, { time: at(100) }));
  line.add(event("stop", 2, { ...cancel("a"), supersedes: ["a"] }));
  line.shown(200);
  assert.deepEqual(ids(), ["stop"]);
});

test("an event of the wall clock fires at its time and ends by itself", () => {
  const { timeline: line, clock, ids } = timeline();
  line.add(event("rain", 1, fire("rain.start", { time: { mode: "wall", wall_ms: 5_000, duration_ms: 3_000 } })));
  clock.ms = 4_999;
  line.tick();
  assert.deepEqual(ids(), []);
  assert.equal(line.current().coming.length, 1);
  clock.ms = 5_000;
  line.tick();
  assert.deepEqual(ids(), ["rain"]);
  assert.equal(line.current().running.length, 1);
  clock.ms = 8_000;
  line.tick();
  assert.equal(line.current().running.length, 0);
});

test("events for all rooms count by themselves, and those of another stream not at all", () => {
  const { timeline: line } = timeline();
  line.shown(10);
  line.add(event("room", 7));
  line.add(event("all", 2, { source: "live/_global" }));
  line.add(event("other", 9, { source: "live/b" }));
  assert.deepEqual(line.current().active.map((event) => event.id), ["room", "all"]);
});

test("an expired event is dropped", () => {
  const { timeline: line, ids } = timeline();
  line.add(event("old", 1, { time: { mode: "asap", expires_ms: 1 } }));
  assert.deepEqual(ids(), []);
});

test("what is not an event is refused", () => {
  const sound = event("a", 1);
  assert.ok(parseEvent(sound));
  for (const value of [
    null, 1, "x", [], {}, { id: "a" },
    { ...sound, v: 2 }, { ...sound, time: null }, { ...sound, key: undefined }, { ...sound, op: "merge" },
    { ...sound, supersedes: "b" },
    { ...sound, time: { mode: "pts" } }, { ...sound, time: { mode: "wall", pts_us: 1 } },
  ]) {
    assert.equal(parseEvent(value), undefined);
  }
  assert.equal(parseSnapshot({ v: 1, source: "live/a", pts_us: 0, events: [null, sound] })?.events.length, 1);
  assert.equal(parseSnapshot({ v: 1, source: "live/a", pts_us: 0 }), undefined);
  const empty = { v: 1, source: "live/a", pts_us: 0, events: [], deleted: { sale: 3 }, dropped: { b: true } };
  assert.ok(parseSnapshot(empty));
  assert.equal(parseSnapshot({ ...empty, deleted: { sale: true } }), undefined);
  assert.equal(parseSnapshot({ ...empty, dropped: { b: 50 } }), undefined);
});

test("the server's time is that of the shortest round trip", async () => {
  let round = 0;
  const origin_ms = await measure(async () => {
    const before = performance.now();
    if (round++ !== 3) await new Promise((resolve) => setTimeout(resolve, 30));
    // A slow answer says what the time was long ago.
    return 1_000_000 + before;
  });
  assert.ok(Math.abs(origin_ms - 1_000_000) < 10, `${origin_ms}`);
});

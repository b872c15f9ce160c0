import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../../tests/data/room_vectors.json";
import { type LiveEvent, type Moment, parseEvent, parseSnapshot } from "./event";
import { Room } from "./room";
import { at, cancel, event, fire } from "./testing";

const moment = (ms: number): Moment => ({ pts_us: ms * 1000, wall_ms: ms });

function room(events: LiveEvent[], now: Moment): Room {
  const room = new Room();
  for (const event of events) {
    room.apply(event);
    room.advance(now);
  }
  return room;
}

const ids = (events: LiveEvent[]): string[] => events.map((event) => event.id);

const state = (room: Room, now: Moment) => ({
  active: ids(room.active(now)).sort(),
  running: ids(room.running(now)),
  coming: ids(room.coming(now)),
});

/** A different order each time, the same for the same seed. */
function shuffled<T>(items: T[], seed: number): T[] {
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const keyed = items.map((item) => ({ item, place: random() }));
  return keyed.sort((a, b) => a.place - b.place).map(({ item }) => item);
}

for (const { name, arrivals, active, more } of vectors.cases) {
  test(`as the server has it: ${name}`, () => {
    const { now } = vectors;
    // Whether time passes in between or not.
    for (const always of [true, false]) {
      const room = new Room();
      for (const arrival of arrivals as unknown[]) {
        const event = parseEvent(arrival);
        const snapshot = parseSnapshot(arrival);
        assert.ok(event ?? snapshot);
        if (event) room.apply(event);
        if (snapshot) room.replace(snapshot.events, now, snapshot);
        if (always) room.advance(now);
      }
      assert.deepEqual(Object.fromEntries(room.active(now).map(({ key, id }) => [key, id])), active);
      const rest = [...room.coming(now), ...room.running(now)].filter((event) => event.type !== "cancel");
      assert.deepEqual(ids(rest).sort(), more);
    }
  });
}

/** What is to be left of the history at 100 ms. */
const LEFT = { active: ["new card"], running: ["rain"], coming: ["coming card", "coming rain"] };

const HISTORY = [
  event("old card", 1, { time: at(10_000) }),
  event("new card", 2, { time: at(20_000) }),
  event("coming card", 3, { time: at(900_000) }),
  event("sale", 4, { type: "sale.start", key: "sale:1", time: at(30_000) }),
  event("sale end", 5, { type: "sale.end", op: "delete", key: "sale:1", time: at(40_000) }),
  event("sale again", 18, { type: "sale.start", key: "sale:1", time: at(50_000) }),
  event("sale end again", 19, { type: "sale.end", op: "delete", key: "sale:1", time: at(60_000) }),
  event("theme", 6, { type: "theme.set", key: "theme", time: at(30_000) }),
  event("stop theme", 7, cancel("theme")),
  event("expired", 8, { type: "coupon.offer", key: "coupon:1", time: { ...at(30_000), expires_ms: 60 } }),
  event("poll", 9, { type: "poll.open", key: "poll:1" }),
  event("tally", 10, { type: "poll.tally", key: "poll:1:tally" }),
  event("poll end", 11, { type: "poll.close", op: "delete", key: "poll:1" }),
  event("late tally", 12, { type: "poll.tally", key: "poll:2:tally" }),
  event("rain", 13, fire("rain.start", { time: { mode: "wall", wall_ms: 90, duration_ms: 50 } })),
  event("past rain", 14, fire("rain.start", { time: { mode: "wall", wall_ms: 10, duration_ms: 20 } })),
  event("coming rain", 15, fire("rain.start", { time: { mode: "wall", wall_ms: 500, duration_ms: 20 } })),
  event("dropped rain", 16, fire("rain.start", { time: { mode: "wall", wall_ms: 600, duration_ms: 20 } })),
  event("gift", 17, { ...fire("gift.send", { time: at(20_000) }), supersedes: ["dropped rain"] }),
];

test("any order and number of the same events leave the same state", () => {
  const now = moment(100);
  for (let seed = 1; seed <= 300; seed++) {
    const events = shuffled([...HISTORY, ...shuffled(HISTORY, seed).slice(0, 8)], seed);
    assert.deepEqual(state(room(events, now), now), LEFT, `seed ${seed}`);
  }
});

test("a snapshot over any part of it leaves the same state", () => {
  const now = moment(100);
  const truth = HISTORY.filter(({ id }) => Object.values(LEFT).flat().includes(id));
  const deleted = { "sale:1": 19, theme: 6, "coupon:1": 8, "poll:1": 11 };
  const marks = { deleted, dropped: { theme: true, "dropped rain": false } };
  for (let seed = 1; seed <= 300; seed++) {
    const before = shuffled(HISTORY, seed).slice(0, seed % HISTORY.length);
    const built = room(before, now);
    built.replace(truth, now, marks);
    for (const late of shuffled(HISTORY, seed + 1).slice(0, 5)) built.apply(late);
    built.advance(now);
    assert.deepEqual(state(built, now), LEFT, `seed ${seed}`);
  }
});

test("state that a snapshot no longer has is gone, also without its mark", () => {
  const built = room([event("a", 1), event("b", 2, { key: "card:left" })], moment(1));
  built.replace([event("b", 2, { key: "card:left" })], moment(1));
  assert.deepEqual(ids(built.active(moment(1))), ["b"]);
});

test("a one-shot that is over for the sender still comes here", () => {
  const built = room([event("gift", 1, fire("gift.send", { time: at(50_000) }))], moment(1));
  built.replace([], moment(1));
  assert.deepEqual(ids(built.fired(moment(50))), ["gift"]);
});

test("a tally goes with its poll, and the next poll of that name begins without one", () => {
  const open = event("open", 1, { type: "poll.open", key: "poll:P7" });
  const tally = event("tally", 2, { type: "poll.tally", key: "poll:P7:tally" });
  const close = event("close", 3, { type: "poll.close", op: "delete", key: "poll:P7" });
  const again = event("again", 4, { type: "poll.open", key: "poll:P7" });
  const now = moment(1);
  assert.deepEqual(ids(room([open, tally], now).active(now)), ["open", "tally"]);
  assert.deepEqual(ids(room([open, tally, close], now).active(now)), []);
  assert.deepEqual(ids(room([open, close, tally, again], now).active(now)), ["again"]);
});

test("what expires is gone from that millisecond on, and what it replaced stays gone", () => {
  const offer = event("offer", 2, { key: "coupon:1", time: { ...at(0), expires_ms: 100 } });
  const built = room([event("before", 1, { key: "coupon:1" }), offer], moment(0));
  built.advance(moment(99));
  assert.deepEqual(ids(built.active(moment(99))), ["offer"]);
  built.advance(moment(100));
  assert.deepEqual(ids(built.active(moment(100))), []);
  built.apply(event("before", 1, { key: "coupon:1" }));
  assert.deepEqual(ids(built.active(moment(100))), []);
});

test("cancelling an announced event leaves the key as it was", () => {
  const coming = event("b", 2, { time: at(900_000) });
  const stop = event("stop", 3, { ...cancel("b"), supersedes: ["b"] });
  const built = room([event("a", 1), coming, stop], moment(60));
  assert.deepEqual(ids(built.active(moment(1000))), ["a"]);
});

test("a one-shot ends by the clock that triggered it", () => {
  const wall = event("wall", 1, fire("rain.start", { time: { mode: "wall", wall_ms: 10, duration_ms: 5 } }));
  const pts = event("pts", 2, fire("rain.start", { time: { ...at(10_000), duration_ms: 5 } }));
  const built = room([wall, pts], moment(0));
  assert.deepEqual(ids(built.running({ pts_us: 14_999, wall_ms: 20 })), ["pts"]);
  assert.deepEqual(ids(built.running({ pts_us: 15_000, wall_ms: 14 })), ["wall"]);
});

test("marks stay within their bound, and the oldest go first", () => {
  const built = new Room();
  const card = (seq: number) => event(`${1000 + seq}`, seq, { key: `card:${seq}` });
  for (let seq = 1; seq <= 65; seq++) built.apply(event(`${2000 + seq}`, 1000 + seq, cancel(`${1000 + seq}`)));
  for (let seq = 1; seq <= 65; seq++) built.apply(card(seq));
  assert.deepEqual(ids(built.active(moment(1))), ["1001"]);
  built.apply(event("end", 66, { op: "delete", key: "card:66" }));
  built.advance(moment(1));
  for (const seq of [2, 3]) built.apply(event(`again ${seq}`, seq, { key: `card:${seq}` }));
  assert.deepEqual(ids(built.active(moment(1))), ["1001", "again 2"]);
});

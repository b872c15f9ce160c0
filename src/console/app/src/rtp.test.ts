import assert from "node:assert/strict";
import { test } from "node:test";
import { RtpClock } from "./rtp";

/** As the server counts: by floor, from an offset that is the session's own. */
const ticks = (pts_us: number, offset: number): number =>
  Number(BigInt.asUintN(32, (BigInt(pts_us) * 90n) / 1000n + BigInt(offset)));

const NOW_US = 1_795_362_736_487_003;
/** Some of them wrap around soon after. */
const OFFSETS = [0, 1, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000 - ticks(NOW_US, 0) - 1, 0x1_0000_0000 - ticks(NOW_US, 0) + 90_000];

test("an event fires on its frame and not on the one before, whatever told the clock last", () => {
  for (const offset of OFFSETS) {
    for (let extra_us = 0; extra_us < 1000; extra_us++) {
      const event_us = NOW_US + extra_us;
      const clock = new RtpClock();
      clock.learn(ticks(event_us, offset), event_us, false);
      const told_us = NOW_US + 7 * extra_us;
      clock.learn(ticks(told_us, offset), told_us, false);
      const read = (pts_us: number) => clock.pts_us(ticks(pts_us, offset)) ?? assert.fail("nothing is known");
      assert.ok(read(event_us) >= event_us, `${read(event_us)} for ${event_us}, offset ${offset}`);
      assert.ok(read(event_us - 1000) < event_us, `${read(event_us - 1000)} for ${event_us - 1000}, offset ${offset}`);
    }
  }
});

test("what had fired before the join puts no frame before it, and does until an event tells better", () => {
  const clock = new RtpClock();
  assert.equal(clock.pts_us(0), undefined);
  const join = ticks(NOW_US, 5);
  for (const ago_us of [60_000_000, 3_000_000, 30_000_000]) clock.learn(join, NOW_US - ago_us, true);
  const guessed_us = clock.pts_us(join) ?? assert.fail("nothing is known");
  assert.ok(guessed_us >= NOW_US - 3_000_000 && guessed_us < NOW_US - 2_999_900);
  const coming_us = NOW_US + 10_000_000;
  clock.learn(ticks(coming_us, 5), coming_us, true);
  const exact_us = clock.pts_us(join) ?? assert.fail("nothing is known");
  assert.ok(Math.abs(exact_us - NOW_US) < 30);
  clock.learn(join, NOW_US - 1_000_000, true);
  assert.equal(clock.pts_us(join), exact_us);
});

test("hours later the clock still reads, though its timestamps go round every 13 hours", () => {
  const clock = new RtpClock();
  const hour_us = 3_600_000_000;
  for (const hours of [0, 6, 12, 18]) clock.learn(ticks(NOW_US + hours * hour_us, 7), NOW_US + hours * hour_us, false);
  const frame_us = NOW_US + 24 * hour_us;
  const read_us = clock.pts_us(ticks(frame_us, 7)) ?? assert.fail("nothing is known");
  assert.ok(Math.abs(read_us - frame_us) < 30, `${read_us} for ${frame_us}`);
});

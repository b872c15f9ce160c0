// Plays by WHEP in Chromium: numbered pictures come, and cards fire on exactly the picture they were meant for.
//
//   node whep.mjs --http URL --stream NAME --api URL --token TOKEN [--view-token TOKEN] [--via HOST:PORT]
//                 [--frame-0-us N] [--frame-us N]
//
// --frame-0-us is the PTS of the picture numbered 0, as somebody else saw it.
import { inChromium, openPage } from "./chromium.mjs";
import { check, options, post } from "./driver.mjs";

const given = options({
  http: "http://127.0.0.1:8080",
  stream: "live/room",
  api: "",
  token: "",
  "view-token": "",
  via: "",
  "frame-0-us": "",
  "frame-us": "40000",
});
const { http, stream, token, via } = given;
const target = { api: given.api || http, token, stream };
const PATIENCE_MS = 20_000;

await inChromium(async (page, result) => {
  const before = await post({ ...target, sku: "SKU-0" });
  // Who comes before the next keyframe, which is a second away at most, is shown that card as it happens.
  await page.waitForTimeout(1500);
  await openPage(page, http, "whep.html", { url: `${http}/whep/${stream}`, token: given["view-token"], via });
  const seen = () => page.evaluate(() => window.seen);
  const until = (what, found, argument) =>
    page.waitForFunction(found, argument, { timeout: PATIENCE_MS }).catch(async () => {
      const { pictures, numbers, ...rest } = await seen();
      check(false, `no ${what}: ${JSON.stringify({ ...rest, pictures: pictures?.slice(-3) })}`);
    });
  await until("pictures", () => window.seen.pictures?.length >= 30);

  const cards = [];
  // A message that a bad link loses comes a retransmission later: there the cards have a lead.
  const bad = [1311, 1700, 2500].map((in_ms) => ({ at: { in_ms }, time: { lead_ms: 1000 } }));
  const good = [{ now: true }, { in_ms: 700 }, { in_ms: 1111 }, { in_ms: 1500 }].map((at) => ({ at }));
  for (const when of via ? bad : good) {
    cards.push(await post({ ...target, sku: `SKU-${cards.length + 1}`, ...when }));
  }
  await until("fired events", (count) => window.seen.fired.length >= count, cards.length);
  await page.waitForTimeout(1000);
  result.stats = await page.evaluate(() => window.stats());
  await page.evaluate(() => window.end());
  const { numbers, messages, fired, ...rest } = await seen();
  const numberOf = checkNumbers(numbers);
  const pictures = rest.pictures.map((rtp) => ({ rtp, number: numberOf(rtp) }));
  for (const event of fired) event.number = numberOf(event.rtp);
  Object.assign(result, rest, { pictures: pictures.length, numbers: Object.keys(numbers).length, fired });

  check(rest.deleted === 200, `DELETE answered ${rest.deleted}`);
  const [replayed, live] = [messages.filter(({ rp }) => rp), messages.filter(({ rp }) => !rp)];
  check(messages.indexOf(live[0]) >= replayed.length, "a snapshot in the middle");
  check(replayed.some(({ ev }) => ev.id === before.id), "the snapshot doesn't tell the card that was there before");
  const ids = (list) => list.map(({ ev }) => ev).filter(({ type }) => type === "card.show").map(({ id }) => id);
  check(ids(live).join() === cards.map(({ id }) => id).join(), `the cards came as ${JSON.stringify(live)}`);
  for (const card of cards) checkFired(fired.find(({ id }) => id === card.id), card, pictures, live);
  const sound = result.stats.find(({ kind }) => kind === "audio");
  check(sound.totalSamplesReceived > 48_000 && sound.totalAudioEnergy > 0, `no sound: ${JSON.stringify(sound)}`);
});

/** Each picture that was read has the RTP timestamp of its number; returns how to tell one from the other. */
function checkNumbers(numbers) {
  const read = Object.entries(numbers).map(([rtp, number]) => ({ rtp: Number(rtp), number }));
  const unreadable = read.filter(({ number }) => number === null).length;
  check(read.length >= 30 && unreadable === 0, `${unreadable} of ${read.length} pictures can't be read`);
  const [first] = read;
  const ticks = (Number(given["frame-us"]) * 90) / 1000;
  for (const { rtp, number } of read) {
    const [passed, expected] = [(rtp - first.rtp) | 0, (number - first.number) * ticks];
    check(Math.abs(passed - expected) < 90, `picture ${number} has the time of another: ${passed}, not ${expected}`);
  }
  return (rtp) => first.number + Math.round(((rtp - first.rtp) | 0) / ticks);
}

function checkFired(fired, card, pictures, live) {
  // The timestamp is the PTS, floored, plus what is the same for all of the session.
  const [one, us] = [live.find(({ ev }) => ev.id === card.id), card.time.pts_us];
  const first = live.find(({ ev }) => ev.time.pts_us !== undefined);
  const offset = (message) => (message.rtp - Number((BigInt(message.ev.time.pts_us) * 90n) / 1000n)) >>> 0;
  check(offset(one) === offset(first), `the RTP timestamp of ${card.id} isn't that of its PTS`);
  const frame0 = given["frame-0-us"];
  if (!frame0) return;
  const meant = Math.ceil((us - Number(frame0)) / Number(given["frame-us"]));
  check(fired.number >= meant, `${card.id} fired on picture ${fired.number}, before ${meant}`);
  const missed = pictures.filter(({ number }) => number >= meant && number < fired.number);
  check(missed.length === 0, `${card.id} fired on picture ${fired.number}, after ${meant} had been shown`);
}

// Watches a stream on hawker's own page: frames are decoded and shown, and a product card that is posted to the
// API comes up with its frame, is there at once for who comes later, and goes away again.
//
//   node play.mjs --http URL --stream NAME --over moq|whep|flv --api URL --token TOKEN [--seconds N] [--screenshot FILE]
//
// --http is the node that serves the page, --api the one that takes events.
import { distinctPictures, inChromium } from "./chromium.mjs";
import { check, options } from "./driver.mjs";

const { http, stream, over, api, token, seconds, screenshot } = options({
  http: "http://127.0.0.1:8080",
  stream: "live/sample",
  over: "moq",
  api: "",
  token: "",
  seconds: "5",
  screenshot: "",
});
const PATIENCE_MS = 20_000;
/** No publisher of these tests has longer groups of pictures. */
const GROUP_US = 2_000_000;

await inChromium(async (page, result) => {
  result.over = over;
  await page.goto(`${http}/?${new URLSearchParams({ stream, over })}`);
  const live = page.waitForFunction(() => window.hawker.state === "live", undefined, { timeout: PATIENCE_MS });
  await live.catch(async () => check(false, `never live: ${JSON.stringify(await page.evaluate(() => window.hawker))}`));

  const before = await page.evaluate(() => window.hawker.frames);
  await page.waitForTimeout(Number(seconds) * 1000);
  result.frames_per_s = ((await page.evaluate(() => window.hawker.frames)) - before) / Number(seconds);
  check(result.frames_per_s >= 5, `only ${result.frames_per_s} frames/s shown`);

  result.pictures = await distinctPictures(page, over === "moq" ? ".picture canvas" : ".picture video");
  check(result.pictures >= 5, `the picture stands still: ${result.pictures} of 10 looks differ`);

  const card = { key: "card:main", data: { title: "Wool coat", currency: "CNY", price_minor: 89900 } };
  const shown = await post({ type: "card.show", op: "set", ...card, at: { in_ms: 1000 } });
  result.show = await fired(page, shown);
  await page.waitForSelector(`.card[data-event="${shown.id}"]`);
  if (screenshot) await page.screenshot({ path: screenshot });

  // Until a keyframe is behind the card's frame, who comes is still shown that frame.
  const later_us = shown.time.pts_us + GROUP_US;
  await page.waitForFunction((us) => window.hawker.shown_us.at(-1) > us, later_us, { timeout: PATIENCE_MS });
  await page.reload();
  const told = await seen(page, shown);
  check(told.replay, `to who comes later ${shown.id} is news`);
  const first = await page.evaluate(() => window.hawker.shown_us[0]);
  check(told.shown_pts_us === first, `who came at ${first} saw ${shown.id} at ${told.shown_pts_us}`);
  await page.waitForSelector(`.card[data-event="${shown.id}"]`);

  const hidden = await post({ type: "card.hide", op: "delete", key: card.key, at: { in_ms: 500 } });
  result.hide = await fired(page, hidden);
  await page.waitForSelector(".card", { state: "detached" });
});

async function post(event) {
  const response = await fetch(`${api || http}/v1/streams/${stream}/events`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(event),
  });
  const body = await response.text();
  check(response.ok, `the API answered ${response.status}: ${body}`);
  return JSON.parse(body);
}

/** Waits for the event on the page, and checks that it is the one that was signed. */
async function seen(page, { id, time }) {
  const find = (id) => window.hawker.events.find((event) => event.id === id && event.verdict);
  const event = await (await page.waitForFunction(find, id, { timeout: PATIENCE_MS })).jsonValue();
  check(event.verdict === "verified", `the signature of ${id} is ${event.verdict}`);
  check(event.pts_us === time.pts_us, `${id} moved from ${time.pts_us} to ${event.pts_us}`);
  return event;
}

/** Waits for the event on the page, and checks that it fired on the first displayed frame at or after its PTS. */
async function fired(page, sent) {
  const { id } = sent;
  const event = await seen(page, sent);
  check(!event.replay, `${id} came after the fact`);
  check(event.shown_pts_us >= event.pts_us, `${id} fired before its frame`);
  const frames = await page.evaluate(() => window.hawker.shown_us);
  const missed = frames.filter((pts_us) => pts_us >= event.pts_us && pts_us < event.shown_pts_us);
  check(missed.length === 0, `${id} fired ${missed.length} frames late`);
  return { pts_us: event.pts_us, late_us: event.shown_pts_us - event.pts_us };
}

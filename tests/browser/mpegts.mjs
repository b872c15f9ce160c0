// Plays HTTP-FLV with mpegts.js as anyone would embed it, without hawker's page: frames are decoded, and events
// arrive as script data.
//
//   node mpegts.mjs --http URL --stream NAME [--seconds N] [--api URL --token TOKEN]
import { fileURLToPath } from "node:url";
import { check, distinctPictures, inChromium, options } from "./chromium.mjs";

const { http, stream, seconds, api, token } = options({
  http: "http://127.0.0.1:8080",
  stream: "live/sample",
  seconds: "5",
  api: "",
  token: "",
});

await inChromium(async (page, result) => {
  // An empty page on the server's own origin, so that the test needs no CORS and none of hawker's headers.
  const shell = `${http}/mpegts-test`;
  await page.route(shell, (route) => route.fulfill({ contentType: "text/html", body: "<video muted autoplay></video>" }));
  await page.goto(shell);
  await page.addScriptTag({ path: fileURLToPath(import.meta.resolve("mpegts.js")) });
  await page.evaluate((url) => {
    window.seen = { errors: [], metadata: 0, events: [] };
    const player = mpegts.createPlayer({ type: "flv", isLive: true, url }, { liveSync: true });
    player.on(mpegts.Events.ERROR, (...error) => window.seen.errors.push(error.slice(0, 2).join(" ")));
    player.on(mpegts.Events.METADATA_ARRIVED, () => (window.seen.metadata += 1));
    player.on(mpegts.Events.SCRIPTDATA_ARRIVED, (data) => data.onLiveEvent && window.seen.events.push(data.onLiveEvent));
    player.attachMediaElement(document.querySelector("video"));
    player.load();
    void player.play();
  }, `${http}/${stream}.flv`);

  await page.waitForFunction(() => document.querySelector("video").currentTime > 0, undefined, { timeout: 20_000 });
  if (token) await post();
  await page.waitForTimeout(Number(seconds) * 1000);
  result.pictures = await distinctPictures(page, "video");
  Object.assign(result, await page.evaluate(() => window.seen));
  result.frames = await page.evaluate(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames);

  check(result.errors.length === 0, `mpegts.js: ${result.errors[0]}`);
  check(result.metadata === 1, `${result.metadata} onMetaData tags; mpegts.js wants one`);
  check(result.frames >= 5 * Number(seconds), `only ${result.frames} frames decoded`);
  check(result.pictures >= 5, `the picture stands still: ${result.pictures} of 10 looks differ`);
  const event = result.events.map((tag) => JSON.parse(tag.json)).flat().find((event) => event.type === "card.show");
  check(event, "no card.show among the script tags");
});

async function post() {
  const response = await fetch(`${api || http}/v1/streams/${stream}/events`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ type: "card.show", op: "set", key: "card:main", data: { sku: "SKU-1" }, at: { now: true } }),
  });
  check(response.ok, `the API answered ${response.status}: ${await response.text()}`);
}

// Plays HTTP-FLV with mpegts.js as anyone would embed it, without hawker's page: frames are decoded, and events
// arrive as script data.
//
//   node mpegts.mjs --http URL --stream NAME [--seconds N] [--api URL --token TOKEN]
import { fileURLToPath } from "node:url";
import { distinctPictures, inChromium } from "./chromium.mjs";
import { check, options, post } from "./driver.mjs";

const { http, stream, seconds, api, token } = options({
  http: "http://127.0.0.1:8080",
  stream: "live/sample",
  seconds: "5",
  api: "",
  token: "",
});

await inChromium(async (page, result) => {
  if (token) {
    // Its group is over when the player joins.
    await post({ api: api || http, token, stream, sku: "SKU-0" });
    await page.waitForTimeout(2500);
  }
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
  if (token) for (const sku of ["SKU-1", "SKU-2", "SKU-3"]) await post({ api: api || http, token, stream, sku });
  await page.waitForTimeout(Number(seconds) * 1000);
  result.pictures = await distinctPictures(page, "video");
  Object.assign(result, await page.evaluate(() => window.seen));
  result.frames = await page.evaluate(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames);

  check(result.errors.length === 0, `mpegts.js: ${result.errors[0]}`);
  check(result.metadata === 1, `${result.metadata} onMetaData tags; mpegts.js wants one`);
  check(result.frames >= 5 * Number(seconds), `only ${result.frames} frames decoded`);
  check(result.pictures >= 5, `the picture stands still: ${result.pictures} of 10 looks differ`);
  if (!token) return;
  const [snapshot, ...events] = result.events.map((tag) => ({ ...tag, json: JSON.parse(tag.json) }));
  const told = snapshot?.json.events?.map((event) => `${event.type} ${event.data.sku ?? ""}`);
  check(snapshot?.kind === "snap" && snapshot.rp === true, "the first script tag is no snapshot");
  check(told?.join() === "clock ,card.show SKU-0", `the snapshot tells ${told}`);
  check(events.every((tag) => tag.kind === "ev" && tag.rp === false), "a snapshot in the middle of the stream");
  const skus = events.map((tag) => tag.json).filter((event) => event.type === "card.show").map((event) => event.data.sku);
  check(skus.join() === "SKU-1,SKU-2,SKU-3", `the cards came as ${skus}`);
});

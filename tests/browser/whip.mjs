// Publishes from Chromium by WHIP, and tells when pictures flow.
//
//   node whip.mjs --http URL --stream NAME --token KEY [--via HOST:PORT] [--seconds N]
import { inChromium, openPage } from "./chromium.mjs";
import { check, options } from "./driver.mjs";

const { http, stream, token, via, seconds } = options({
  http: "http://127.0.0.1:8080",
  stream: "live/room",
  token: "",
  via: "",
  seconds: "20",
});

await inChromium(async (page, result) => {
  await openPage(page, http, "whip.html", { url: `${http}/whip/${stream}`, token, via });
  await page.waitForFunction(() => window.seen?.number >= 30, undefined, { timeout: 20_000 }).catch(async () => {
    check(false, `nothing published: ${JSON.stringify(await page.evaluate(() => window.seen))}`);
  });
  console.log(JSON.stringify({ publishing: true }));
  await page.waitForTimeout(Number(seconds) * 1000);
  result.stats = await page.evaluate(() => window.stats());
  await page.evaluate(() => window.end());
  Object.assign(result, await page.evaluate(() => window.seen));
  check(result.deleted === 200, `DELETE answered ${result.deleted}`);
});

// Opens a real Chromium, and the little that every driver here needs around it.
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox", // tests run as root in containers
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--allow-loopback-in-peer-connection",
];

/**
 * Runs `test(page)` in a fresh browser and prints its result as one line of JSON, with what the page complained
 * about; the exit code says whether it passed. A failed check throws.
 */
export async function inChromium(test) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const complaints = [];
  const result = {};
  try {
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    await test(page, result);
    // A policy violation that doesn't stop the picture is still a bug.
    const refused = complaints.filter((text) => /uncaught:|Content Security Policy/.test(text));
    if (refused.length > 0) throw new Error(refused[0]);
  } catch (error) {
    result.failed = error.message;
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify({ ...result, complaints: complaints.slice(-10) }));
}

/** Opens a page of this folder on the server's own origin, so that the test needs no CORS and none of hawker's headers. */
export async function openPage(page, http, name, parameters) {
  const shell = `${http}/browser-test/`;
  await page.route(`${shell}*`, (route) => {
    const file = new URL(route.request().url()).pathname.slice("/browser-test/".length);
    return route.fulfill({ path: fileURLToPath(import.meta.resolve(`./${file}`)) });
  });
  await page.goto(`${shell}${name}?${new URLSearchParams(parameters)}`);
}

/** How many different pictures `selector` shows in `samples` looks, one every 200 ms. */
export async function distinctPictures(page, selector, samples = 10) {
  return page.evaluate(
    async ([selector, samples]) => {
      const seen = new Set();
      const small = new OffscreenCanvas(64, 36).getContext("2d", { willReadFrequently: true });
      for (let i = 0; i < samples; i++) {
        small.drawImage(document.querySelector(selector), 0, 0, 64, 36);
        seen.add(small.getImageData(0, 0, 64, 36).data.join());
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      return seen.size;
    },
    [selector, samples],
  );
}

// Bundles the page into dist/app.js and dist/app.css, which the server embeds.
// `--test` bundles the unit tests for node instead.
import { build } from "esbuild";

const test = process.argv.includes("--test");

// @moq/hang brings a software decoder for browsers without AudioDecoder. Every browser that has
// WebTransport has AudioDecoder too, so those megabytes would never run.
const withoutPolyfill = {
  name: "without-polyfill",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^@libav\.js\/|libavjs-webcodecs-polyfill$/ }, ({ path }) => ({ path, namespace: "absent" }));
    onLoad({ filter: /.*/, namespace: "absent" }, () => ({ contents: "export default undefined;" }));
  },
};

await build(
  test
    ? { entryPoints: ["src/*.test.ts"], outdir: "dist", outExtension: { ".js": ".mjs" }, bundle: true, platform: "node", format: "esm" }
    : {
        entryPoints: { app: "src/main.ts" },
        outdir: "dist",
        bundle: true,
        minify: true,
        format: "esm",
        target: "es2022",
        legalComments: "none",
        plugins: [withoutPolyfill],
        logLevel: "info",
      },
);

// Demuxes HTTP-FLV with xgplayer's own demuxer, whose script samples its player tells as `core.flvscriptdata`.
//
//   node xgplayer.mjs --http URL --stream NAME --api URL --token TOKEN
import { createRequire } from "node:module";
import { check, options, post } from "./driver.mjs";

const { FlvDemuxer } = createRequire(import.meta.url)("xgplayer-transmuxer");
const { http, stream, api, token } = options({ http: "", stream: "live/room", api: "", token: "" });

await post({ api, token, stream, sku: "SKU-0" });
const demuxer = new FlvDemuxer();
const [tags, frames] = [[], { video: 0, audio: 0 }];
const body = await fetch(`${http}/${stream}.flv`);
let posted = false;
for await (const piece of body.body) {
  const { videoTrack, audioTrack, metadataTrack } = demuxer.demux(new Uint8Array(piece));
  frames.video += videoTrack.samples.length;
  frames.audio += audioTrack.samples.length;
  tags.push(...metadataTrack.flvScriptSamples.map((sample) => sample.data));
  if (frames.video > 25 && !posted) {
    posted = true;
    await post({ api, token, stream, sku: "SKU-1" });
  }
  if (frames.video > 100) break;
}

const cards = tags
  .map((tag) => tag.onLiveEvent)
  .filter((tag) => tag)
  .flatMap(({ kind, json }) => (kind === "snap" ? JSON.parse(json).events : [JSON.parse(json)]))
  .filter((event) => event.type === "card.show")
  .map((event) => event.data.sku);
console.log(JSON.stringify({ frames, cards, tags: tags.map((tag) => Object.keys(tag)[0]) }));
check(tags.filter((tag) => tag.onMetaData).length === 1, "not one onMetaData");
check(frames.audio > 0, "no sound");
check(cards.join() === "SKU-0,SKU-1", `the cards came as ${cards}`);
process.exit(0);

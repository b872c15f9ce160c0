import assert from "node:assert/strict";
import { test } from "node:test";
import { askForStereo } from "./sdp";

/** Of Chrome, in part. */
const OFFER = [
  "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9",
  "a=rtpmap:111 opus/48000/2",
  "a=rtcp-fb:111 transport-cc",
  "a=fmtp:111 minptime=10;useinbandfec=1",
  "a=rtpmap:63 red/48000/2",
  "a=fmtp:63 111/111",
  "",
].join("\r\n");

test("Opus is asked for in stereo, once, and nothing else is changed", () => {
  const asked = askForStereo(OFFER);
  assert.equal(asked, OFFER.replace("useinbandfec=1", "useinbandfec=1;stereo=1"));
  assert.equal(askForStereo(asked), asked);
});

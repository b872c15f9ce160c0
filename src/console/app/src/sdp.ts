// What browsers leave out of their offers.

/** Chrome decodes Opus to one channel unless its own description asks for two (RFC 7587 §6.1). */
export function askForStereo(offer: string): string {
  const opus = [...offer.matchAll(/^a=rtpmap:(\d+) opus\/48000/gim)].map(([, payloadType]) => payloadType);
  return offer.replace(/^a=fmtp:(\d+) [^\r\n]*/gm, (line, payloadType: string) =>
    opus.includes(payloadType) && !/[ ;]stereo=/.test(line) ? `${line};stereo=1` : line,
  );
}

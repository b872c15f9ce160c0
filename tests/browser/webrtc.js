// What both pages need: the number in a picture (tests/peers/counter.py says how), and WHIP or WHEP (RFC 9725).

const BITS = 16;

/** Paints `number` on top of a canvas. */
export function paint(canvas, number) {
  const context = canvas.getContext("2d");
  const [width, height] = [canvas.width / BITS, canvas.height / 9];
  for (let column = 0; column < BITS; column++) {
    const one = (number >> (BITS - 1 - column)) & 1;
    for (const row of [0, 1]) {
      context.fillStyle = one !== row ? "white" : "black";
      context.fillRect(column * width, row * height, width, height);
    }
  }
}

/** The number in a VideoFrame; null if it can't be read. */
export async function read(frame) {
  const planes = new Uint8Array(frame.allocationSize());
  const [luma] = await frame.copyTo(planes);
  const { width, height } = frame.visibleRect;
  const white = (column, row) => {
    const [x, y] = [((2 * column + 1) * width) / (2 * BITS), ((2 * row + 1) * height) / 18].map(Math.floor);
    return planes[luma.offset + y * luma.stride + x] > 127;
  };
  let number = 0;
  for (let column = 0; column < BITS; column++) {
    const one = white(column, 0);
    if (one === white(column, 1)) return null;
    number = 2 * number + Number(one);
  }
  return number;
}

/** A peer connection that tells its state in `window.seen`. */
export function connection() {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  window.seen = { state: "new" };
  peer.addEventListener("connectionstatechange", () => (window.seen.state = peer.connectionState));
  return peer;
}

/** Posts the offer and takes the answer; returns how to end the session. */
export async function exchange(peer, { url, token, via }) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  await peer.setLocalDescription();
  await new Promise((resolve) => {
    if (peer.iceGatheringState === "complete") resolve();
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
  });
  const response = await fetch(url, {
    method: "POST",
    headers: { ...headers, "content-type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  const body = await response.text();
  Object.assign(window.seen, { status: response.status, offer: peer.localDescription.sdp, answer: body });
  if (response.status !== 201) return undefined;
  const resource = new URL(response.headers.get("location"), response.url);
  await peer.setRemoteDescription({ type: "answer", sdp: via ? reroute(body, via) : body });
  return async () => {
    window.seen.deleted = (await fetch(resource, { method: "DELETE", headers })).status;
    peer.close();
  };
}

/** The answer with every UDP candidate at `via`, and without the others. */
function reroute(sdp, via) {
  const [host, port] = via.split(":");
  return sdp
    .split("\r\n")
    .filter((line) => !/^a=candidate:.* tcp /i.test(line))
    .map((line) => line.replace(/^(a=candidate:\S+ \d+ udp \d+) \S+ \d+/i, `$1 ${host} ${port}`))
    .join("\r\n");
}

/** The page's own parameters. */
export const parameters = Object.fromEntries(new URLSearchParams(location.search));

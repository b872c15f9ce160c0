"""What aiortc's publisher and player share: WHIP and WHEP over HTTP (RFC 9725), and words for the test, JSON a line."""

import argparse
import asyncio
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

import aioice.ice
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

# Only this machine: aioice would leave out loopback and take all else.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


def say(**what):
    print(json.dumps(what), flush=True)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("url")
    parser.add_argument("--token", help="sent as Bearer: a publish key or a viewer's token")
    parser.add_argument("--seconds", type=float, default=30, help="longest run")
    parser.add_argument("--via", metavar="HOST:PORT", help="where media goes instead of the answer's candidates")
    return parser


class Refused(Exception):
    pass


class Session:
    """A WHIP or WHEP session: a peer connection and its resource."""

    def __init__(self, options):
        self.options = options
        # RFC 9725, section 4.4.2: max-bundle. No servers, so that nothing is asked of the Internet.
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.resource = None
        self.closed = asyncio.Event()
        self.peer.on("connectionstatechange", self._changed)

    def _changed(self):
        say(state=self.peer.connectionState)
        if self.peer.connectionState in ("failed", "closed"):
            self.closed.set()

    async def start(self):
        await self.peer.setLocalDescription(await self.peer.createOffer())
        status, headers, body = await self._request(
            "POST", self.options.url, self.peer.localDescription.sdp, {"Content-Type": "application/sdp"}
        )
        if status != 201:
            say(refused=status, body=body)
            raise Refused
        say(answer=body, location=headers["Location"], etag=headers["ETag"], type=headers["Content-Type"])
        self.resource = urllib.parse.urljoin(self.options.url, headers["Location"])
        answer = reroute(body, self.options.via) if self.options.via else body
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def end(self):
        status, _, _ = await self._request("DELETE", self.resource)
        say(deleted=status)
        await self.peer.close()

    async def _request(self, method, url, body=None, headers=()):
        request = urllib.request.Request(url, body and body.encode(), dict(headers), method=method)
        if self.options.token:
            request.add_header("Authorization", f"Bearer {self.options.token}")

        def run():
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(request, timeout=10) as reply:
                    return reply.status, reply.headers, reply.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.headers, error.read().decode()

        return await asyncio.to_thread(run)


def reroute(sdp, via):
    """The answer with every UDP candidate at `via`, and without the others."""
    lines = [line for line in sdp.split("\r\n") if not re.match("a=candidate:.* tcp ", line, re.IGNORECASE)]
    to = r"\g<1> " + via.replace(":", " ")
    return "\r\n".join(re.sub(r"^(a=candidate:\S+ \d+ udp \d+) \S+ \d+", to, line, flags=re.IGNORECASE) for line in lines)


def run(main, options):
    """Runs `main(options)` for no longer than it may. Exit status: 2 if the server refused, 3 if it hung."""
    try:
        asyncio.run(asyncio.wait_for(main(options), options.seconds + 15))
    except Refused:
        sys.exit(2)
    except TimeoutError:
        say(failed="it hangs")
        sys.exit(3)

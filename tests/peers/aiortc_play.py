"""Plays by WHEP with aiortc, and prints what it sees and hears, one JSON object a line.

{"track": "video", "rtp", "number"}    a displayed picture: its RTP timestamp and the number in it, null if unreadable
{"track": "audio", "rtp", "beep"}      a beep begins; "rtp" is that of its first sample
{"report": "video" | "audio", "rtp", "ntp_us"}   an RTCP sender report: what binds the two clocks
{"message"}                            on the data channel `live-events`
{"fired", "rtp", "number"}             an event fires: the first displayed picture with a time no less than the event's
{"stats"}                              once a second
"""

import asyncio
import json

import aiortc.rtcrtpreceiver
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket

import counter
from whip_whep import Session, arguments, run, say

# A frame's pts shall be the RTP timestamp itself.
aiortc.rtcrtpreceiver.TimestampMapper.map = lambda self, timestamp: timestamp


class Events:
    """Fires each event with its picture."""

    def __init__(self):
        self.pending = []

    def on_message(self, text):
        message = json.loads(text)
        say(message=message)
        if not message["rp"]:
            self.pending.append(message)

    def on_picture(self, rtp, number):
        due = [message for message in self.pending if (rtp - message["rtp"]) % 2**32 < 2**31]
        for message in due:
            self.pending.remove(message)
            say(fired=message["ev"]["id"], rtp=rtp, event_rtp=message["rtp"], number=number)


class Player:
    def __init__(self, options):
        self.session = Session(options)
        self.events = Events()
        self.stats = {"pictures": 0, "unreadable": 0, "sounds": 0, "beeps": 0, "packets": 0, "nacks": 0, "plis": 0}
        self.beeps = counter.BeepFinder()
        peer = self.session.peer
        for kind in ["video"] if options.silent else ["video", "audio"]:
            self.tap(peer.addTransceiver(kind, direction="recvonly").receiver, kind)
        if not options.no_events:
            channel = peer.createDataChannel("live-events")
            channel.on("message", self.events.on_message)
            channel.on("open", lambda: say(channel="open"))
        self.tasks = []
        peer.on("track", lambda track: self.tasks.append(asyncio.ensure_future(self.follow(track))))

    def tap(self, receiver, kind):
        """Counts packets, NACKs and PLIs, and tells sender reports; aiortc keeps them to itself."""
        rtp, rtcp, nack, pli = (
            receiver._handle_rtp_packet,
            receiver._handle_rtcp_packet,
            receiver._send_rtcp_nack,
            receiver._send_rtcp_pli,
        )

        def on_rtp(packet, arrival_time_ms):
            self.stats["packets"] += 1
            return rtp(packet, arrival_time_ms)

        def on_rtcp(packet):
            if isinstance(packet, RtcpSrPacket):
                sent = packet.sender_info
                say(report=kind, rtp=sent.rtp_timestamp, ntp_us=sent.ntp_timestamp * 10**6 >> 32)
            return rtcp(packet)

        def on_nack(ssrc, lost):
            self.stats["nacks"] += len(lost)
            return nack(ssrc, lost)

        def on_pli(ssrc):
            self.stats["plis"] += 1
            return pli(ssrc)

        receiver._handle_rtp_packet, receiver._handle_rtcp_packet = on_rtp, on_rtcp
        receiver._send_rtcp_nack, receiver._send_rtcp_pli = on_nack, on_pli

    async def follow(self, track):
        look = self.look if track.kind == "video" else self.listen
        try:
            while True:
                look(await track.recv())
        except MediaStreamError:
            say(ended=track.kind)

    def look(self, frame):
        number = counter.read(frame)
        self.stats["pictures"] += 1
        self.stats["unreadable"] += number is None
        say(track="video", rtp=frame.pts, number=number)
        self.events.on_picture(frame.pts, number)

    def listen(self, frame):
        self.stats["sounds"] += 1
        at = self.beeps.look(frame)
        if at is not None:
            self.stats["beeps"] += 1
            say(track="audio", rtp=(frame.pts + at) % 2**32, beep=self.stats["beeps"])

    async def play(self, seconds):
        await self.session.start()
        try:
            async with asyncio.timeout(seconds):
                while not self.session.closed.is_set():
                    await asyncio.sleep(1)
                    say(stats=self.stats)
        except TimeoutError:
            pass
        if not self.session.closed.is_set():
            await self.session.end()


async def main(options):
    await Player(options).play(options.seconds)


parser = arguments(__doc__)
parser.add_argument("--silent", action="store_true", help="no sound")
parser.add_argument("--no-events", action="store_true", help="no data channel")
run(main, parser.parse_args())

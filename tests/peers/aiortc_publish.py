"""Publishes numbered frames and beeps by WHIP with aiortc, and prints what happens, one JSON object a line.

Frame N has N in its picture (counter.py) and the time N / fps; a beep begins with each full second.
"""

import asyncio
import fractions
import random
import time

import av
from aiortc import MediaStreamTrack, RTCRtpSender

import counter
from whip_whep import Session, arguments, run, say


class Numbered(MediaStreamTrack):
    kind = "video"

    def __init__(self, started, fps):
        super().__init__()
        self.painter = counter.Painter(320, 180)
        self.started, self.fps, self.number = started, fps, 0

    async def recv(self):
        number, self.number = self.number, self.number + 1
        await sleep_until(self.started + number / self.fps)
        frame = self.painter.paint(number)
        frame.pts, frame.time_base = number * 90_000 // self.fps, fractions.Fraction(1, 90_000)
        if number % self.fps == 0:
            say(sent=number)
        return frame


class Beeping(MediaStreamTrack):
    kind = "audio"
    SAMPLES = counter.SAMPLE_RATE // 50

    def __init__(self, started):
        super().__init__()
        self.started, self.at = started, 0

    async def recv(self):
        first, self.at = self.at, self.at + self.SAMPLES
        # Sound exists when its last sample does.
        await sleep_until(self.started + self.at / counter.SAMPLE_RATE)
        frame = av.AudioFrame(format="s16", layout="mono", samples=self.SAMPLES)
        frame.planes[0].update(counter.beeps(first, self.SAMPLES))
        frame.sample_rate = counter.SAMPLE_RATE
        frame.pts, frame.time_base = first, fractions.Fraction(1, counter.SAMPLE_RATE)
        return frame


async def sleep_until(at):
    await asyncio.sleep(max(0.0, at - time.monotonic()))


def only(codec):
    """The codec and its retransmissions."""
    capabilities = RTCRtpSender.getCapabilities("video").codecs
    return [each for each in capabilities if each.mimeType.lower() in (f"video/{codec}", "video/rtx")]


def count_feedback(sender):
    """Counts what the server asks for."""
    counts = {"nack": 0, "pli": 0}
    retransmit, keyframe = sender._retransmit, sender._send_keyframe

    def nack(sequence_number):
        counts["nack"] += 1
        return retransmit(sequence_number)

    def pli():
        counts["pli"] += 1
        keyframe()

    sender._retransmit, sender._send_keyframe = nack, pli
    return counts


async def main(options):
    session = Session(options)
    # Time begins with the connection: the tracks are first asked for a frame then.
    started = time.monotonic() + 0.5
    video = session.peer.addTransceiver(Numbered(started, options.fps), direction="sendonly")
    video.setCodecPreferences(only(options.codec))
    if not options.silent:
        session.peer.addTransceiver(Beeping(started), direction="sendonly")
    feedback = count_feedback(video.sender)
    await session.start()
    try:
        async with asyncio.timeout(options.seconds):
            while not session.closed.is_set():
                await asyncio.sleep(1)
                say(feedback=feedback)
    except TimeoutError:
        pass
    if not session.closed.is_set():
        await session.end()


parser = arguments(__doc__)
parser.add_argument("--codec", default="h264", choices=["h264", "vp8"])
parser.add_argument("--fps", type=int, default=30)
parser.add_argument("--silent", action="store_true", help="no sound")
random.seed(1)
run(main, parser.parse_args())

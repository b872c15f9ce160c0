"""Plays a URL that ffmpeg knows (HTTP-FLV, RTMP) and prints what it sees and hears, one JSON object a line.

{"track": "video", "ms", "number"}   a picture: its PTS and the number in it (counter.py), null if unreadable
{"track": "audio", "ms", "beep"}     a beep begins; "ms" is the PTS of its first sample

usage: av_play.py URL
"""

import json
import sys

import av

import counter


def say(**what):
    print(json.dumps(what), flush=True)


beeps, heard = counter.BeepFinder(), 0
with av.open(sys.argv[1], options={"fflags": "nobuffer"}, timeout=10) as container:
    for each in container.streams.video:
        each.thread_type = "NONE"
    for packet in container.demux(video=0, audio=0):
        for frame in packet.decode():
            ms = float(frame.pts * frame.time_base) * 1000
            if isinstance(frame, av.VideoFrame):
                say(track="video", ms=round(ms), number=counter.read(frame))
            elif (at := beeps.look(frame)) is not None:
                heard += 1
                say(track="audio", ms=round(ms + at * 1000 / counter.SAMPLE_RATE), beep=heard)

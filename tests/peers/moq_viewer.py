"""Watches a broadcast with PyPI moq-rs and prints what it sees, one JSON object a line.

usage: moq_viewer.py URL BROADCAST [--numbers]

--numbers reads the numbers in the pictures, too (counter.py).
"""

import asyncio
import json
import sys

import moq


def say(**what):
    print(json.dumps(what), flush=True)


async def media(broadcast, name, entry):
    # Follows what is live; the consumer gives frames in decode order and skips what hangs.
    async for frame in await broadcast.subscribe_media(name, entry):
        say(track=name, pts_us=frame.timestamp_us, keyframe=frame.keyframe, bytes=len(frame.payload))


async def numbers(broadcast, entry):
    import av

    import counter

    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata, decoder.thread_type = bytes(entry.description), "NONE"
    async for frame in await broadcast.subscribe_media("video", entry):
        packet = av.Packet(frame.payload)
        packet.pts = frame.timestamp_us
        for picture in decoder.decode(packet):
            say(track="numbers", pts_us=picture.pts, number=counter.read(picture))


async def events(broadcast):
    track = await broadcast.subscribe_track("events")
    async for group in track:
        async for frame in group:
            for record in json.loads(frame.payload):
                say(track="events", record=record)


def merge(value, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, part in patch.items():
        if part is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), part)
    return merged


async def state(broadcast):
    track = await broadcast.subscribe_track("state")
    async for group in track:
        value = None
        async for frame in group:
            value = merge(value, json.loads(frame.payload))
            say(track="state", value=value)


async def main(url, path, option=""):
    async with moq.Client(url, tls_verify=False, websocket_enabled=False) as client:
        broadcast = await client.announced_broadcast(path)
        say(announced=path)
        catalog = await broadcast.catalog()
        video, audio = catalog.video["video"], catalog.audio["audio"]
        say(catalog={"video": video.codec, "audio": audio.codec, "sections": sorted(catalog.sections)})
        more = [numbers(broadcast, video)] if option == "--numbers" else []
        await asyncio.gather(
            media(broadcast, "video", video), media(broadcast, "audio", audio), events(broadcast), state(broadcast), *more
        )


asyncio.run(main(*sys.argv[1:]))

"""A frame's number in its own picture, and a beep with every full second: what survives any codec.

The top of the picture is two rows of 16 squares, each 1/16 of the width and 1/9 of the height. The upper row is the
number in binary, white for one, highest bit first; the lower row is its complement, so that a wrong reading shows.
"""

import random

import av

BITS = 16
WHITE, BLACK = 235, 16

SAMPLE_RATE = 48_000
BEEP_HZ = 1000
BEEP_SAMPLES = SAMPLE_RATE // 10
LOUD = 8000
# A beep begins after this much silence.
SILENCE_SAMPLES = SAMPLE_RATE // 5


class Painter:
    """Makes the pictures: a texture that moves below the number, so that frames take more than one packet."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        dice = random.Random(1)
        # One strip per 4 lines, twice as wide as the picture, of patches 8 wide.
        self.strips = [
            b"".join(bytes([dice.randrange(40, 200)]) * 8 for _ in range(width // 4)) for _ in range(height // 4 + 1)
        ]

    def paint(self, number):
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        ones = [bool(number >> bit & 1) for bit in reversed(range(BITS))]
        squares = [
            b"".join(bytes([WHITE if one else BLACK]) * (self.width // BITS) for one in row)
            for row in (ones, [not one for one in ones])
        ]
        square_height = self.height // 9
        shift = 3 * number % self.width

        def line(y):
            if y < 2 * square_height:
                return squares[y // square_height]
            return self.strips[y // 4][shift : shift + self.width]

        luma, *chroma = frame.planes
        fill(luma, (line(y) for y in range(self.height)))
        for plane in chroma:
            fill(plane, (bytes([128]) * plane.width for _ in range(plane.height)))
        return frame


def fill(plane, lines):
    plane.update(b"".join(line.ljust(plane.line_size, b"\0") for line in lines))


def read(frame):
    """The number in a picture of any size; None if it can't be read."""
    luma = frame.planes[0]
    data = memoryview(luma)

    def is_white(column, row):
        x = (2 * column + 1) * frame.width // (2 * BITS)
        y = (2 * row + 1) * frame.height // 18
        patch = [data[(y + dy) * luma.line_size + x + dx] for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
        return sum(patch) > 9 * 128

    number = 0
    for column in range(BITS):
        one = is_white(column, 0)
        if one == is_white(column, 1):
            return None
        number = 2 * number + one
    return number


def beeps(first, count):
    """`count` mono samples (s16) from sample number `first` on."""
    import array
    import math

    def sample(at):
        in_second = at % SAMPLE_RATE
        if in_second >= BEEP_SAMPLES:
            return 0
        return round(20_000 * math.sin(2 * math.pi * BEEP_HZ * in_second / SAMPLE_RATE))

    return array.array("h", (sample(at) for at in range(first, first + count))).tobytes()


class BeepFinder:
    """Finds where beeps begin."""

    def __init__(self):
        self.silence = 0
        self.resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)

    def look(self, frame):
        """Samples into the frame where a beep begins, or None."""
        found, position = None, 0
        for part in self.resampler.resample(frame):
            for at, sample in enumerate(memoryview(part.planes[0]).cast("h")[: part.samples]):
                if abs(sample) < LOUD:
                    self.silence += 1
                    continue
                if self.silence >= SILENCE_SAMPLES:
                    found = position + at
                self.silence = 0
            position += part.samples
        return found

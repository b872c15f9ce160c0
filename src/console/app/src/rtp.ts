// RTP's clock of video, and what it reads on the stream's timeline.

const TICK_US = 1000 / 90;

export class RtpClock {
  /** A PTS and its timestamp. */
  #known: { pts_us: number; rtp: number } | undefined;

  /**
   * Takes the timestamp that came with an event of this PTS. What had fired before the join (`replay`) may come with
   * that of a later frame: whichever of those is nearest must do, until an event tells better.
   */
  learn(rtp: number, pts_us: number, replay: boolean): void {
    const before_us = this.#read(rtp);
    if (!replay || before_us === undefined || before_us < pts_us) this.#known = { pts_us, rtp };
  }

  /** The PTS of a frame with this timestamp, if any is known; never less than that of an event with the same one. */
  pts_us(rtp: number): number | undefined {
    const pts_us = this.#read(rtp);
    // Of each timestamp what stood behind the tick was cut off.
    return pts_us === undefined ? undefined : Math.ceil(pts_us + TICK_US);
  }

  #read(rtp: number): number | undefined {
    // `| 0` makes of a difference modulo 2^32 the signed one.
    return this.#known && this.#known.pts_us + ((rtp - this.#known.rtp) | 0) * TICK_US;
  }
}

// The server's clock, by which events of the wall clock fire and sales count down: the viewer's own may be wrong.

const ROUNDS = 5;
const AGAIN_MS = 60_000;

export class ServerClock {
  /** UTC milliseconds at the page's time 0; the viewer's own clock until the server has answered. */
  #origin_ms = Date.now() - performance.now();

  /** `ask` gets the server's time in UTC milliseconds. */
  constructor(ask: () => Promise<number>) {
    void this.#follow(ask);
  }

  readonly now = (): number => this.#origin_ms + performance.now();

  async #follow(ask: () => Promise<number>): Promise<void> {
    for (;;) {
      this.#origin_ms = (await measure(ask).catch(() => undefined)) ?? this.#origin_ms;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

/**
 * When, by the server's clock, the page's time 0 was. Of several round trips the shortest errs least: by half of
 * itself at most.
 */
export async function measure(ask: () => Promise<number>): Promise<number> {
  let best = { trip_ms: Infinity, origin_ms: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const asked_ms = performance.now();
    const server_ms = await ask();
    const trip_ms = performance.now() - asked_ms;
    if (trip_ms < best.trip_ms) best = { trip_ms, origin_ms: server_ms - asked_ms - trip_ms / 2 };
  }
  return best.origin_ms;
}

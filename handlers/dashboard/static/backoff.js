// Pauses between attempts: doubled each time up to a longest one, and scattered, so that a thousand pages that lost the
// server at once do not come back at once.
export class Backoff {
  #attempts = 0;
  #first;
  #longest;

  constructor(firstMilliseconds, longestMilliseconds) {
    this.#first = firstMilliseconds;
    this.#longest = longestMilliseconds;
  }

  next() {
    const bound = Math.min(this.#longest, this.#first * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, 20);
    return bound / 2 + (Math.random() * bound) / 2;
  }

  reset() {
    this.#attempts = 0;
  }
}

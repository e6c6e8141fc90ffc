// Weights between untrained and trained. A page has no room for both, so of the untrained it has the distribution.

// Tommy Ettinger's mulberry32: numbers from 0 to 1, without 1, of a whole number.
export function random(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Of each tensor as many new numbers as it has, by its quantiles and its place in the list; where it has none, its own.
export function untrained(tensors, trained) {
  const found = new Float32Array(trained);
  tensors.forEach(({ at, size, quantiles }, seed) => {
    if (!quantiles) return;
    const next = random(seed);
    const last = quantiles.length - 1;
    for (let i = at; i < at + size; i++) {
      const place = next() * last;
      const k = Math.floor(place);
      found[i] = quantiles[k] + (place - k) * (quantiles[k + 1] - quantiles[k]);
    }
  });
  return found;
}

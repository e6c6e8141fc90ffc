// Weights between untrained and trained. To save space, a page has only the distribution of the untrained ones.

// Tommy Ettinger's mulberry32: uniform numbers in [0, 1) from an integer seed.
export function random(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Samples each tensor from its quantiles, with its index as the seed; a tensor without quantiles keeps its values.
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

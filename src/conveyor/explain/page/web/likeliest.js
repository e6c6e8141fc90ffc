/** The most probable tokens, likeliest first. */
export function likeliest(probabilities, count) {
  const best = [];
  for (let token = 0; token < probabilities.length; token += 1) {
    if (best.length < count || probabilities[token] > probabilities[best.at(-1)]) {
      let at = best.length;
      while (at > 0 && probabilities[best[at - 1]] < probabilities[token]) {
        at -= 1;
      }
      best.splice(at, 0, token);
      best.length = Math.min(best.length, count);
    }
  }
  return best;
}

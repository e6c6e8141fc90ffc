/** Places of the run's text that are like a span. */
export function mountFinder() {}

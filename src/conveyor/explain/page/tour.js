/** The guided tour. */
export function mountTour() {}

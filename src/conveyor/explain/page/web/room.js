/** Finds free space for labels beside the parts of a diagram. */

const SAMPLE = 5; // between the points of a line that are looked at
const GAPS = [3, 6, 10, 14, 18, 22, 27, 32];
const TAKEN = ".shape, text:not(.numbers text, .cut-names text), .numbers > g";

/**
 * For each of `groups` the corner of a box of this size: [group, {x, y}], or [group, null] where there is no room near.
 * Boxes do not cover each other either. `sizeOf(group)` gives the size.
 */
export function findRoom(svg, groups, sizeOf) {
  const boxes = [...svg.querySelectorAll(TAKEN)].map((one) => boxOf(svg, one));
  const points = [...svg.querySelectorAll("path.wire, rect.module")].flatMap(sampled);
  const all = svg.viewBox.baseVal;
  return groups.map((group) => {
    const around = group.querySelector(".shape") ?? group;
    const places = candidates(boxOf(svg, around), sizeOf(group)); // near ones first
    const free = places.find((place) => isFree(place, boxes, points, all)) ?? null;
    if (free) {
      boxes.push(free);
    }
    return [group, free];
  });
}

function boxOf(svg, element) {
  const { x, y, width, height } = element.getBBox();
  const to = svg.getCTM().inverse().multiply(element.getCTM());
  return { x: x + to.e, y: y + to.f, width, height };
}

function sampled(path) {
  const length = path.getTotalLength();
  const to = path.ownerSVGElement.getCTM().inverse().multiply(path.getCTM());
  const count = Math.max(2, Math.ceil(length / SAMPLE));
  return Array.from({ length: count + 1 }, (_, i) => {
    const { x, y } = path.getPointAtLength((i * length) / count);
    return { x: x + to.e, y: y + to.f };
  });
}

/** Boxes around a shape, near ones first. */
function candidates(around, { width, height }) {
  const found = [];
  for (const gap of GAPS) {
    const rows = [around.y - height - gap, around.y + (around.height - height) / 2, around.y + around.height + gap];
    const columns = [around.x - width - gap, around.x - width / 2, around.x + (around.width - width) / 2];
    columns.push(around.x + around.width - width / 2, around.x + around.width + gap);
    found.push(...rows.flatMap((y) => columns.map((x) => ({ x, y, width, height }))));
  }
  return found;
}

/** Whether a box lies on nothing else and within the picture. */
function isFree(box, boxes, points, all) {
  const [right, low] = [box.x + box.width, box.y + box.height];
  const meets = (one) => one.x < right && box.x < one.x + one.width && one.y < low && box.y < one.y + one.height;
  const hit = ({ x, y }) => x > box.x - 2 && x < right + 2 && y > box.y - 2 && y < low + 2;
  const within = box.x >= all.x && box.y >= all.y && right <= all.x + all.width && low <= all.y + all.height;
  return within && !boxes.some(meets) && !points.some(hit);
}

/** Where something small fits beside the parts of a picture without covering anything. */

const SAMPLE = 7; // between the points of a line that are looked at

/** For each of `groups` the corner of a box of this size: [group, {x, y}]. Boxes do not cover each other either. */
export function findRoom(svg, groups, size) {
  const boxes = [...svg.querySelectorAll("g.part .shape, g.part text, text.letter")].map((one) => boxOf(svg, one));
  const points = [...svg.querySelectorAll("path.wire, rect.module")].flatMap(sampled);
  const all = svg.viewBox.baseVal;
  return groups.map((group) => {
    const around = group.querySelector(".shape") ?? group;
    const places = candidates(boxOf(svg, around), size);
    let best = null;
    for (const place of places) {
      const cost = covered(place, boxes, points, all) + place.far / 1000;
      if (!best || cost < best.cost) {
        best = { ...place, cost };
      }
    }
    boxes.push(best);
    return [group, best];
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
  for (const gap of [3, 8, 14, 22, 32]) {
    const rows = [around.y - height - gap, around.y + around.height / 2 - height / 2, around.y + around.height + gap];
    const columns = [around.x - width - gap, around.x - width / 2, around.x + around.width / 2 - width / 2];
    columns.push(around.x + around.width - width / 2, around.x + around.width + gap);
    for (const y of rows) {
      for (const x of columns) {
        found.push({ x, y, width, height, far: gap });
      }
    }
  }
  return found;
}

/** How much of other things a box would lie upon. */
function covered(box, boxes, points, all) {
  const meets = (one) =>
    one.x < box.x + box.width && box.x < one.x + one.width && one.y < box.y + box.height && box.y < one.y + one.height;
  const hit = ({ x, y }) => x > box.x - 2 && x < box.x + box.width + 2 && y > box.y - 2 && y < box.y + box.height + 2;
  const outside =
    box.x < all.x || box.y < all.y || box.x + box.width > all.x + all.width || box.y + box.height > all.y + all.height;
  return 20 * outside + 4 * boxes.filter(meets).length + points.filter(hit).length;
}

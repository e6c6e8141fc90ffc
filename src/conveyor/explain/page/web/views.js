/** The views of each depth: a pane for each network that is shown. Only visible panes are drawn. */
import { CellPane } from "./cell.js";
import { DEPTHS } from "./depths.js";
import { mountDrawing } from "./drawing.js";
import { el, put, visible } from "./dom.js";
import { SequencePane } from "./sequence.js";
import { mountTyping } from "./typing.js";
import { UnitPane } from "./unit.js";

const PANES = { sequence: SequencePane, cell: CellPane, unit: UnitPane };

export function mountViews(app, element) {
  const at = (depth) => element.querySelector(`#${depth}`);
  const given = at("sequence").appendChild(el("div", { class: "typing" }));
  app.networks[0].isSeries ? mountDrawing(app, given) : mountTyping(app, given);
  const panes = { sequence: [], cell: [], unit: [] };
  const places = Object.fromEntries(
    DEPTHS.map((depth) => [depth, at(depth).appendChild(el("div", { class: "panes" }))]),
  );
  let shown = "";
  const draw = () => panes[app.state.depth].forEach((pane) => pane.draw());
  app.subscribe(() => {
    if (shown !== app.shown.join()) {
      shown = app.shown.join();
      for (const depth of DEPTHS) {
        panes[depth] = app.shown.map((i) => pane(app, i, depth, places[depth]));
        put(places[depth], ...panes[depth].map(({ element: one }) => one));
      }
    }
    draw();
  });
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(element);
  mountLive(app);
}

function pane(app, i, depth, place) {
  const several = app.shown.length > 1;
  const name = el("h2", { class: "pane-name", hidden: !several }, app.networks[i].name);
  const element = el("article", { class: "pane", "aria-label": several ? app.networks[i].name : undefined }, name);
  element.addEventListener("focusin", () => app.state.network !== i && app.update({ network: i }));
  place.append(element); // so that it has a size while it is made
  const made = new PANES[depth](app, i, element);
  made.element = element;
  return made;
}

/** Announces to screen readers what the network expects, once nothing changes. */
function mountLive(app) {
  const live = document.getElementById("live");
  let waiting = 0;
  const say = () => {
    const record = app.record();
    const step = app.step();
    if (step < 0) {
      return;
    }
    const net = app.networks[app.state.network];
    const best = net.expected(record, step, 3, Math.max(0, app.state.wanted));
    const named = best.map(({ name, said }) => `${visible(name)} ${said}`).join(", ");
    live.textContent = `Step ${step + 1}. ${net.isSeries ? "It gives" : "Expected next"}: ${named}.`;
  };
  app.subscribe(() => {
    clearTimeout(waiting);
    waiting = setTimeout(say, 600);
  });
}

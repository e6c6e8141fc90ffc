/** Keyboard shortcuts, wherever the focus is; text boxes keep their own keys. */
import { setPart } from "./edits.js";
import { closeNotes } from "./notes.js";

const DEPTHS = ["sequence", "cell", "unit"];

export const KEYS = [
  ["← →", "one step back or forward"],
  ["Shift ← →", "ten steps"],
  ["Home End", "the first or last step"],
  ["↑ ↓", "the previous or next unit"],
  ["[ ]", "the previous or next part of the cell"],
  ["Enter", "zoom in: sequence, cell, unit"],
  ["Escape", "zoom out; in the text box: leave it"],
  ["Space", "run time, or stop it"],
  ["0 1", "hold the chosen part at 0 or 1: closes or opens a gate"],
  ["Delete", "remove all edits"],
  ["p", "free play: hold values, cut lines"],
  ["t", "the tour; in it, n is next, b is back, Escape leaves"],
  ["c", "two networks side by side"],
  ["/", "go to the text box; of a series: to the value at this step"],
  ["?", "this list"],
];

/** Whether an element uses the arrow keys and letters itself. */
function hasOwnKeys(target) {
  return target.matches?.("textarea, select, input, [contenteditable]") || target.closest?.("dialog[open]");
}

const takesEnter = (target) => target.matches?.("button, a, summary, [role=button], .part, .wire");

/** `actions`: functions by name; `time` and `panels` come from the modules that have them. */
export function mountKeys(app, actions) {
  addEventListener("click", (event) => closeNotes(event.target.closest("details.note")));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) {
      return;
    }
    if (hasOwnKeys(event.target)) {
      if (event.key === "Escape" && event.target.matches("textarea, input, select")) {
        event.target.blur();
      }
      return;
    }
    if (["Enter", " "].includes(event.key) && takesEnter(event.target)) {
      return;
    }
    if (event.key === "Escape" && closeNotes()) {
      return;
    }
    const act = action(app, event, actions);
    if (act) {
      event.preventDefault();
      act();
    }
  });
}

function action(app, event, actions) {
  const { step, depth, network } = app.state;
  const { layer, part, unit } = app.state.picks[network];
  const net = app.networks[network];
  const far = event.shiftKey ? 10 : 1;
  const parts = net.named(layer);
  const beside = (by) => parts[(Math.max(0, parts.indexOf(part)) + by + parts.length) % parts.length];
  const zoom = (by) => DEPTHS[DEPTHS.indexOf(depth) + by];
  return {
    ArrowLeft: () => app.goTo(Math.max(0, step - far)),
    ArrowRight: () => app.goTo(step + far),
    Home: () => app.goTo(0),
    End: () => app.goTo(Number.MAX_SAFE_INTEGER),
    ArrowUp: () => app.pick({ unit: Math.max(0, unit - far) }),
    ArrowDown: () => app.pick({ unit: unit + far }),
    "[": () => app.pick({ part: beside(-1) }),
    "]": () => app.pick({ part: beside(1) }),
    0: () => setPart(app, network, layer, part, 0),
    1: () => setPart(app, network, layer, part, 1),
    Delete: () => app.setEdits([]),
    " ": () => document.getElementById("run-time").click(),
    "/": () => toText(app),
    Enter: zoom(1) && (() => app.zoom(zoom(1))),
    Escape: zoom(-1) && (() => app.zoom(zoom(-1))),
    ...actions,
  }[event.key];
}

function toText(app) {
  app.update({ depth: "sequence" });
  app.store.flush(); // so that it is there to have the focus
  document.getElementById(app.networks[0].isSeries ? "value" : "text").focus();
}

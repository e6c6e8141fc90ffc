/** Converts the state to the fragment of the address and back. An address may contain anything, so it is validated. */

const DEPTHS = ["sequence", "cell", "unit"];
const SHADES = ["came", "rests"];

/** Writes only what differs from `start`, so that a page just opened has an empty fragment. */
export function toAddress(state, start) {
  const said = new URLSearchParams();
  const put = (key, name, text = String) => {
    if (JSON.stringify(state[name]) !== JSON.stringify(start[name])) {
      said.set(key, text(state[name]));
    }
  };
  put("d", "depth");
  put("s", "step");
  put("n", "network");
  put("p", "picks", (picks) => picks.map(({ layer, part, unit }) => `${layer}.${part}.${unit}`).join("_"));
  put("e", "edits", JSON.stringify);
  put("w", "trained");
  put("c", "compare", Number);
  put("o", "panel");
  put("h", "shade");
  put("k", "wanted");
  put("tour", "tour");
  put("v", "variant");
  put("t", "text");
  return said.toString();
}

/** The state of an address; invalid values are replaced by those of `start`. */
export function fromAddress(address, start) {
  const said = new URLSearchParams(address);
  const state = { ...start };
  state.text = said.get("t") ?? start.text;
  state.step = whole(said.get("s"), start.step, 0);
  state.depth = DEPTHS.includes(said.get("d")) ? said.get("d") : start.depth;
  state.network = Math.min(whole(said.get("n"), start.network, 0), start.picks.length - 1);
  state.picks = picks(said.get("p"), start.picks);
  state.edits = edits(said.get("e"), start.edits);
  const trained = Number.parseFloat(said.get("w"));
  state.trained = trained >= 0 && trained <= 1 ? trained : start.trained;
  state.compare = said.has("c") ? said.get("c") === "1" && start.picks.length > 1 : start.compare;
  state.panel = said.get("o") ?? start.panel;
  state.shade = SHADES.includes(said.get("h")) ? said.get("h") : start.shade;
  state.wanted = whole(said.get("k"), start.wanted, -1);
  state.tour = whole(said.get("tour"), start.tour, -1);
  state.variant = said.get("v") ?? start.variant;
  return state;
}

function whole(text, otherwise, least) {
  const number = Number.parseInt(text, 10);
  return Number.isSafeInteger(number) && number >= least ? number : otherwise;
}

function picks(text, start) {
  const given = (text ?? "").split("_");
  return start.map((pick, i) => {
    const [layer, part, unit] = (given[i] ?? "").split(".");
    return {
      layer: whole(layer, pick.layer, 0),
      part: whole(part, pick.part, 0),
      unit: whole(unit, pick.unit, 0),
    };
  });
}

/** A list of edits for each network; whether they fit the network is seen where they are used. */
function edits(text, start) {
  let given;
  try {
    given = JSON.parse(text ?? "null");
  } catch {
    given = null;
  }
  if (!Array.isArray(given)) {
    return start;
  }
  const isEdit = (one) => one !== null && typeof one === "object" && !Array.isArray(one);
  return start.map((none, i) => (Array.isArray(given[i]) ? given[i].filter(isEdit) : none));
}

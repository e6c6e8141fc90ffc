/** Edits of a network: made, removed, described in words. See conveyor.explain.running.edits.Edit. */

const isCut = (edit) => (edit.source ?? null) !== null;
const acts = ({ first = 0, last = null }, step) => first <= step && (last === null || step <= last);

/** Places of parts, whatever an edit calls them. */
export function placed(net, edit) {
  const layer = net.runner.network.layers[edit.layer];
  return { part: layer.find(edit.part), source: isCut(edit) ? layer.find(edit.source) : null };
}

/** What is changed of a layer at a step: parts that are held, lines that are cut as "source-target". */
export function changesAt(net, edits, layer, step) {
  const held = new Set();
  const cut = new Set();
  for (const edit of edits.filter((one) => one.layer === layer && acts(one, step))) {
    const { part, source } = placed(net, edit);
    if (source === null) {
      held.add(part);
    } else {
      cut.add(`${source}-${part}`);
    }
  }
  return { held, cut };
}

/** Holds all units of a part at a number at every step; null lets them go. */
export function setPart(app, network, layer, part, value) {
  const others = app.state.edits[network].filter((edit) => {
    const { part: at, source } = placed(app.networks[network], edit);
    return edit.layer !== layer || source !== null || at !== part;
  });
  app.setEdits(value === null ? others : [...others, { layer, part, value }], network);
}

/** Cuts lines, or restores them if all are cut. */
export function toggleCuts(app, network, layer, wires) {
  const net = app.networks[network];
  const edits = app.state.edits[network];
  const is = (edit, [from, to]) => {
    const { part, source } = placed(net, edit);
    return edit.layer === layer && source === from && part === to;
  };
  const whole = wires.filter((wire) => !edits.some((edit) => is(edit, wire)));
  const others = edits.filter((edit) => !wires.some((wire) => is(edit, wire)));
  const cuts = wires.map(([source, part]) => ({ layer, part, source }));
  app.setEdits(whole.length ? [...others, ...cuts] : others, network);
}

/** An edit in words: "C̃_t of layer 2, unit 7: 0.5 from step 3 on". */
export function told(net, edit) {
  const { part, source } = placed(net, edit);
  const layers = net.layers.length > 1 ? ` in layer ${edit.layer + 1}` : "";
  const first = edit.first ?? 0;
  const last = edit.last ?? null;
  const when =
    last === first
      ? `at step ${first + 1}`
      : last !== null
        ? `from step ${first + 1} to ${last + 1}`
        : first
          ? `from step ${first + 1} on`
          : "at every step";
  if (source !== null) {
    return { symbols: [net.symbol(edit.layer, source), net.symbol(edit.layer, part)], text: `cut${layers}, ${when}` };
  }
  const unit = (edit.unit ?? null) === null ? "" : `[${edit.unit}]`;
  return { symbols: [net.symbol(edit.layer, part)], unit, text: `= ${edit.value}${layers}, ${when}` };
}

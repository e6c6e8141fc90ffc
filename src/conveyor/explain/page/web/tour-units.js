/** Units that follow something in the text, and, in a model of agreement, the unit that carries the subject's number. */
import { el, percent, put, shape, visible } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { math } from "./symbols.js";
import { drawAlong } from "./tour-along.js";
import { parsed, verbForms } from "./tour-grammar.js";
import { ofWhat, paragraphs, said } from "./tour-text.js";
import { Tries } from "./tour-try.js";

const FOUND = "Nobody told the network what to remember. Yet some of its units follow something that a reader has a name for. Each was found on text that the network was not trained on, and scored on another part of it.";
const NONE = "In this network, no single unit was found that follows the position in the line, quotes or brackets clearly better than chance. What it knows is spread over many units.";

const SEARCH = ["A page in a file cannot show how such a unit behaves in the rest of the training text: ", " searches the whole text for passages where chosen units behave alike."];
const SEARCHED = "Below, “Find similar” searches the whole training text for passages where chosen units behave alike.";

export function unitsScene(app, network) {
  const example = app.data.tour.networks[network].example;
  if (!example?.unit) {
    const scene = { id: "units", title: "Units that follow something", depth: "sequence", place: "above", make: () => follow(app, network) };
    return { ...scene, ...picked(app, network) };
  }
  const tries = numberTries(app, network, example);
  const { layer, part } = place(app, network, example.unit);
  const make = () => number(app, network, example, tries);
  const step = () => verbStep(app, network, example, app.state.text, app.step(network));
  return { id: "number", title: "The unit that keeps the subject's number", depth: "sequence", place: "above", tries, pick: part, layer, unit: example.unit.index, step, make };
}

/** The step before the first sentence's main verb; `now` if it is before a verb, or there is no verb. */
function verbStep(app, network, known, text, now) {
  const { pieces } = app.networks[network].runner.read(text);
  const words = pieces.map((piece) => piece.trim());
  const marks = parsed(words, known);
  const end = words.indexOf(known.stop);
  const verb = marks.findLastIndex(({ kind }, place) => kind === "verb" && (end < 0 || place < end));
  return verb < 1 || marks[now + 1]?.kind === "verb" ? now : verb - 1;
}

/** The best of the units found, which the scene chooses. */
function picked(app, network) {
  const [best] = app.networks[network].found;
  return best ? { layer: best.layer, pick: place(app, network, best).part, unit: best.index } : {};
}

/** The layer and part of a unit that Python found. */
function place(app, network, { value, layer }) {
  const { model } = app.networks[network].said;
  return { layer, part: model.steps[model.layers[layer].step].names[value] };
}

/** How to search more than the text of this page. */
function searches(app) {
  const [before, after] = SEARCH;
  return app.data.served ? el("p", {}, SEARCHED) : el("p", {}, before, el("code", {}, "conveyor explain --serve"), after);
}

// -- the subject's number

function numberTries(app, network, { unit, edit }) {
  const { layer, part } = place(app, network, unit);
  const net = app.networks[network];
  const name = net.symbol(edit.layer, edit.part);
  const hold = { layer: edit.layer, part: edit.part, value: edit.value, unit: edit.unit };
  const label = edit.gate ? `make it forget: hold \`${name}\` of this unit at ${edit.value}` : `make it forget: set \`${name}\` of this unit to 0 at every step`;
  const opposite = unit.threshold === null ? [] : [{ layer, part, unit: unit.index, once: true, label: "switch it to the other number once, right after the first subject" }];
  return [{ ...hold, label }, ...opposite];
}

function number(app, network, example, tries) {
  const { unit, rates, edit } = example;
  const { apart } = rates;
  const name = `\`${app.networks[network].symbol(edit.layer, place(app, network, unit).part)}\`[${unit.index}]`;
  const kind = unit.plural ? "high after a plural, low after a singular" : "low after a plural, high after a singular";
  const sentences = [
    `This network was trained on sentences, word by word. Of all its memory, ${name} is the unit that best tells whether the subject of the sentence is singular or plural, up to the verb: ${percent(unit.score)} right on new sentences, where chance gives ${percent(unit.chance)}. It is ${kind}.`,
    "Watch it: a new subject sets it, nouns in between (✕ those of the other number) should not change it, and after the verb it is free for the next subject.",
    `If it is made to forget at every step, of the main verbs of ${rates.verbs} new sentences ${percent(rates.after)} get the wrong form, instead of ${percent(rates.before)}. If another unit is made to forget, it is ${percent(rates.others)} on average.`,
    ...(apart.verbs ? [`Of the ${apart.verbs} main verbs with at least one noun between subject and verb it is ${percent(apart.after)}, instead of ${percent(apart.before)}.`] : []),
  ];
  const says = el("div", { class: "tour-says" }, ...paragraphs(sentences), searches(app));
  const panel = new Tries(app, network, tries);
  const verbs = el("div", { class: "verbs" });
  const curve = new Curve(app, network, unit, example);
  const nodes = [el("div", {}, says, panel.element, examples(app, network, example)), el("div", { class: "tour-figure" }, curve.element, verbs)];
  return {
    nodes,
    draw: () => {
      turn(app, network, example, tries);
      curve.draw();
      drawVerbs(app, network, example, verbs);
      panel.draw();
    },
  };
}

/** Sentences to read: the text of the page, and some in which forgetting makes a verb wrong. */
function examples(app, network, known) {
  const { turned } = known;
  const texts = [app.data.text, ...turned];
  const buttons = texts.map((text) => el("button", { class: "quiet sentence", onclick: () => app.update({ text, step: verbStep(app, network, known, text, 0) }) }, visible(text)));
  const note = turned.length ? [el("p", { class: "small" }, "In all but the first, forgetting makes a verb wrong.")] : [];
  return el("details", { open: turned.length > 0 }, el("summary", {}, "Other sentences"), ...buttons, ...note);
}

/** The second try depends on the text: the step of the subject, and its value mirrored at the threshold. */
function turn(app, network, { unit, ...known }, tries) {
  const one = tries[1];
  if (!one) {
    return;
  }
  const { words } = textOf(app, network);
  const at = parsed(words, known).findIndex(({ kind }) => kind === "subject");
  const value = app.plain(network).values(at, one.layer, one.part)?.[unit.index];
  if (Number.isFinite(value)) {
    Object.assign(one, { at, value: Number((2 * unit.threshold - value).toFixed(3)) });
  }
}

function textOf(app, network) {
  const { pieces } = app.networks[network].runner.read(app.state.text);
  return { pieces, words: pieces.map((piece) => piece.trim()) };
}

/** Each verb of the text with the probabilities of its two forms, without and with the edits. */
function drawVerbs(app, network, example, element) {
  const { words } = textOf(app, network);
  const numbers = app.networks[network].runner.network.reads.numbers;
  const runs = { plain: app.plain(network), edited: app.record(network) };
  const found = verbForms(words, parsed(words, example), example, (word) => numbers.get(word), runs);
  const isEdited = runs.plain !== runs.edited;
  const head = ["verb", "other form", isEdited ? "before" : "", isEdited ? "now" : ""].map((name) => el("th", { scope: "col" }, name));
  const rows = found.map(({ place: at, form, other, plain, edited }) => {
    const cells = [outcome(plain), ...(isEdited ? [outcome(edited)] : [])].map((text) => el("td", { class: "figure" }, text));
    const wrong = !(edited[0] > edited[1]);
    const choose = () => app.goTo(at - 1, network);
    return el("tr", { class: wrong ? "wrong" : "right" }, el("th", { scope: "row" }, el("button", { class: "quiet", onclick: choose }, form)), el("td", {}, other), ...cells);
  });
  put(element, found.length ? el("table", { class: "verb-table" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)) : null);
  element.append(el("p", { class: "verdict", role: "status" }, verdict(found, isEdited)));
}

function outcome([right, other]) {
  return `${percent(right)} : ${percent(other)} ${right > other ? "✓" : "✗"}`;
}

function verdict(found, isEdited) {
  const wrong = found.filter(({ edited: [right, other] }) => !(right > other)).map(({ form, other }) => `${other} for ${form}`);
  if (!found.length) {
    return "The network knows no verb of this text in both forms.";
  }
  if (!isEdited) {
    return wrong.length ? `The network is wrong here: ${wrong.join(", ")}.` : "For every verb, the right form is the more probable one.";
  }
  return wrong.length ? `With the edit, it would write ${wrong.join(", ")}.` : "Even so, every right form stays the more probable one: here other units know the number, too. In some of the other sentences they do not.";
}

// -- all units found

function follow(app, network) {
  const net = app.networks[network];
  const says = el("div", { class: "tour-says" }, ...paragraphs([ofWhat(app, net.found.length ? FOUND : NONE)]), net.isSeries ? "" : searches(app));
  if (!net.found.length) {
    return { nodes: [says], draw: () => {} };
  }
  const list = el("ul", { class: "found-list" });
  let chosen = net.found[0];
  const buttons = net.found.map((unit) => {
    const { label, index, layer, score, chance } = unit;
    const choose = () => {
      chosen = unit;
      app.pick({ layer, part: place(app, network, unit).part, unit: index }, network);
    };
    const figures = el("span", { class: "figure" }, ` ${score.toFixed(2)} (chance ${chance.toFixed(2)})`);
    const button = el("button", { onclick: choose }, el("b", {}, label), " ", math(net.symbol(layer, place(app, network, unit).part)), `[${index}]`, figures);
    list.append(el("li", {}, button));
    return { button, unit };
  });
  const figure = el("div", { class: "tour-figure" });
  let curve = null;
  return {
    nodes: [el("div", {}, says, list), figure],
    draw: () => {
      if (curve?.unit !== chosen) {
        curve = new Curve(app, network, chosen, null);
        put(figure, curve.element);
      }
      buttons.forEach(({ button, unit }) => button.setAttribute("aria-pressed", String(unit === chosen)));
      curve.draw();
    },
  };
}

/** A unit along the text. */
class Curve {
  constructor(app, network, unit, known) {
    Object.assign(this, { app, network, unit, known });
    this.svg = shape("svg", { class: "unit-along", role: "img" });
    const { layer, part } = place(app, network, unit);
    const symbol = app.networks[network].symbol(layer, part);
    const title = el("h3", {}, ...said(`\`${symbol}\``), ofWhat(app, `[${unit.index}] along the text`));
    this.box = el("div", { class: "along-box" }, this.svg);
    this.element = el("div", {}, el("div", { class: "line" }, title, saveButton("the unit along the text", () => inlined(this.svg))), this.box);
  }

  draw() {
    const { app, network, unit, known } = this;
    const { layer, part } = place(app, network, unit);
    const { words, pieces } = textOf(app, network);
    const [record, plain] = [app.record(network), app.plain(network)];
    const of = (run) => (t) => run.values(t, layer, part)?.[unit.index];
    const edited = of(record);
    const runs = { plain: record === plain ? edited : of(plain), edited };
    const first = Math.max(0, Math.min(app.step(network) - 30, pieces.length - 60));
    const shift = (run) => (t) => run(t + first);
    const moved = runs.plain === runs.edited ? shift(edited) : null;
    const tokens = pieces.slice(first, first + 60);
    const sides = known ? ["one", "many"] : ["without", "with"];
    drawAlong(
      this.svg,
      {
        runs: { plain: moved ?? shift(runs.plain), edited: moved ?? shift(edited) },
        tokens,
        marks: known ? parsed(words, known).slice(first, first + 60) : null,
        threshold: unit.threshold,
        sides: unit.sign > 0 ? sides : sides.toReversed(),
        step: app.step(network) - first,
        choose: (t) => app.goTo(t + first, network),
      },
      this.box.clientWidth || 600,
    );
    this.svg.setAttribute("aria-label", `Unit ${unit.index} along ${tokens.length} tokens`);
  }
}

/**
 * The guided tour, in the order of the essay: the loop, the problem of long spans, the walk through the cell, units
 * that follow something, the variants, what next. A scene is
 *
 *   {id, title, depth, place: "beside" | "above" | "alone", lit, layer, pick, unit, step(), tries, make() -> {nodes, draw()}}
 *
 * `place`: its position relative to the view of the page; `lit`: what it highlights in the cell; `layer`, `pick`,
 * `unit`: what it chooses; `step`: the step that it goes to. Edits in `tries` are undone when the scene is left.
 */
import { el, put } from "./dom.js";
import { problemScene } from "./tour-curves.js";
import { loopScene } from "./tour-loop.js";
import { nextScene } from "./tour-next.js";
import { said, unmarked } from "./tour-text.js";
import { without } from "./tour-try.js";
import { unitsScene } from "./tour-units.js";
import { variantsScene } from "./tour-variants.js";
import { walkScenes } from "./tour-walk.js";

export function mountTour(app, element) {
  element.dataset.ready = "yes"; // so that the page has a button for it
  const tour = new Tour(app, element);
  app.subscribe((state) => tour.draw(state));
  const foot = document.getElementById("time"); // above which the buttons stay in sight
  new ResizeObserver(() => element.style.setProperty("--foot", `${foot.offsetHeight}px`)).observe(foot);
  addEventListener("keydown", (event) => tour.key(event), { capture: true });
}

/** All scenes of a network, with the walk through the step of one layer. */
export function scenesOf(app, network, layer) {
  const made = [loopScene(), problemScene(), ...walkScenes(app, network, layer), unitsScene(app, network), variantsScene(), nextScene()];
  return made.map((scene) => ({ ...scene, make: () => scene.make(app, network) }));
}

const NOTHING = { network: 0, tries: [] };

class Tour {
  tried = NOTHING;
  #built = "";
  #entered = "";
  #open = false;

  constructor(app, element) {
    this.app = app;
    this.element = element;
    this.middle = element.parentElement;
    this.title = el("h2", { id: "tour-title" });
    this.body = el("div", { class: "tour-body" });
    this.back = el("button", { id: "tour-back", onclick: () => this.go(-1) }, "← Back");
    this.next = el("button", { id: "tour-next", onclick: () => this.go(1) }, "Next →");
    const close = el("button", { class: "quiet", id: "tour-close", "aria-label": "leave the tour", onclick: () => this.leave() }, "✕");
    this.progress = el("ol", { class: "tour-progress", "aria-label": "Scenes of the tour" });
    this.live = el("p", { class: "unseen", role: "status" });
    const keys = el("span", { class: "small tour-keys" }, el("kbd", {}, "n"), " next ", el("kbd", {}, "b"), " back ", el("kbd", {}, "Esc"), " leave");
    const foot = el("nav", { class: "tour-nav", "aria-label": "Tour" }, this.back, this.next, keys);
    element.append(el("div", { class: "line" }, this.title, close), this.progress, this.body, foot, this.live);
  }

  /** The scenes follow the network and the layer that are chosen. */
  #scenes() {
    const { network, picks } = this.app.state;
    const key = `${network} ${picks[network].layer}`;
    if (this.#built !== key) {
      this.#built = key;
      this.scenes = scenesOf(this.app, network, picks[network].layer);
      this.network = network;
      const marks = this.scenes.map(({ title }, i) => el("button", { "aria-label": unmarked(title), title: unmarked(title), onclick: () => this.show(i) }));
      put(this.progress, ...marks.map((mark) => el("li", {}, mark)));
    }
    return this.scenes;
  }

  draw({ panel, tour }) {
    if (panel !== "tour") {
      this.#left();
      return;
    }
    const scenes = this.#scenes();
    const at = Math.min(Math.max(0, tour), scenes.length - 1);
    const key = `${this.#built} ${at}`;
    if (this.#entered !== key) {
      this.#entered = key;
      this.#enter(scenes[at], at);
    }
    this.shown.draw();
  }

  #enter(scene, at) {
    put(this.title, ...said(scene.title));
    this.shown = scene.make();
    put(this.body, ...this.shown.nodes);
    this.body.className = `tour-body ${scene.place}`;
    this.middle.dataset.tour = scene.place;
    this.middle.dataset.scene = scene.id;
    this.back.disabled = at === 0;
    this.next.textContent = at === this.scenes.length - 1 ? "Leave the tour" : "Next →";
    [...this.progress.children].forEach((item, i) => item.firstChild.setAttribute("aria-current", i === at ? "step" : "false"));
    this.live.textContent = `Scene ${at + 1} of ${this.scenes.length}: ${unmarked(scene.title)}`;
    if (!this.#open) {
      this.#open = true;
      this.element.hidden = false; // or it could not have the focus
      this.next.focus({ preventScroll: true });
    }
    this.#set(scene, at);
  }

  /** Applies the depth, choice and highlight of a scene, and undoes the edits of the previous one. */
  #set(scene, at) {
    const { app, network } = this;
    const { picks, lit } = app.state;
    const edits = this.#takeBack({ network, tries: scene.tries ?? [] });
    const pick = { ...picks[network] };
    if (scene.pick !== undefined) {
      Object.assign(pick, { layer: scene.layer, part: scene.pick }, scene.unit === undefined ? {} : { unit: scene.unit });
    }
    const replaced = (list, one) => list.map((old, i) => (i === network ? one : old));
    app.update({
      tour: at,
      depth: scene.depth ?? app.state.depth,
      ...(scene.step ? { step: scene.step() } : {}),
      picks: replaced(picks, pick),
      edits,
      lit: lit.map((_, i) => (i === network ? (scene.lit ?? null) : null)),
    });
  }

  /** The edits of all networks without those tried in the previous scene; `next`: what can be tried now. */
  #takeBack(next) {
    const { network, tries } = this.tried;
    this.tried = next;
    return this.app.state.edits.map((list, i) => (i === network ? without(this.app.networks[i], list, tries) : list));
  }

  show(at) {
    this.app.update({ tour: at }, { push: true });
  }

  go(by) {
    const at = Math.max(0, this.app.state.tour) + by;
    if (at >= this.scenes.length) {
      this.leave();
    } else if (at >= 0) {
      this.show(at);
      document.scrollingElement.scrollTo({ top: 0 });
    }
  }

  leave() {
    this.app.update({ panel: "" }, { push: true });
  }

  /** After leaving: removes highlights and the edits of the tour, and returns the focus to its button. */
  #left() {
    if (!this.#open) {
      return;
    }
    const { app } = this;
    this.#open = false;
    this.#entered = "";
    delete this.middle.dataset.tour;
    delete this.middle.dataset.scene;
    put(this.body);
    app.update({ lit: app.state.lit.map(() => null), edits: this.#takeBack(NOTHING) });
    document.getElementById("open-tour")?.focus({ preventScroll: true });
  }

  key(event) {
    const { target, key } = event;
    const busy = event.ctrlKey || event.metaKey || event.altKey || target.closest?.("dialog[open]") || target.matches?.("textarea, input, select");
    if (!this.#open || busy) {
      return;
    }
    const act = { n: () => this.go(1), PageDown: () => this.go(1), b: () => this.go(-1), PageUp: () => this.go(-1), Escape: () => this.leave() }[key];
    if (act) {
      event.preventDefault();
      event.stopPropagation();
      act();
    }
  }
}

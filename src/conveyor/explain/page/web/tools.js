/** The buttons at the top, and the help. */
import { el, put } from "./dom.js";
import { KEYS, mountKeys } from "./keys.js";

export function mountTools(app, element, actions = {}) {
  let called = false; // the panel was opened by hand, not by the address
  const open = (panel) => () => {
    called = true;
    app.update({ panel: app.state.panel === panel ? "" : panel }, { push: true });
  };
  const compare = () => app.update({ compare: !app.state.compare }, { push: true });
  const help = () => document.getElementById("help").showModal();
  const tour = el(
    "button",
    { id: "open-tour", onclick: open("tour"), hidden: !document.getElementById("tour").dataset.ready },
    "Tour",
  );
  const play = el("button", { id: "open-play", onclick: open("play"), "aria-controls": "play" }, "Play");
  const beside = el("button", { id: "open-compare", onclick: compare, hidden: app.networks.length < 2 }, "Compare");
  const choice = el("select", { "aria-label": "Network", hidden: app.networks.length < 2 });
  choice.append(...app.networks.map((net, i) => el("option", { value: i }, net.name)));
  choice.addEventListener("change", () => app.update({ network: Number(choice.value) }));
  const edited = new Edited(app, () => {
    called = true;
    app.update({ panel: "play" }, { push: true });
    app.store.touch("panel");
  });
  element.append(edited.element, choice, beside, tour, play, el("button", { "aria-label": "help", onclick: help }, "?"));
  fillHelp();
  const both = app.networks.length > 1;
  mountKeys(app, {
    "?": help,
    p: open("play"),
    t: tour.hidden ? undefined : open("tour"),
    c: both ? compare : undefined,
    ...actions,
  });
  app.subscribe((state) => {
    play.setAttribute("aria-expanded", String(state.panel === "play"));
    tour.setAttribute("aria-expanded", String(state.panel === "tour"));
    beside.setAttribute("aria-pressed", String(state.compare));
    choice.value = state.network;
    for (const name of ["play", "tour"]) {
      document.getElementById(name).hidden = state.panel !== name;
    }
    if (called && state.panel === "play") {
      requestAnimationFrame(() => goTo(document.getElementById("play"))); // once it is filled
    }
    called = false;
    edited.draw(state);
  });
}

/** The keyboard goes to a panel, and where it is out of sight so does the page. */
function goTo(panel) {
  panel.focus({ preventScroll: true });
  const { top } = panel.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) {
    panel.scrollIntoView({ block: "start" });
  }
}

/** The number of edits, shown at every depth: a button that opens them, and one that removes them. */
class Edited {
  constructor(app, open) {
    this.app = app;
    this.open = el("button", { id: "edited", title: "show the edits", onclick: open });
    const clear = () => app.update({ edits: app.state.edits.map(() => []) });
    const away = el("button", { id: "unedit", class: "quiet", "aria-label": "remove all edits", title: "remove all edits", onclick: clear }, "✕");
    this.element = el("span", { class: "edited", hidden: true }, this.open, away);
  }

  draw({ edits }) {
    const count = this.app.shown.reduce((sum, i) => sum + edits[i].length, 0);
    this.element.hidden = !count;
    this.open.textContent = `${count} edit${count === 1 ? "" : "s"}`;
  }
}

function fillHelp() {
  const dialog = document.getElementById("help");
  const rows = KEYS.map(([keys, what]) =>
    el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, keys)), el("td", {}, what)),
  );
  put(
    dialog,
    el("h2", { id: "help-title" }, "Keys"),
    el("table", {}, el("tbody", {}, ...rows)),
    el(
      "p",
      {},
      "In heat maps, a click goes to the step of its column and the unit of its row; in the cell, a click chooses a part, " +
        "and a double click opens its unit.",
    ),
    el("p", {}, "The network runs in this page. Nothing that you type leaves it."),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
}

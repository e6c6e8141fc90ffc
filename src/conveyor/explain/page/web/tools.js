/** The buttons at the top, and the help. */
import { el, put } from "./dom.js";
import { KEYS, mountKeys } from "./keys.js";

export function mountTools(app, element, actions = {}) {
  const open = (panel) => () => app.update({ panel: app.state.panel === panel ? "" : panel }, { push: true });
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
  element.append(choice, beside, tour, play, el("button", { "aria-label": "help", onclick: help }, "?"));
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
  });
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
      "In pictures: a click on a column goes to its step, on a row to its unit; in the cell, a click chooses a part, " +
        "two clicks open its unit.",
    ),
    el("p", {}, "The network runs in this page. Nothing that is typed here leaves it."),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
}

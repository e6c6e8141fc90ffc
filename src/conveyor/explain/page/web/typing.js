/** The text box. It responds at once; the networks catch up while one types. */
import { el, put, visible } from "./dom.js";

export function mountTyping(app, element) {
  const box = el("textarea", {
    id: "text",
    rows: 2,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    dir: "auto",
    "aria-describedby": "unknown",
  });
  const unknown = el("p", { id: "unknown", class: "notice", role: "alert" });
  const label = el("label", { for: "text" }, "Text that the network reads. Type your own:");
  const back = el("button", { class: "quiet", onclick: () => change(app, app.data.text) }, "original text");
  const none = el("button", { class: "quiet", onclick: () => change(app, "") }, "clear");
  element.append(el("div", { class: "line" }, label, back, none), box, unknown);

  box.addEventListener("input", () => change(app, box.value, box.selectionEnd));
  app.subscribe((state, changed) => {
    if (changed.has("all") || changed.has("text")) {
      if (box.value !== state.text) {
        box.value = state.text;
      }
      const said = el("span", {}, ...cut(app, state.text), ...warning(app, state.text));
      if (said.textContent !== unknown.textContent) {
        put(unknown, ...said.childNodes); // an alert is read out each time
      }
      back.disabled = state.text === app.data.text;
    }
  });
}

/** Moves to the step at the cursor. */
function change(app, text, place = text.length) {
  app.update({ text, step: app.stepAt(text, place) });
}

/** A notice if the text is too long to be read as a whole. */
function cut(app, text) {
  return app.shown.flatMap((i) => {
    const { tokens, count } = app.networks[i].runner.read(text);
    if (count === tokens.length) {
      return [];
    }
    const which = app.shown.length > 1 ? `${app.networks[i].name}: ` : "";
    const [read, all] = [tokens.length, count].map((number) => number.toLocaleString("en"));
    return [`${which}The text is too long for a page: the network reads the first ${read} of its ${all} tokens. `];
  });
}

function warning(app, text) {
  return app.shown.flatMap((i) => {
    const { unknown } = app.networks[i].runner.read(text);
    if (!unknown.length) {
      return [];
    }
    const named = [...new Set(unknown)];
    const { kind, symbols } = app.networks[i].runner.network.reads;
    const isWord = kind === "word"; // for these there is a token, letters are left out
    const written = isWord ? (word) => visible(word.trim() || word) : spelled;
    const shown = named.slice(0, 8).flatMap((one) => [el("bdi", { class: "token" }, written(one)), " "]);
    const more = named.length > 8 ? `and ${named.length - 8} more ` : "";
    const them = named.length === 1 ? "it" : "them";
    const which = app.shown.length > 1 ? `${app.networks[i].name}: ` : "";
    const does = isWord ? `and reads ${them} as ${symbols[0]}` : `and leaves ${them} out`;
    const said = `${does}: it was never trained on ${them}.`;
    return [el("span", {}, `${which}The network does not know `, ...shown, more, said)];
  });
}

/** A character with its code point, since some are invisible. */
function spelled(character) {
  const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return `${/^\p{M}/u.test(character) ? "◌" : ""}${visible(character)} (U+${code})`;
}

/** Time: buttons for single steps, a slider over the text, and playback. */
import { alone, el, put, visible } from "./dom.js";

const PACE = 350; // ms per step during playback

export function mountTime(app, element) {
  let running = 0;
  const go = (by) => app.goTo(Math.max(0, app.state.step + by));
  const toggle = () => {
    running = running ? (clearInterval(running) ?? 0) : setInterval(on, PACE);
    play.textContent = running ? "❚❚" : "▶";
    play.setAttribute("aria-label", running ? "stop" : "run time");
  };
  const on = () => {
    const { step } = app.state;
    go(1);
    if (app.state.step === step) {
      toggle();
    }
  };
  const before = el("button", { "aria-label": "one step back", onclick: () => go(-1) }, "←");
  const play = el("button", { id: "run-time", "aria-label": "run time", onclick: toggle }, "▶");
  const after = el("button", { "aria-label": "one step forward", onclick: () => go(1) }, "→");
  const slider = el("input", { type: "range", id: "step", min: 0, value: 0, "aria-label": "step" });
  const said = el("output", { for: "step" });
  slider.addEventListener("input", () => app.goTo(Number(slider.value)));
  element.append(el("div", { class: "line" }, before, play, after), slider, said);

  app.subscribe((state, changed) => {
    if (["text", "step", "network", "all", "run"].some((name) => changed.has(name))) {
      const { pieces } = app.networks[state.network].runner.read(state.text);
      const last = Math.max(0, pieces.length - 1);
      slider.max = last;
      slider.value = Math.min(state.step, last);
      const piece = pieces[state.step] ?? "";
      slider.setAttribute("aria-valuetext", `step ${state.step + 1} of ${pieces.length}: ${visible(piece)}`);
      if (!pieces.length) {
        slider.setAttribute("aria-valuetext", "no text");
        put(said, "no text");
        return;
      }
      const behind = app.record().length < pieces.length ? `, run to ${app.record().length}` : "";
      put(
        said,
        `${state.step + 1} of ${pieces.length}${behind} `,
        piece === String(state.step + 1) ? null : el("bdi", { class: "token" }, visible(alone(piece))), // no name of its own
      );
    }
  });
}

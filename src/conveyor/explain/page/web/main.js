/** The entry point: reads the data from their elements, creates the networks and the views. */
import { App } from "./app.js";
import { mountDepths } from "./depths.js";
import { mountFinder } from "./finder.js";
import { Net } from "./net.js";
import { mountPlay } from "./play.js";
import { mountTime } from "./time.js";
import { mountTools } from "./tools.js";
import { mountTour } from "./tour.js";
import { mountViews } from "./views.js";

/** The weights in an element: base64 of what assemble.py packed. */
async function unpacked(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = planes.length / 4;
  const numbers = new DataView(new ArrayBuffer(planes.length));
  for (let i = 0; i < size; i += 1) {
    const word = planes[i] | (planes[size + i] << 8) | (planes[2 * size + i] << 16) | (planes[3 * size + i] << 24);
    numbers.setInt32(4 * i, word, true);
  }
  return new Float32Array(numbers.buffer);
}

async function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const weights = await Promise.all(data.networks.map((_, i) => unpacked(`weights${i}`)));
  for (const { model } of data.networks) {
    model.input.examples = data.examples; // of series, which all networks read
  }
  const app = new App(
    data,
    data.networks.map((said, i) => new Net(said, weights[i], i)),
  );
  const at = (id) => document.getElementById(id);
  mountDepths(app, at("top"));
  mountTour(app, at("tour"));
  mountTools(app, at("tools"));
  mountViews(app, at("view"));
  mountFinder(app, at("sequence"));
  mountPlay(app, at("play"));
  mountTime(app, at("time"));
  globalThis.conveyor = app; // for whoever asks in the console
  app.begun();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}

start();

// The page: forms in, decision out. Between them is the gateway, as WebAssembly.
import { byId, element } from "./dom.js";
import { drawErrors, drawExplanation, drawNothing } from "./draw.js";
import { EXAMPLES } from "./examples.js";
import init, { explain, generateToken, settings as table } from "./gate/gate.js";
import wasm from "./gate/wasm.js";
import { requestForm } from "./request-form.js";
import { settingsForm } from "./settings-form.js";

/** Milliseconds without a key before what was typed is judged. */
const PAUSE = 120;

await init({ module_or_path: wasm }).catch(tellTrouble);

/** The one that a gateway makes for itself. */
const generated = generateToken();
const settings = settingsForm(table(), edited);
const request = requestForm(edited);
const decision = byId("decision");
const about = byId("example-about");
const buttons = EXAMPLES.map((example) => element("button", { type: "button", "aria-pressed": "false", click: () => show(example) }, example.name));
byId("examples").append(...buttons.map((button) => element("li", {}, button)));

let timer;
let last = 0;

function edited() {
  for (const button of buttons) button.setAttribute("aria-pressed", "false");
  decision.setAttribute("aria-busy", "true");
  clearTimeout(timer);
  timer = setTimeout(judge, PAUSE);
}

async function show(example) {
  decision.setAttribute("aria-busy", "true");
  const { request: described, ...gateway } = await example.make();
  settings.fill(gateway);
  request.fill(described);
  about.textContent = example.about;
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === example.name));
  await judge();
}

/** Whatever takes longer than what came after it is not drawn. */
async function judge() {
  clearTimeout(timer);
  const turn = (last += 1);
  const draw = await drawing();
  if (turn !== last) return;
  draw();
  decision.removeAttribute("aria-busy");
}

/** What draws the decision about what the forms hold now. */
async function drawing() {
  const described = request.read();
  if (!described) return () => drawNothing();
  const values = settings.values();
  const store = settings.store() ?? (makesToken(values) ? generated : undefined);
  const asked = { host: settings.host(), ...described, ...(store === undefined ? {} : { store }) };
  // Of half a character, say, no request can be made.
  const { errors, explanation, problem, ...more } = await told(() => explain(values, asked));
  if (problem) return () => drawNothing(problem);
  return () => {
    settings.tell(errors);
    if (explanation) drawExplanation(explanation, more);
    else drawErrors(errors, (name) => (settings.has(name) ? undefined : () => settings.addOne(name)));
  };
}

async function told(work) {
  try {
    return await work();
  } catch (error) {
    return { problem: error.message };
  }
}

function tellTrouble(error) {
  byId("trouble").textContent = `This browser cannot run the gateway’s code: ${error.message}`;
  throw error;
}

/** Natively always, at the edge for developers. */
function makesToken({ ENV }) {
  return settings.host() === "native" || (settings.host() === "edge" && ["development", "test"].includes(ENV?.trim()));
}

await show(EXAMPLES[0]);
document.documentElement.dataset.ready = "true";

// The settings: those that are set, each with its help, and a list of all others. What there is, is for the gateway to say.
import { byId, element, prose, tellProblem } from "./dom.js";

const HOSTS = {
  native: "The binary nodetool-auth: a proxy of its own.",
  edge: "The Cloudflare Worker.",
  embedded: "Within another program, which does what the decision says.",
};

const STORES = {
  native: ["worker_auth_token in deployment.yaml", "Read where WORKER_AUTH_TOKEN is not set. Empty: the gateway makes one."],
  edge: ["worker_auth_token in KV", "Read where WORKER_AUTH_TOKEN is not set: a token, or JSON with hashes. With ENV=development and nothing here, the gateway makes one."],
};

/**
 * @param {{name: string, values: string, help: string, isNative: boolean}[]} table all settings
 * @param {() => void} changed
 */
export function settingsForm(table, changed) {
  const rows = byId("rows");
  const add = /** @type {HTMLSelectElement} */ (byId("add"));
  const addButton = /** @type {HTMLButtonElement} */ (byId("add-button"));
  const store = /** @type {HTMLTextAreaElement} */ (byId("store"));
  const hosts = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[name=host]"));
  /** @type {Map<string, { row: HTMLElement, control: HTMLInputElement, help: HTMLElement }>} */
  const shown = new Map();

  const host = () => [...hosts].find((radio) => radio.checked).value;
  const setting = (name) => table.find((one) => one.name === name);

  function offer() {
    const chosen = add.value;
    const left = table.filter(({ name, isNative }) => !shown.has(name) && (!isNative || host() === "native"));
    add.replaceChildren(...left.map(({ name }) => element("option", {}, name)));
    if (left.some(({ name }) => name === chosen)) add.value = chosen;
    add.disabled = addButton.disabled = left.length === 0;
    describe();
  }

  function describe() {
    byId("add-help").replaceChildren(...prose(setting(add.value)?.help ?? "All are there."));
  }

  function hostChanged() {
    for (const [name, { row }] of shown) row.hidden = setting(name).isNative && host() !== "native";
    byId("host-help").textContent = HOSTS[host()];
    const [label, help] = STORES[host()] ?? [];
    byId("store-field").hidden = label === undefined;
    byId("store-label").textContent = label ?? "";
    byId("store-help").textContent = help ?? "";
    offer();
  }

  function put(name, value, { focus = false } = {}) {
    const known = shown.get(name) ?? row(name);
    known.control.value = value;
    // A choice that is none of those that there are.
    if (known.control.value !== value) known.control.append(element("option", { selected: true }, value));
    if (focus) known.control.focus();
  }

  function row(name) {
    const { values, help } = setting(name);
    const id = `setting-${name}`;
    const told = element("p", { class: "help", id: `${id}-help` }, help);
    const control = controlFor(values, { id, "aria-describedby": told.id, input: changed });
    const remove = element("button", { type: "button", class: "remove", "aria-label": `Remove ${name}`, title: "Remove", click: () => take(name) }, "×");
    const made = { control, help: told, row: element("li", { class: "field" }, element("div", { class: "name" }, element("label", { for: id }, name), remove), control, told) };
    shown.set(name, made);
    rows.append(made.row);
    return made;
  }

  function take(name) {
    const next = shown.get(name).row.nextElementSibling ?? shown.get(name).row.previousElementSibling;
    shown.get(name).row.remove();
    shown.delete(name);
    offer();
    // Where the focus was is no more.
    /** @type {HTMLElement} */ (next?.querySelector(".remove") ?? add).focus();
    changed();
  }

  function addOne(name) {
    put(name, "", { focus: true });
    offer();
    changed();
  }

  add.addEventListener("change", describe);
  addButton.addEventListener("click", () => addOne(add.value));
  store.addEventListener("input", changed);
  for (const radio of hosts) {
    radio.addEventListener("change", () => {
      hostChanged();
      changed();
    });
  }
  hostChanged();

  return {
    host,
    addOne,
    has: (name) => shown.has(name),
    /** Blank is not set. */
    values: () => Object.fromEntries([...shown].filter(([, { row, control }]) => !row.hidden && control.value !== "").map(([name, { control }]) => [name, control.value])),
    store: () => (STORES[host()] && store.value !== "" ? store.value : undefined),
    fill(example) {
      for (const radio of hosts) radio.checked = radio.value === example.host;
      rows.replaceChildren();
      shown.clear();
      for (const [name, value] of Object.entries(example.settings)) put(name, value);
      store.value = example.store ?? "";
      hostChanged();
    },
    /** @param {{name: string, problem: string}[]} errors */
    tell(errors) {
      for (const [name, { control, help }] of shown) {
        const own = errors.filter((error) => error.name === name).map(({ problem }) => problem);
        tellProblem(control, help, own.length > 0 ? own.join("; ") : undefined);
      }
    },
  };
}

/** What a value may be decides how it is asked for. */
function controlFor(values, attributes) {
  const common = { ...attributes, spellcheck: "false", autocomplete: "off", autocapitalize: "off" };
  const options = values === "BOOL" ? ["yes", "no"] : values.includes("|") ? values.split("|") : undefined;
  if (options) return element("select", attributes, element("option", { value: "" }, "not set"), ...options.map((value) => element("option", { value }, value)));
  if (values === "JSON") return element("textarea", { ...common, rows: 4 });
  return element("input", { ...common, placeholder: values.toLowerCase(), ...(/SECONDS|COUNT/.test(values) ? { inputmode: "numeric" } : {}) });
}

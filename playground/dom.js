// Elements, made of data. Text stays text: the page's policy forbids to make markup of it.

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] a function is a listener, `true` an attribute without a value
 * @param {...(Node | string | null | undefined)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`There is no #${id}.`);
  return found;
}

/**
 * What is wrong with a field, in the place of its help; nothing if all is well.
 * @param {HTMLElement} control
 * @param {HTMLElement} help
 * @param {string} [problem]
 */
export function tellProblem(control, help, problem) {
  help.dataset.help ??= help.textContent;
  const text = problem ?? help.dataset.help;
  // What has not changed is not read out again.
  if (help.textContent !== text) help.textContent = text;
  help.classList.toggle("problem", problem !== undefined);
  if (problem === undefined) control.removeAttribute("aria-invalid");
  else control.setAttribute("aria-invalid", "true");
}

/** Text whose `…` are code. */
export function prose(text) {
  return text.split(/`([^`]*)`/).map((piece, index) => (index % 2 === 1 ? element("code", {}, piece) : piece));
}

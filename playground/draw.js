// The decision as a path of steps. It draws what the gateway says, and concludes nothing of its own.
import { byId, element, prose } from "./dom.js";

const TITLES = {
  path: "Path",
  rule: "Rule",
  local: "From where",
  credential: "Credential",
  header: "Token header",
  claims: "Claims",
  keys: "Key set",
  key: "Key",
  signature: "Signature",
  user: "User endpoint",
  static_token: "Static token",
  admin: "Admin",
  terminal: "Terminal",
  own_path: "Own path",
  verdict: "Verdict",
};

/** What a gateway asks the project for, and this page does not. */
const ASKED = ["keys", "user"];

const MARKS = { ok: ["✓", "Yes"], refused: ["✗", "No"], info: ["·", "Noted"] };

const FATES = { set: ["+", "set"], kept: ["", "kept"], anew: ["~", "made anew"], dropped: ["−", "dropped"] };

/**
 * @param {import("./gate/gate.js").Explanation} explanation
 * @param {{ jwksUrl: string | null, warnings: string[] }} about
 */
export function drawExplanation(explanation, { jwksUrl, warnings }) {
  const { verdict, reason, identity, answer, forward, readings } = explanation;
  if (verdict === "pass") tellVerdict("ok", passes(identity), where(answer, forward));
  else tellVerdict("refused", "Refused", wouldAsk(explanation) ? `${reason}, since nothing is fetched here` : reason);
  const steps = grouped(explanation.findings).map((group) => drawStep(group, readings, jwksUrl));
  const end = forward ? drawForward(forward) : drawAnswer(answer, verdict);
  byId("drawing").replaceChildren(...warnings.map((text) => element("p", { class: "warning" }, text)), element("ol", { class: "steps" }, ...steps, end));
}

/**
 * @param {{name: string, problem: string}[]} errors
 * @param {(name: string) => (() => void) | undefined} adds what shows a setting that is not shown
 */
export function drawErrors(errors, adds) {
  tellVerdict("refused", "Misconfigured", "nothing starts with these settings");
  const items = errors.map(({ name, problem }) => {
    const add = adds(name);
    return element("li", {}, element("code", {}, name), ` ${problem} `, add ? element("button", { type: "button", click: add }, `Add ${name}`) : null);
  });
  byId("drawing").replaceChildren(element("ul", { class: "errors" }, ...items));
}

export function drawNothing(why = "what is wrong with it stands beside its field") {
  tellVerdict("info", "No request yet", why);
  byId("drawing").replaceChildren();
}

function tellVerdict(status, what, more) {
  const verdict = byId("verdict");
  verdict.className = `verdict ${status}`;
  const text = `${what} ${more}`;
  // Only what changes is read out.
  if (verdict.dataset.told === text) return;
  verdict.dataset.told = text;
  verdict.replaceChildren(mark(status), element("span", {}, element("strong", {}, what), " ", element("span", { class: "more" }, more)));
  byId("bar").className = `bar ${status}`;
  byId("bar").replaceChildren(mark(status), ` ${text}`);
}

function passes(identity) {
  return identity ? `Passes as ${identity.userId}` : "Passes, as nobody";
}

function where(answer, forward) {
  if (answer) return "the gateway answers by itself";
  return forward.authority ? `to ${forward.authority}` : "to the program that asked";
}

/** Whether a gateway would have asked the project. */
function wouldAsk({ findings }) {
  return findings.some(({ step: name, status }) => status === "refused" && ASKED.includes(name));
}

function mark(status) {
  const [sign, word] = MARKS[status];
  return element("span", { class: "mark" }, element("span", { "aria-hidden": "true" }, sign), element("span", { class: "unseen" }, `${word}: `));
}

/** Claims, and the places that a path falls under, are one step each. */
function grouped(findings) {
  const groups = [];
  for (const finding of findings) {
    const kind = finding.claim ? "claims" : finding.step;
    if (groups.at(-1)?.kind === kind) groups.at(-1).findings.push(finding);
    else groups.push({ kind, findings: [finding] });
  }
  return groups;
}

function drawStep({ kind, findings }, readings, jwksUrl) {
  const status = ["refused", "ok"].find((one) => findings.some((finding) => finding.status === one)) ?? "info";
  const details = kind === "claims" ? [drawClaims(findings)] : findings.map(({ detail }) => element("p", {}, ...prose(detail)));
  const asksFor = status === "refused" && ASKED.includes(kind) ? drawKeysAdvice(kind, jwksUrl) : null;
  return step(status, TITLES[kind] ?? kind, kind, ...details, kind === "path" ? drawReadings(readings) : null, asksFor);
}

function step(status, title, kind, ...children) {
  return element("li", { class: `step ${status}`, "data-step": kind }, element("h3", {}, mark(status), title), ...children);
}

/** As it was sent, what leads to a restricted place, and the rest of them folded away. */
function drawReadings(readings) {
  if (readings.length === 0) return element("p", { class: "help" }, "It has more readings than are followed.");
  const restricting = readings.findIndex(({ places }) => places.length > 0);
  const told = new Set([0]);
  for (let at = restricting; at > 0; at = readings[at].from) told.add(at);
  const item = (reading, index) =>
    element(
      "li",
      { class: reading.places.length > 0 ? "restricts" : undefined },
      element("code", {}, reading.path),
      element("span", { class: "help" }, ` ${reading.by ?? "as it stands"}`),
      index === restricting ? element("strong", {}, ` restricts: ${reading.places.join(", ")}`) : reading.places.length > 0 ? element("span", {}, ` under ${reading.places.join(", ")}`) : null,
    );
  const list = readings.flatMap((reading, index) => (told.has(index) ? [item(reading, index)] : []));
  const others = readings.flatMap((reading, index) => (told.has(index) ? [] : [item(reading, index)]));
  const folded = others.length > 0 ? element("details", {}, element("summary", {}, `${others.length} further ${others.length === 1 ? "reading" : "readings"}`), element("ul", { class: "readings" }, ...others)) : null;
  return element("div", {}, element("ul", { class: "readings", "aria-label": "Readings of the path" }, ...list), folded);
}

function drawClaims(findings) {
  const head = element("tr", {}, ...["Claim", "Says", "Wanted"].map((name) => element("th", { scope: "col" }, name)));
  const rows = findings.map(({ status, claim }) =>
    element(
      "tr",
      { class: status },
      element("th", { scope: "row" }, mark(status), element("code", {}, claim.name)),
      element("td", { "data-label": "Says" }, claim.value === null ? element("em", {}, "absent") : element("code", {}, claim.value)),
      element("td", { "data-label": "Wanted" }, element("span", {}, ...prose(claim.wanted), claim.problem ? element("strong", {}, ` ${claim.problem}`) : null)),
    ),
  );
  return element("table", { class: "claims" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

/** The page fetches nothing, so it says how to. */
function drawKeysAdvice(kind, jwksUrl) {
  if (jwksUrl === null) return null;
  if (kind === "user") return element("p", { class: "help" }, "A gateway would ask the project. Here the token can only be checked with SUPABASE_JWT_SECRET.");
  const command = `curl -s '${jwksUrl}'`;
  const said = element("span", { role: "status", class: "help" });
  const copy = element("button", { type: "button", click: () => navigator.clipboard.writeText(command).then(() => (said.textContent = "Copied"), () => (said.textContent = "Select and copy it by hand")) }, "Copy");
  return element("div", { class: "advice" }, element("p", {}, "A gateway would fetch them. This page may not: run this, and set what it prints as ", element("code", {}, "SUPABASE_JWKS"), "."), element("div", { class: "joined" }, element("code", { class: "command" }, command), copy), said);
}

function drawAnswer({ status, headers, body }, verdict) {
  const lines = headers.map(([name, value]) => row("set", name, value, false));
  return step(
    verdict === "pass" ? "ok" : "refused",
    "The answer",
    "answer",
    element("p", { class: "first-line" }, element("code", {}, `HTTP/1.1 ${status}`)),
    element("table", { class: "headers" }, element("caption", { class: "unseen" }, "Headers of the answer"), element("tbody", {}, ...lines)),
    body === "" ? element("p", { class: "help" }, "without a body") : element("pre", { tabindex: "0", "aria-label": "Body of the answer" }, body),
  );
}

function drawForward({ authority, method, target, headers, set }) {
  const host = authority ? [row("set", "host", authority)] : [];
  const own = set.map(([name, value]) => row("set", name, value));
  const sent = (fate) => headers.filter((header) => header.fate === fate).map(({ name, value }) => row(fate, name, value));
  return step(
    "ok",
    "What the upstream sees",
    "forward",
    element("p", { class: "first-line" }, element("code", {}, `${method} ${target} HTTP/1.1`)),
    element("table", { class: "headers" }, element("caption", { class: "unseen" }, "Headers, and what becomes of them"), element("tbody", {}, ...host, ...own, ...sent("kept"), ...sent("anew"), ...sent("dropped"))),
  );
}

function row(fate, name, value, tellsFate = true) {
  const [sign, word] = FATES[fate];
  const told = tellsFate ? element("td", { class: "fate" }, element("span", { "aria-hidden": "true" }, sign), ` ${word}`) : null;
  return element("tr", { class: tellsFate ? fate : undefined, "data-fate": fate }, told, element("th", { scope: "row" }, element("code", {}, name)), element("td", {}, element("code", {}, value)));
}

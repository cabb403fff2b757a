// The request: method, target and headers as they are sent, byte for byte, and what else a gateway knows of it.
import { NotUnderstood, parseCurl } from "./curl.js";
import { byId, tellProblem } from "./dom.js";

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;

const field = (id) => /** @type {HTMLInputElement} */ (byId(id));

/** @param {() => void} changed */
export function requestForm(changed) {
  for (const id of ["method", "target", "headers", "scheme", "peer", "clock", "has-body"]) field(id).addEventListener("input", changed);

  field("curl").addEventListener("input", () => {
    const told = paste(field("curl").value);
    if (told) fill(told);
    changed();
  });

  function paste(text) {
    const tell = (problem) => tellProblem(field("curl"), byId("curl-help"), problem);
    tell();
    byId("curl-help").textContent = "";
    if (text.trim() === "") return;
    try {
      const { notes, ...request } = parseCurl(text);
      byId("curl-help").textContent = ["Understood: the request below is what it sends.", ...notes].join(" ");
      return { ...request, hasBody: request.hasBody && !request.headers.some(([name]) => /^content-length$/i.test(name)) };
    } catch (error) {
      if (!(error instanceof NotUnderstood)) throw error;
      tell(`Not understood: ${error.message}`);
    }
  }

  function fill({ method, target, headers, scheme = "https", peer, hasBody = false }) {
    field("method").value = method;
    field("target").value = target;
    field("headers").value = headers.map(([name, value]) => `${name}: ${value}`).join("\n");
    field("headers").rows = Math.max(4, headers.length + 1);
    field("scheme").value = scheme;
    if (peer !== undefined) field("peer").value = peer;
    field("has-body").checked = hasBody;
  }

  return {
    fill(request) {
      fill({ peer: "", ...request });
      field("clock").value = "";
      field("curl").value = "";
      paste("");
    },
    /** The request as it is described, or nothing while it is none. */
    read() {
      const method = field("method").value.trim();
      const isMethod = TOKEN.test(method);
      tellProblem(field("method"), byId("method-help"), isMethod ? undefined : "A method is a word of letters, like GET.");
      const headers = readHeaders();
      const now = readClock();
      if (!isMethod || !headers || now === null) return undefined;
      const peer = field("peer").value.trim();
      return {
        method,
        target: field("target").value,
        headers,
        hasBody: field("has-body").checked,
        scheme: field("scheme").value,
        ...(peer === "" ? {} : { peer }),
        ...(now === undefined ? {} : { now }),
      };
    },
  };
}

/** @returns {[string, string][] | undefined} */
function readHeaders() {
  const lines = field("headers").value.split("\n").map((line) => line.trim());
  const headers = [];
  let problem;
  lines.forEach((line, index) => {
    if (line === "") return;
    const [, name, value] = /^([^:]*):(.*)$/.exec(line) ?? [];
    if (name === undefined || !TOKEN.test(name)) problem ??= `Line ${index + 1} is not of the form Name: value.`;
    else headers.push([name, value.trim()]);
  });
  tellProblem(field("headers"), byId("headers-help"), problem);
  return problem ? undefined : headers;
}

/** Seconds, `undefined` for the present, or `null` for what is no time. */
function readClock() {
  const text = field("clock").value.trim();
  const asDate = () => Date.parse(`${text.replace(" ", "T").replace(/Z?$/, "Z")}`) / 1000;
  const seconds = text === "" ? undefined : Math.floor(/^\d+$/.test(text) ? Number(text) : asDate());
  const isTime = seconds === undefined || (seconds >= 0 && seconds < 2 ** 53 / 1000);
  tellProblem(field("clock"), byId("clock-help"), isTime ? undefined : "That is no time: like 2026-01-31 12:00:00, or Unix seconds");
  return isTime ? seconds : null;
}

// A `curl` command as the request that it would send. What is not understood is named, and never guessed at.
import { NotUnderstood, words } from "./shell.js";

export { NotUnderstood };

/** What each option does, by its long name. Those of `nothing` change nothing about the request itself. */
const OPTIONS = {
  header: takes((request, value) => request.lines.push(value)),
  request: takes((request, value) => (request.method = value)),
  "request-target": takes((request, value) => (request.target = value)),
  url: takes(addUrl),
  data: takes(addData),
  "data-ascii": takes(addData),
  "data-binary": takes(addData),
  "data-raw": takes((request, value) => request.data.push(value)),
  "data-urlencode": takes((request, value) => addData(request, urlencoded(value))),
  json: takes((request, value) => {
    request.isJson = true;
    addJson(request, value);
  }),
  form: takes((request) => (request.isForm = true)),
  "form-string": takes((request) => (request.isForm = true)),
  "upload-file": takes((request) => (request.isUpload = true)),
  user: takes((request, value) => (request.authorization = basic(value))),
  "oauth2-bearer": takes((request, value) => (request.authorization = `Bearer ${value}`)),
  "user-agent": takes((request, value) => request.own.push(["User-Agent", value])),
  referer: takes((request, value) => request.own.push(["Referer", value.replace(/;auto$/, "")])),
  range: takes((request, value) => request.own.push(["Range", `bytes=${value}`])),
  cookie: takes((request, value) => {
    if (value.includes("=")) request.own.push(["Cookie", value]);
    else request.notes.push(`The cookies in the file ${value} are not known here.`);
  }),
  get: flag((request) => (request.dataInQuery = true)),
  head: flag((request) => (request.isHead = true)),
  "path-as-is": flag((request) => (request.pathAsIs = true)),
  globoff: flag((request) => (request.globs = false)),
  ...nothing(
    flag(() => {}),
    "silent show-error include verbose insecure location location-trusted fail fail-with-body no-buffer progress-bar compressed compressed-ssh http1.0 http1.1 http2 http2-prior-knowledge http3 ipv4 ipv6 anyauth basic tcp-nodelay remote-name remote-header-name parallel no-keepalive keepalive tlsv1.2 tlsv1.3 ssl-no-revoke",
  ),
  ...nothing(
    takes(() => {}),
    "output max-time connect-timeout write-out retry retry-delay retry-max-time cacert capath cert cert-type key key-type pass ciphers proxy noproxy resolve connect-to interface cookie-jar dump-header max-redirs limit-rate trace trace-ascii stderr keepalive-time expect100-timeout",
  ),
};

const SHORT = { H: "header", X: "request", d: "data", F: "form", T: "upload-file", u: "user", A: "user-agent", e: "referer", r: "range", b: "cookie", G: "get", I: "head", g: "globoff", s: "silent", S: "show-error", i: "include", v: "verbose", k: "insecure", L: "location", f: "fail", N: "no-buffer", "#": "progress-bar", O: "remote-name", J: "remote-header-name", Z: "parallel", 0: "http1.0", 1: "tlsv1.2", 4: "ipv4", 6: "ipv6", o: "output", m: "max-time", w: "write-out", E: "cert", x: "proxy", c: "cookie-jar", D: "dump-header" };

function takes(act) {
  return { takesValue: true, act };
}

function flag(act) {
  return { takesValue: false, act };
}

function nothing(option, names) {
  return Object.fromEntries(names.split(" ").map((name) => [name, option]));
}

/**
 * @param {string} text the command, for a POSIX shell or for `cmd.exe`
 * @returns {{ method: string, scheme: "http" | "https", target: string, headers: [string, string][], hasBody: boolean, notes: string[] }}
 * @throws {NotUnderstood} with what is not understood
 */
export function parseCurl(text) {
  const { words: all, rest } = words(text);
  // A prompt that was copied along.
  while (all[0] === "$" || all[0] === "%") all.shift();
  const program = all.shift();
  if (program === undefined) throw new NotUnderstood("nothing");
  if (!/^(.*[\\/])?curl(\.exe)?$/i.test(program)) throw new NotUnderstood(`“${shortened(program)}”: the command should begin with curl`);
  const request = { lines: [], own: [], data: [], notes: [], globs: true };
  if (rest !== "") request.notes.push(`What follows the command was left out: ${shortened(rest)}`);
  read(all, request);
  return finished(request);
}

function read(all, request) {
  let areOptionsOver = false;
  while (all.length > 0) {
    const word = all.shift();
    if (areOptionsOver || !/^-./.test(word)) addUrl(request, word);
    else if (word === "--") areOptionsOver = true;
    else if (word.startsWith("--")) readLong(word.slice(2), all, request);
    else readShort(word.slice(1), all, request);
  }
}

/** `--name value`, and `--name=value` for whoever is used to it. */
function readLong(word, all, request) {
  const [, name, , attached] = /^([^=]*)(=([^]*))?$/.exec(word);
  const option = find(name) ?? (name.startsWith("no-") && find(name.slice(3))?.takesValue === false ? flag(() => {}) : undefined);
  if (!option) throw new NotUnderstood(`the option --${shortened(name)}`);
  if (!option.takesValue && attached !== undefined) throw new NotUnderstood(`a value for --${name}, which takes none`);
  option.act(request, option.takesValue ? (attached ?? valueOf(`--${name}`, all)) : undefined);
}

/** `-sXPOST` is `-s -X POST`. */
function readShort(letters, all, request) {
  for (let at = 0; at < letters.length; at += 1) {
    const option = find(SHORT[letters[at]]);
    if (!option) throw new NotUnderstood(`the option -${letters[at]}`);
    if (option.takesValue) return option.act(request, letters.slice(at + 1) || valueOf(`-${letters[at]}`, all));
    option.act(request);
  }
}

function find(name) {
  return name !== undefined && Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : undefined;
}

function valueOf(name, all) {
  if (all.length === 0) throw new NotUnderstood(`${name} without a value`);
  return all.shift();
}

function addUrl(request, value) {
  if (request.url !== undefined) throw new NotUnderstood(`a second URL, ${shortened(value)}`);
  request.url = value;
}

function addData(request, value) {
  if (value.startsWith("@")) {
    request.hasFile = true;
    value = "";
  }
  request.data.push(value);
}

/** Several of them are joined as they are. */
function addJson(request, value) {
  addData(request, value);
  if (request.data.length > 1) request.data.push(request.data.splice(-2).join(""));
}

/** `content`, `=content`, `name=content`; files are not read. */
function urlencoded(value) {
  const [, name, sign, content] = /^([^=@]*)([=@]?)([^]*)$/.exec(value);
  if (sign === "@") return `@${content}`;
  if (sign === "") return escaped(name);
  return name === "" ? escaped(content) : `${name}=${escaped(content)}`;
}

/** But for what RFC 3986 calls unreserved; blanks as forms have them. */
function escaped(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`).replaceAll("%20", "+");
}

function basic(user) {
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(user)))}`;
}

function finished(request) {
  const { scheme, authority, path, query, upgrade } = location(request);
  const hasData = request.data.length > 0 || request.hasFile;
  const inQuery = hasData && request.dataInQuery;
  const isForm = Boolean(request.isForm);
  const hasBody = (hasData && !inQuery) || isForm || Boolean(request.isUpload);
  const queries = [query, ...(inQuery ? [request.data.join("&")] : [])].filter((one) => one !== undefined && one !== "");
  const target = request.target ?? (queries.length > 0 ? `${path}?${queries.join("&")}` : path + (query === "" ? "?" : ""));
  const kind = isForm ? "multipart/form-data" : request.isJson ? "application/json" : "application/x-www-form-urlencoded";
  const length = new TextEncoder().encode(request.data.join("&")).length;
  const defaults = [
    ["Host", authority],
    ...upgrade,
    ...(request.authorization ? [["Authorization", request.authorization]] : []),
    ...request.own,
    ...(request.isJson ? [["Accept", "application/json"]] : []),
    ...(hasBody && !request.isUpload ? [["Content-Type", kind]] : []),
    ...(hasBody && !request.hasFile && !isForm && !request.isUpload ? [["Content-Length", String(length)]] : []),
  ];
  const fallback = request.isHead ? "HEAD" : request.isUpload ? "PUT" : hasBody ? "POST" : "GET";
  return { method: request.method ?? fallback, scheme, target, headers: merged(defaults, request.lines), hasBody, notes: request.notes };
}

/** Where it goes. Other than a browser, curl sends what it is given, but for dot segments. */
function location(request) {
  if (request.url === undefined) throw new NotUnderstood("a command without a URL");
  if (/[\s\x00-\x1f]/.test(request.url)) throw new NotUnderstood("a URL with a blank in it");
  const [, given, userinfo, authority, sent, query] = /^(?:([a-z][a-z\d+.-]*):\/\/)?(?:([^/?#@]*)@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?/i.exec(request.url);
  const scheme = { http: "http", https: "https", ws: "http", wss: "https" }[given?.toLowerCase() ?? "http"];
  if (!scheme) throw new NotUnderstood(`${given}://, which is not HTTP`);
  if (authority === "") throw new NotUnderstood("a URL without a host");
  if (request.globs && /[[\]{}]/.test(sent + (query ?? ""))) throw new NotUnderstood("[ ] { } in a URL, of which curl would make several; with --globoff it does not");
  if (userinfo !== undefined) request.authorization ??= basic(decodeURIComponent(userinfo));
  const encode = (text) => text.replace(/[^\x00-\x7f]+/g, encodeURIComponent);
  const path = encode(sent === "" ? "/" : sent);
  const resolved = request.pathAsIs ? path : withoutDotSegments(path);
  if (resolved !== path) request.notes.push("curl resolves . and .. before it sends anything; with --path-as-is it sends them as they stand.");
  const host = authority.replace(scheme === "https" ? /:443$/ : /:80$/, "");
  const isWebSocket = /^ws/i.test(given ?? "");
  const upgrade = isWebSocket ? [["Connection", "Upgrade"], ["Upgrade", "websocket"], ["Sec-WebSocket-Version", "13"]] : [];
  return { scheme, authority: host, path: resolved, query: query === undefined ? undefined : encode(query), upgrade };
}

/** RFC 3986, section 5.2.4. */
function withoutDotSegments(path) {
  const kept = [];
  const segments = path.split("/").slice(1);
  segments.forEach((segment, index) => {
    const isDots = segment === "." || segment === "..";
    if (segment === "..") kept.pop();
    if (!isDots) kept.push(segment);
    else if (index === segments.length - 1) kept.push("");
  });
  return `/${kept.join("/")}`;
}

/** The headers that curl adds by itself, unless a line names them; `Name:` takes one away, and `Name;` is one without a value. */
function merged(defaults, lines) {
  const given = lines.map((line) => {
    if (line.startsWith("@")) throw new NotUnderstood("headers from a file");
    const [, name, sign, value] = /^([^:;]*)([:;]?)([^]*)$/.exec(line);
    if (sign === "" || (sign === ";" && value.trim() !== "")) throw new NotUnderstood(`a header without a colon${name.length > 40 ? "" : `: ${name}`}`);
    return { name: name.trim(), value: value.trim(), isSent: sign === ";" || value.trim() !== "" };
  });
  const isGiven = ([name]) => given.some((line) => line.name.toLowerCase() === name.toLowerCase());
  const sent = given.filter(({ isSent }) => isSent).map(({ name, value }) => [name, value]);
  return [...defaults.filter((header) => !isGiven(header)), ...sent];
}

function shortened(text) {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

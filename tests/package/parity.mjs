// The vectors, and users of a Supabase project, through the package: on whatever runtime this is loaded into. Nothing is used here but
// what all of them have.

/** Of a request whose vector says nothing of it; as in `vectors.rs`. */
const HOST = "127.0.0.1:8000";
const PEER = "127.0.0.1";
const NOW = 1_767_225_600_000;

const IDENTITY = ["x-user-id", "x-auth-token-type", "x-auth-role"];
/** Of the gateway's answers. */
const OWN = ["cache-control", "content-type", "www-authenticate", "retry-after", "allow", "vary", ...IDENTITY].concat(
  ["allow-origin", "allow-methods", "allow-headers", "expose-headers", "max-age"].map((name) => `access-control-${name}`),
);
/** What stays in `decision.headers` because the platform keeps it right. */
const PLATFORM = ["host", "connection", "content-length", "upgrade"];

/** What only the native host can do, and only the edge minds. */
const isOfAHost = (host, settings) => (host === "native" ? ["AUTH_FAILURE_LIMIT", "AUTH_WS_CLOSE_ON_EXPIRY"] : ["UPSTREAM_CA"]).some((name) => name in settings) || hangsOnServing(host, settings);

/** A gate has neither a listener nor an upstream that could make another setting wrong. */
const hangsOnServing = (host, settings) => host === "native" && (("AUTH_LISTEN" in settings && "SUPABASE_URL" in settings) || settings.UPSTREAM_AUTHORIZATION === "Bearer x");

/**
 * @param {typeof import("nodetool-edge-auth")} library
 * @param {{vectors: Record<string, object[]>, users: object}} material
 * @returns {Promise<{ran: Record<string, number>, left: Record<string, number>, failures: string[]}>} how many ran in which way, and how many
 * were left out for which reason
 */
export async function run(library, { vectors, users }) {
  const report = { ran: {}, left: {}, failures: [] };
  // What gates warn of, they are made to here.
  console.warn = () => {};
  const count = (what, name) => (what[name] = (what[name] ?? 0) + 1);
  const attempt = async (way, name, body) => {
    try {
      const reason = await body();
      if (typeof reason === "string") return count(report.left, `${way}: ${reason}`);
      count(report.ran, way);
    } catch (error) {
      count(report.ran, way);
      report.failures.push(`${way}: ${name}\n    ${error?.stack ?? error}`);
    }
  };
  for (const [file, cases] of Object.entries(vectors)) {
    for (const vector of cases) {
      const name = `${file}: ${vector.name}`;
      if (vector.errors) {
        await attempt("settings", name, () => judgeSettings(library, vector));
        continue;
      }
      // What an adapter makes of a request on its wire, and what the platform has of one.
      await attempt("lines", name, () => judge(library, vector, asLines(vector)));
      await attempt("Request", name, async () => {
        const { request, reason } = asRequest(vector);
        return reason ?? (await judge(library, vector, request, contextOf(vector)));
      });
    }
  }
  for (const user of users.cases) await attempt("users", user.name, () => judgeUser(library, users, user));
  return report;
}

async function judge({ Gate }, vector, request, context) {
  const gate = new Gate(settingsOf(vector), { tokens: tokensOf(vector) });
  const decision = await at(vector.now ? vector.now * 1000 : NOW, () => gate.check(request, context));
  gate.free();
  const expected = vector.edge ?? vector.expect;
  if (expected.forward) return checkForward(vector, request, expected.forward, decision);
  if (isBuiltIn(vector, expected)) return checkBuiltIn(expected, decision);
  await checkAnswer(vector, expected, decision);
}

/** What a native host takes for granted where nobody says. */
function settingsOf({ hosts, settings }) {
  return hosts?.length === 1 && hosts[0] === "native" ? { ENV: "development", ...settings } : settings;
}

function tokensOf({ store, store_fails: fails }) {
  return {
    get(key) {
      if (fails) throw new Error("the store is down");
      return key === "worker_auth_token" ? store : undefined;
    },
  };
}

/** As of that time. It is `Date.now` that the core is told of it by. */
async function at(time, body) {
  const { now } = Date;
  Date.now = () => time;
  try {
    return await body();
  } finally {
    Date.now = now;
  }
}

const isNamed = ({ request: { headers = [], no_host: hasNone } }) => hasNone || headers.some(([name]) => name.toLowerCase() === "host");

function linesOf(vector) {
  const { headers = [] } = vector.request;
  return (isNamed(vector) ? headers : [["Host", HOST], ...headers]).map(([name, value]) => [name.toLowerCase(), value]);
}

const originOf = ({ scheme = "http" }) => `${scheme}://gateway.test`;

function asLines(vector) {
  const { method, target, body } = vector.request;
  const lines = linesOf(vector);
  return {
    method,
    // As `fromNode` does it: what is no path has none.
    url: originOf(vector) + (target.startsWith("/") ? target : ""),
    headers: {
      has: (name) => lines.some(([other]) => other === name),
      forEach: (each) => lines.forEach(([name, value]) => each(value, name)),
      [Symbol.iterator]: () => lines[Symbol.iterator](),
    },
    body: body ? {} : null,
    // What is expected at the edge is expected of a gate that does not know who connected.
    peer: vector.peer ?? (vector.edge ? "" : PEER),
  };
}

/** Who connected, where that matters: no `Request` tells it. */
function contextOf(vector) {
  const { peer } = asLines(vector);
  return vector.peer || /\$peer|trusted|TRUSTED/.test(JSON.stringify([vector.expect, vector.settings])) ? { peer } : undefined;
}

/** The same as a `Request`, or why there can be none: each rule names what a platform does not carry as it is. */
function asRequest(vector) {
  const { method, target, body } = vector.request;
  const url = originOf(vector) + target;
  let request;
  try {
    request = new Request(url, { method, body: body || undefined });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { reason: "there is no such Request" };
  }
  if (request.method !== method) return { reason: "the method is another one" };
  if (request.url !== url) return { reason: "the URL is resolved" };
  const lines = linesOf(vector);
  try {
    for (const [name, value] of lines) request.headers.append(name, value);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { reason: "there is no such header" };
  }
  // The one that no vector names is left to the platform, where nothing depends on it.
  const isFree = (name) => name === "host" && !isNamed(vector) && !/\$host/.test(JSON.stringify(vector.expect)) && vector.settings.AUTH_PROVIDER;
  for (const [name] of lines.filter(([name]) => !isFree(name))) {
    const values = lines.filter(([other]) => other === name).map(([, value]) => value);
    // Where the edge gets them like that too, its vectors hold for them.
    if (values.length > 1 && !(vector.hosts ?? ["edge"]).includes("edge")) return { reason: "lines of one name are joined" };
    const came = request.headers.get(name);
    if (came === null) return { reason: "a header is not for scripts" };
    if (came !== values.join(", ")) return { reason: "a header is trimmed" };
  }
  return { request };
}

/** Answers that a gateway without an upstream gives itself: there, who asked is the upstream. */
const isBuiltIn = ({ settings, request }, { status }) => !settings.UPSTREAM_URL && status === 200 && !request.target.startsWith("/.auth/");

function checkBuiltIn({ json }, decision) {
  same("allowed", decision.allowed, true);
  same("response", decision.response, null);
  if (json === null) return;
  const { user_id: userId = null, token_type: tokenType = null, role = null } = json;
  same("identity", [decision.userId, decision.tokenType, decision.role], [userId, tokenType, role]);
}

async function checkAnswer({ request: { method } }, { status, json, headers }, { allowed, response }) {
  if (response === null) throw new Error(`expected ${status}, and it may pass`);
  same("status", response.status, status);
  if (status >= 400) same("allowed", allowed, false);
  const type = json === null ? {} : { "content-type": "application/json" };
  const expected = { "cache-control": "no-store", ...type, ...headers };
  for (const name of OWN) same(name, response.headers.get(name), expected[name] ?? null);
  const text = await response.text();
  const body = text === "" ? null : JSON.parse(text);
  if (json?.timestamp && new Date(body?.timestamp) > 0) body.timestamp = json.timestamp;
  same("body", body, method === "HEAD" ? null : json);
}

function checkForward(vector, request, { target, set, kept = {}, dropped = [] }, decision) {
  if (decision.response !== null) throw new Error(`expected to pass, got ${decision.response.status}`);
  same("allowed", decision.allowed, true);
  const { headers } = decision;
  const identity = [...headers].filter(([name]) => IDENTITY.includes(name.replaceAll("_", "-")));
  same("identity headers", identity.sort(), Object.entries(set).filter(([name]) => IDENTITY.includes(name)).sort());
  const told = [decision.userId, decision.tokenType, decision.role];
  same("identity", told, IDENTITY.map((name) => set[name] ?? null));
  const lines = linesOf(vector);
  for (const [name, value] of Object.entries(set)) {
    same(name, headers.get(name), { $peer: asLines(vector).peer, $host: lines.find(([name]) => name === "host")?.[1] }[value] ?? value);
  }
  for (const [name, value] of Object.entries(kept)) same(`${name} is kept`, headers.get(name), value);
  for (const name of dropped.filter((name) => !PLATFORM.includes(name.toLowerCase()))) {
    const came = lines.filter(([other]) => other === name.toLowerCase()).map(([, value]) => value);
    if (came.includes(headers.get(name))) throw new Error(`${name} goes on`);
  }
  same("URL", decision.url, originOf(vector) + (target ?? vector.request.target));
}

function judgeSettings({ Gate }, { host, settings, errors }) {
  if (isOfAHost(host, settings)) return "what a gate is not";
  // The default that the other host has, and on which some rules depend.
  const own = host === "native" ? { ENV: "development", ...settings } : settings;
  let problems = [];
  try {
    new Gate(own, { tokens: tokensOf({}) }).free();
  } catch (error) {
    problems = error.message.split("\n").map((line) => line.split(":")[0]);
  }
  same("wrong settings", problems.sort(), errors);
}

/** With pinned keys, and with fetched ones. */
async function judgeUser({ Gate }, { jwks, settings }, { token, status, userId, role, challenge }) {
  const asked = [];
  const fetch = async (url) => {
    asked.push(url);
    if (url.endsWith("/user")) return new Response('{"error_code":"bad_jwt"}', { status: 403 });
    return new Response(JSON.stringify(jwks), { headers: { "cache-control": "public, max-age=600" } });
  };
  for (const [way, gate] of [
    ["pinned", new Gate({ ...settings, SUPABASE_JWKS: JSON.stringify(jwks) }, { fetch })],
    ["fetched", new Gate(settings, { fetch })],
  ]) {
    asked.length = 0;
    // Twice: what is remembered must say the same.
    for (const time of [1, 2]) {
      const decision = await gate.check(new Request("http://gateway.test/v1/models", { headers: { authorization: `Bearer ${token}` } }));
      const got = [decision.allowed, decision.response?.status ?? 200, decision.userId, decision.role, decision.response?.headers.get("www-authenticate") ?? null];
      same(`${way}, time ${time}`, got, [status === 200, status, userId ?? null, role ?? null, challenge ?? null]);
    }
    if (way === "pinned") same("questions", asked, []);
    // No token but those that the project could have signed is worth asking for.
    if (way === "fetched" && status === 200) same("questions", asked, [`${settings.SUPABASE_URL}/auth/v1/.well-known/jwks.json`]);
    gate.free();
  }
}

function same(what, got, expected) {
  const [one, other] = [JSON.stringify(got), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${what}: expected ${other}, got ${one}`);
}

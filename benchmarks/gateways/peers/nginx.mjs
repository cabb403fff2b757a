// nginx: passes on, compares a token, or asks the gateway (`auth_request`). It verifies no JWTs.
import { write, works } from "../machine.mjs";
import { STATIC } from "../tokens.mjs";

const server = (name, http) => {
  const file = write(
    `${name}.conf`,
    `worker_processes 1; daemon off; pid ${name}.pid; error_log stderr crit; worker_rlimit_nofile 20000; events { worker_connections 4096; }
     http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; large_client_header_buffers 4 32k; ${http} }`,
  );
  return { command: ["nginx", "-p", file.replace(/[^/]+$/, ""), "-c", file, "-e", "stderr"] };
};

/** Two bytes for everything, and what came of a request for `/echo`. */
export const upstream = (port) =>
  server(
    `upstream-${port}`,
    `server { listen 127.0.0.1:${port} backlog=4096; location / { return 200 "ok"; }
     location = /echo { return 200 "$http_x_user_id|$http_x_auth_token_type|$http_x_auth_role|$http_x_forwarded_for|$http_x_forwarded_proto|$http_x_forwarded_host|$http_x_real_ip|$http_forwarded"; } }`,
  );

const pool = (name, port) => `upstream ${name} { server 127.0.0.1:${port}; keepalive 256; keepalive_requests 100000000; }`;

const proxy = (user, type) => `proxy_pass http://api; proxy_http_version 1.1; proxy_read_timeout 300s; proxy_buffering off;
  proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host; proxy_set_header Forwarded ""; proxy_set_header X-Real-IP "";
  proxy_set_header X-User-Id ${user}; proxy_set_header X-Auth-Token-Type ${type};`;

const ASK = `location = /.ask { internal; proxy_pass http://gateway/.auth/verify; proxy_http_version 1.1; proxy_pass_request_body off;
  proxy_set_header Content-Length ""; proxy_set_header Connection ""; proxy_set_header X-Original-Method $request_method;
  proxy_set_header X-Original-URI $request_uri; proxy_set_header X-Forwarded-Method ""; proxy_set_header X-Forwarded-Uri ""; }`;

const WORK = {
  none: () => `location / { ${proxy("1", "none")} proxy_set_header X-Auth-Role ""; }`,
  static: () => `location / { if ($ok = 0) { return 401; } ${proxy("1", "static")} proxy_set_header X-Auth-Role ""; }`,
  ask: () => `${ASK} location / { auth_request /.ask; auth_request_set $user $upstream_http_x_user_id;
    auth_request_set $type $upstream_http_x_auth_token_type; auth_request_set $role $upstream_http_x_auth_role;
    ${proxy("$user", "$type")} proxy_set_header X-Auth-Role $role; }`,
};

export const nginx = {
  name: "nginx",
  missing: () => !works("nginx", "-v") && "apt-get install nginx",
  command: ({ name, port, auth, upstream, gateway }) =>
    server(
      name,
      `map $http_authorization $ok { default 0; "~^(?i:bearer) +${STATIC}$" 1; } ${pool("api", upstream)} ${gateway ? pool("gateway", gateway) : ""}
       server { listen 127.0.0.1:${port} backlog=4096; ${WORK[auth]()} }`,
    ),
};

/// <reference lib="esnext.disposable" />

/** A setting's value: text, or what is written as one. */
type Value<Known extends string = never> = Known | (string & {}) | number | boolean | undefined | null;

/**
 * The gateway's own settings, by their own names; lists are comma separated, times are in seconds. What else is in the object does not
 * matter, so that `process.env` or a Worker's `env` may be handed over whole.
 */
export interface Settings {
  /** Where this runs: `none` and `local` are refused in production. By default `production`. */
  ENV?: Value<"development" | "test" | "staging" | "production">;
  /**
   * How callers prove who they are. `static`: by one bearer token. `supabase`: by the JWT of a project's user, or by the static token.
   * `none`, `local`: not at all. By default `static`.
   */
  AUTH_PROVIDER?: Value<"static" | "supabase" | "none" | "local">;
  /** Exactly `1` lets `none` and `local` run in production. */
  AUTH_ALLOW_INSECURE?: Value;
  /** The static bearer token: visible ASCII without commas. */
  WORKER_AUTH_TOKEN?: Value;
  /** Another name for `WORKER_AUTH_TOKEN`. */
  SERVER_AUTH_TOKEN?: Value;
  /** The project whose users may pass. */
  SUPABASE_URL?: Value;
  /** An API key of the project; the publishable one will do. */
  SUPABASE_KEY?: Value;
  /** Its legacy HS256 secret. Without it such tokens are checked at `/auth/v1/user`. */
  SUPABASE_JWT_SECRET?: Value;
  /** Whether HS256 tokens pass at all; `no` refuses them without asking. By default they do. */
  SUPABASE_ALLOW_HS256?: Value;
  /** Its public keys as JSON, pinned: then nothing is fetched or asked. */
  SUPABASE_JWKS?: Value;
  /** Whether anonymous users pass. By default they do. */
  SUPABASE_ALLOW_ANONYMOUS?: Value;
  /** The expected `aud`. By default `authenticated`. */
  SUPABASE_AUDIENCE?: Value;
  /** The expected `iss`. By default `<SUPABASE_URL>/auth/v1`. */
  SUPABASE_ISSUER?: Value;
  /** Whether a token without `iss` passes, as an access token hook can make it. By default it does not. */
  SUPABASE_ALLOW_MISSING_ISSUER?: Value;
  /** For how many seconds a verified token is remembered, at most to its end; 0 for never. By default 30. */
  AUTH_CACHE_TTL?: Value;
  /** How many tokens are remembered; 0 for none. By default 1000. */
  AUTH_CACHE_MAX?: Value;
  /** The former name of `AUTH_CACHE_TTL`. */
  REMOTE_AUTH_CACHE_TTL?: Value;
  /** The former name of `AUTH_CACHE_MAX`. */
  REMOTE_AUTH_CACHE_MAX?: Value;
  /** Seconds of clock skew allowed on `exp`, `nbf` and `iat`, 0 to 300. By default 30. */
  AUTH_LEEWAY?: Value;
  /** Seconds for one call to the project. By default 5. */
  AUTH_FETCH_TIMEOUT?: Value;
  /** JWT roles that may use `/admin` and below; `*` for all, which is the default. */
  AUTH_ADMIN_ROLES?: Value;
  /** Public paths beside `/health` and `/ping`, byte by byte. */
  AUTH_PUBLIC_PATHS?: Value;
  /** When set, `/admin` and below also need it in `X-Admin-Token`. */
  ADMIN_TOKEN?: Value;
  /** Whether `decision.headers` keep the client's credentials, `X-Admin-Token` included. By default they do. */
  AUTH_FORWARD_AUTHORIZATION?: Value<"keep" | "strip">;
  /** The gateway's own credential for the upstream, like `Bearer TOKEN`: `decision.headers` have it in place of the client's. */
  UPSTREAM_AUTHORIZATION?: Value;
  /** Who answers `/health` and `/ping`: with `self`, `decision.response` does. By default `upstream`. */
  AUTH_HEALTH?: Value<"upstream" | "self">;
  /** Whether every peer may ask at `/.auth/verify`. By default only loopback peers and `AUTH_TRUSTED_PROXIES` may. */
  AUTH_VERIFY_OPEN?: Value;
  /** NodeTool's name of `ENV`: read only to warn where that is not set. */
  NODETOOL_ENV?: Value;
  /** Where a WebSocket upgrade may carry its token: some of `header`, `protocol`, `query`. By default `header`. */
  AUTH_WS_TOKEN_SOURCES?: Value;
  /** Whose pages may read answers and open WebSockets; `*` for all. Without it, CORS is not the gate's affair. */
  CORS_ORIGINS?: Value;
  /** Networks and addresses of proxies whose `X-Forwarded-*` headers are believed. By default nobody's are. */
  AUTH_TRUSTED_PROXIES?: Value;
  /** Whether `/terminal` and `/ws/terminal` are served; never in production. By default it is not. */
  NODETOOL_ENABLE_TERMINAL_WS?: Value;
}

/** What is kept somewhere, under keys: a KV namespace, a `Map`, `cacheStore(…)`. It may answer at once or by a promise. */
export interface ReadableStore {
  /** What is there, or nothing. */
  get(key: string): string | null | undefined | Promise<string | null | undefined>;
}

/** As KV namespaces are. `expirationTtl` is in seconds, and a store may forget earlier or never. */
export interface PuttingStore extends ReadableStore {
  put(key: string, value: string, terms: { expirationTtl: number }): unknown;
}

/** As maps are. */
export interface SettingStore extends ReadableStore {
  set(key: string, value: string): unknown;
}

/**
 * Where gates leave the public keys of a project for each other. Whoever can write there says who may pass.
 */
export type KeyStore = PuttingStore | SettingStore;

/** What a gate uses of its surroundings. */
export interface GateOptions {
  /** In place of the platform's own `fetch`, for the project's keys and users. Redirects must not be followed. */
  fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
  /**
   * Where keys are left for other gates: one store, or several with the nearest first. One that fails, hangs or holds garbage is
   * passed by within half a second.
   */
  store?: KeyStore | readonly KeyStore[] | undefined;
  /**
   * Where the static token is, under `worker_auth_token`, if no setting holds it: bare, or as the list of hashes that the gateway
   * takes from KV. It is read again after 30 seconds. While it fails, what was read last holds for an hour.
   */
  tokens?: ReadableStore | undefined;
  /** Lets work go on although the request is over, where a platform cuts it off: `waitUntil` of `cloudflare:workers`. */
  waitUntil?: ((work: Promise<unknown>) => void) | undefined;
}

/** What belongs to one request: in a Worker the third argument of `fetch`, which is Hono's `c.executionCtx`. */
export interface RequestContext {
  /** Lets work outlive the request. */
  waitUntil?(work: Promise<unknown>): void;
  /**
   * The address of the peer, as the connection tells it and never as a header does: `info.remoteAddr.hostname` in Deno,
   * `server.requestIP(request)?.address` in Bun, `getConnInfo(c).remote.address` in Hono. Without it the peer is unknown. On
   * Cloudflare it is known.
   */
  peer?: string | undefined;
}

/** What a gate looks at of a `Request`. */
export interface RequestLike {
  readonly method: string;
  /** With scheme and host. A `Request` has resolved dot segments in it; this one is judged as it is. */
  readonly url: string;
  /** Every header line, or lines of one name joined, as in `Headers`. */
  readonly headers: Iterable<[string, string]> & {
    has(name: string): boolean;
    forEach(body: (value: string, name: string) => void): void;
  };
  /** `null` if there is none, or if `Content-Length` or `Transfer-Encoding` tell of it. It is left alone. */
  readonly body: unknown;
  /** The address of the peer, as the connection tells it. Without it the peer is unknown: neither this machine nor a trusted proxy. */
  readonly peer?: string | undefined;
  /** Whether a proxy stands in front although no header says so, as with HTTP/1.0: then the client is not on this machine. */
  readonly forwarded?: boolean | undefined;
}

/** Who a token belongs to. */
export interface Identity {
  /** Whether it is accepted. */
  allowed: boolean;
  /** Whose it is: the `sub` of a JWT, or `"1"` for the static token; `null` for public paths and preflights. */
  userId: string | null;
  /** How that was proven. */
  tokenType: "static" | "user" | "none" | null;
  /** The role of a JWT. */
  role: string | null;
  /** What to answer: a refusal, or one of the gateway's own pages. `null` if all is well. */
  response: Response | null;
}

/** How a request was judged. */
export interface Decision extends Identity {
  /** The headers for whoever serves the request: the client's, without what it must not say, and with its identity. */
  headers: Headers;
  /** The request's URL, without a token that was in its query (`AUTH_WS_TOKEN_SOURCES`). */
  url: string;
  /** The response as the client gets it: with `CORS_ORIGINS` the gate says who may read it. */
  finish(response: Response): Response;
}

/** Decides who may pass. There may be many of them; each has its own settings, keys and memory. */
export class Gate {
  /**
   * @throws {Error} which names every wrong setting.
   * @throws {TypeError} for a wrong option.
   */
  constructor(settings: Settings, options?: GateOptions);

  /**
   * Judges a request. Its body is left alone. Return `decision.response` if there is one; else serve the request as `decision.userId`.
   *
   * In a Worker hand over its context: what has to be fetched is then fetched to the end even if this client leaves.
   */
  check(request: Request | RequestLike, context?: RequestContext): Promise<Decision>;

  /**
   * Judges a bearer token alone, for whoever got it in another way than in a header: in the first message of a WebSocket, say.
   */
  verify(token: string, context?: RequestContext): Promise<Identity>;

  /**
   * Gives back the memory that this gate takes. What is under way goes on to its end; whatever comes later is refused with an error.
   * A gate that nobody holds any more is freed by itself some time.
   */
  free(): void;

  /** `free()`, at the end of a `using` block. */
  [Symbol.dispose](): void;
}

/** What a store needs of a `Cache`. */
export interface CacheLike {
  match(url: string): Promise<Response | undefined>;
  put(url: string, response: Response): Promise<void>;
}

/**
 * A store for keys in a cache of the Cache API: `cacheStore(caches.default)` on Cloudflare, `cacheStore(caches.open("keys"))` elsewhere.
 */
export function cacheStore(cache: CacheLike | Promise<CacheLike>): PuttingStore;

/** A new static token: 256 random bits in 43 characters. */
export function generateToken(): string;

/** A token as it may be shown: `abcdefgh...wxyz`. */
export function maskToken(token: string): string;

// With the types of a browser and nothing else.
import { Gate, cacheStore, generateToken, maskToken, type Decision, type Identity, type Settings } from "nodetool-edge-auth";
import * as inline from "nodetool-edge-auth/inline";
import module from "nodetool-edge-auth/gate.wasm";
import { load } from "nodetool-edge-auth/wasm";

const settings: Settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: "https://x.supabase.co", AUTH_CACHE_TTL: 30, AUTH_ADMIN_ROLES: undefined };
using gate: Gate = new Gate(settings, { fetch, store: [cacheStore(caches.open("keys")), new Map<string, string>()] });
const decision: Decision = await gate.check(new Request("https://app.example/"));
const user: string | null = decision.userId;
const response: Response = decision.response ?? decision.finish(new Response(user, { headers: decision.headers }));
const identity: Identity = await gate.verify(maskToken(generateToken()));
const other: typeof Gate = inline.Gate === Gate ? load(module).Gate : Gate;
new other({ WORKER_AUTH_TOKEN: response.url + identity.role }).free();

// @ts-expect-error there is no such option
new Gate(settings, { stores: [] });
// @ts-expect-error there is no such provider setting's kind
new Gate({ AUTH_PROVIDER: {} });
// @ts-expect-error settings are needed
new Gate();
// @ts-expect-error not a request
await gate.check("https://app.example/");
// @ts-expect-error whoever stores has to put
new Gate(settings, { store: { get: () => null } });
// @ts-expect-error it may be nobody
const somebody: string = decision.userId;
// @ts-expect-error and there may be nothing to answer
const answer: Response = decision.response;

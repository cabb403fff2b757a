// What workerd loads: the Worker of the compiled core, behind the last guard.
import module from "./gateway_bg.wasm";
import * as gateway from "./gateway.js";
import { rehearse } from "./rehearsal.js";

export { TokenArbiter } from "./arbiter.js";

gateway.initSync({ module });
rehearse(gateway);

export default {
  async fetch(request, env, context) {
    try {
      const judged = gateway.judge(request, env, context);
      // It goes to its end even if the client leaves: what it waits for would never be let go of.
      if (judged instanceof Promise) context.waitUntil(judged);
      const judgement = await judged;
      if (judgement instanceof Response) return judgement;
      const { method } = request;
      const unavailable = (error) => gateway.upstreamUnavailable(method, error);
      return await judgement(unavailable, () => gateway.upstreamTimedOut(method));
    } catch (error) {
      // Nothing in the core panics. If it did at once, the request is refused and the next one starts from a clean instance.
      const line = { level: "error", message: "The gateway failed and refused a request", error: String(error?.stack ?? error) };
      console.error(JSON.stringify(line));
      if (error instanceof WebAssembly.RuntimeError) gateway.__wbg_reset_state();
      return new Response('{"detail":"Authentication is misconfigured"}', {
        status: 500,
        headers: { "content-type": "application/json", "cache-control": "no-store" },
      });
    }
  },
};

// What workerd loads: the Worker of the compiled core, behind the last guard.
import module from "./gateway_bg.wasm";
import * as gateway from "./gateway.js";

export { TokenArbiter } from "./arbiter.js";

gateway.initSync({ module });

export default {
  async fetch(request, env, context) {
    try {
      return await gateway.fetch(request, env, context);
    } catch (error) {
      // Nothing in the core panics. If it did, the request is refused and the next one starts from a clean instance.
      console.error("The gateway failed and refused a request:", error);
      if (error instanceof WebAssembly.RuntimeError) gateway.__wbg_reset_state();
      return new Response('{"detail":"Authentication is misconfigured"}', {
        status: 500,
        headers: { "content-type": "application/json", "cache-control": "no-store" },
      });
    }
  },
};

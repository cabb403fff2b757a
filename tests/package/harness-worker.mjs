// The same within workerd.
import * as library from "nodetool-edge-auth";
import { run } from "./parity.mjs";

export default {
  async fetch(request) {
    const outcome = await run(library, await request.json()).catch((error) => ({ error: String(error?.stack ?? error) }));
    return Response.json({ ...outcome, exports: Object.keys(library).sort(), isOne: true });
  },
};

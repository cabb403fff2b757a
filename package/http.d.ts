import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import type { Decision, Identity, RequestLike } from "./index.js";

/** Who sent a request: `userId` is `null` where nobody was asked, on public paths and preflights. */
export type RequestIdentity = Pick<Identity, "userId" | "tokenType" | "role">;

/**
 * What `gate.check()` takes of a request of Node's: method, path and every header line as the client sent them, and who connected.
 * Of an `IncomingMessage` of `node:http`, a request of the compatibility API of `node:http2`, of Express's `req`, of Fastify's `request.raw`.
 *
 * A whole URL in place of a path (`GET http://example.com/ HTTP/1.1`) is refused with 400.
 */
export function fromNode(req: IncomingMessage | Http2ServerRequest): RequestLike;

/** Answers by a `decision.response`. Of an upgrade, `to` is the socket, which is closed then. */
export function answer(response: Response, to: ServerResponse | Http2ServerResponse | Duplex): Promise<void>;

/**
 * Lets an allowed request on to its handlers. Who sent it is in `req.identity`. In `req.headers`, `req.headersDistinct` and `req.rawHeaders`
 * the identity headers are the gate's, and what a client must not say is gone, in every spelling; so is a token in `req.url` or in an
 * offered subprotocol. Trailers stay as they come.
 * With `CORS_ORIGINS`, `res` says who may read the answer. Of an upgrade there is no `res`: `null`.
 */
export function admit<Req extends IncomingMessage | Http2ServerRequest>(
  req: Req,
  res: ServerResponse | Http2ServerResponse | null,
  decision: Decision,
): asserts req is Req & { identity: RequestIdentity };

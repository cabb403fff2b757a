// With Node's types, and no browser's.
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:http2";
import express from "express";
import fastify from "fastify";
import { Gate } from "nodetool-edge-auth";
import { admit, answer, fromNode, type RequestIdentity } from "nodetool-edge-auth/node";

const gate = new Gate(process.env, { tokens: new Map([["worker_auth_token", "x"]]) });

const server = createServer(async (req, res) => {
  const decision = await gate.check(fromNode(req));
  if (decision.response) return answer(decision.response, res);
  admit(req, res, decision);
  const { userId }: RequestIdentity = req.identity;
  res.end(userId);
});
server.on("upgrade", async (req, socket) => {
  const { response } = await gate.check(fromNode(req));
  if (response) await answer(response, socket);
});
createSecureServer(async (req, res) => {
  const decision = await gate.check(fromNode(req));
  if (decision.response) await answer(decision.response, res);
  else admit(req, res, decision);
});
express().use(async (req, res, next) => {
  const decision = await gate.check(fromNode(req));
  if (decision.response) return answer(decision.response, res);
  admit(req, res, decision);
  next();
});
fastify().addHook("onRequest", async (request, reply) => {
  const decision = await gate.check(fromNode(request.raw));
  if (decision.response) return reply.send(decision.response);
  admit(request.raw, reply.raw, decision);
});

// @ts-expect-error a request of the Fetch standard needs no adapter
fromNode(new Request("https://app.example/"));

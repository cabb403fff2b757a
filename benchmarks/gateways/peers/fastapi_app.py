"""A gateway as the reference is built: a middleware of FastAPI that judges, httpx that passes on."""

import hmac
import os
import re

import httpx
import jwt
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

AUTH = os.environ["AUTH"]
TOKEN = os.environ["TOKEN"]
KEY = os.environ["KEY"]
CACHE_MAX = int(os.environ["CACHE"])
BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
OWN = {"x-user-id", "x-auth-token-type", "x-auth-role", "x-real-ip", "forwarded"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection"}
DROPPED = OWN | HOP_BY_HOP | {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}

if AUTH not in ("none", "static", "HS256"):
    KEY = jwt.algorithms.get_default_algorithms()[AUTH].prepare_key(KEY)
client = httpx.AsyncClient(base_url=os.environ["UPSTREAM"], timeout=300, limits=httpx.Limits(max_connections=512, max_keepalive_connections=256))
known = {}
app = FastAPI()


def verify(token):
    claims = known.get(token)
    if claims is None:
        required = ["exp", "iss", "aud", "sub", "role"]
        claims = jwt.decode(token, KEY, algorithms=[AUTH], audience=os.environ["AUDIENCE"], issuer=os.environ["ISSUER"], leeway=30, options={"require": required})
        if not claims["sub"] or not claims["role"]:
            raise jwt.InvalidTokenError
        if len(known) < CACHE_MAX:
            known[token] = claims
    return claims


def identity(request):
    if AUTH == "none":
        return {"x-user-id": "1", "x-auth-token-type": "none"}
    bearer = BEARER.fullmatch(request.headers.get("authorization", ""))
    if not bearer:
        return None
    if AUTH == "static":
        same = hmac.compare_digest(bearer[1].encode(), TOKEN.encode())
        return {"x-user-id": "1", "x-auth-token-type": "static"} if same else None
    try:
        claims = verify(bearer[1])
    except jwt.InvalidTokenError:
        return None
    return {"x-user-id": claims["sub"], "x-auth-token-type": "user", "x-auth-role": claims["role"]}


@app.middleware("http")
async def judge(request: Request, call_next):
    request.state.identity = identity(request)
    if request.state.identity is None:
        return JSONResponse({"detail": "Invalid authentication token"}, 401)
    return await call_next(request)


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def forward(request: Request, path: str):
    headers = {name: value for name, value in request.headers.items() if name not in DROPPED}
    headers |= request.state.identity
    headers |= {"x-forwarded-for": request.client.host, "x-forwarded-proto": "http", "x-forwarded-host": request.headers.get("host", "")}
    body = request.stream() if "content-length" in headers or "transfer-encoding" in request.headers else None
    outgoing = client.build_request(request.method, request.url.path, params=request.query_params, headers=headers, content=body)
    answer = await client.send(outgoing, stream=True)
    kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
    return StreamingResponse(pass_on(answer), answer.status_code, kept)


async def pass_on(answer):
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()

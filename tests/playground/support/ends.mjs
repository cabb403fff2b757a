// The examples of the page, and how it is read.

/** What becomes of each example, and one thing that must be seen in its drawing. */
export const ENDS = {
  "Static token": ["Passes as 1 to 127.0.0.1:9000", "forward", /\+ set\s+x-user-id\s+1\b[^]*− dropped\s+X-User-Id\s+root/],
  "No credential": ["Refused no_credential", "answer", /HTTP\/1\.1 401[^]*Authorization header required/],
  "Supabase user": ["Passes as 8f14e45f-ceea-4672-9d2b-3f1c0b9f7a11 to 127.0.0.1:9000", "forward", /x-auth-role\s+authenticated/],
  Expired: ["Refused expired_token", "answer", /The access token expired/],
  "Wrong audience": ["Refused unacceptable_claims", "claims", /aud\s+another-service\s+authenticated unacceptable_claims/],
  Forged: ["Refused bad_signature", "signature", /not made with that key/i],
  "Legacy secret": ["Passes as 8f14e45f-ceea-4672-9d2b-3f1c0b9f7a11 to 127.0.0.1:9000", "signature", /made with SUPABASE_JWT_SECRET/i],
  "Not an admin": ["Refused not_an_admin", "admin", /not in AUTH_ADMIN_ROLES/i],
  "Path trick": ["Refused no_admin_token", "path", /\/health\/\.\.%2fadmin as it stands[^]*\/health\/\.\.\/admin percent-decoded[^]*\/admin dot segments removed restricts: \/admin/],
  WebSocket: ["Passes as 1 to 127.0.0.1:9000", "forward", /\+ set\s+sec-websocket-protocol\s+chat[^]*− dropped\s+Sec-WebSocket-Protocol\s+bearer,/],
  Preflight: ["Passes, as nobody the gateway answers by itself", "answer", /HTTP\/1\.1 204[^]*access-control-allow-origin\s+https:\/\/app\.example\.com/],
  "Forward-auth": ["Passes as 1 the gateway answers by itself", "answer", /HTTP\/1\.1 200[^]*x-user-id\s+1/],
};

export const button = (page, name) => page.getByRole("button", { name, exact: true });
export const step = (page, kind) => page.locator(`[data-step="${kind}"]`);
export const seen = async (locator) => (await locator.allInnerTexts()).join("\n").replace(/[ \t]+/g, " ");

// X.509 certificates made at run time: Node makes keys and signatures, and what is around them is written here in DER.
import { createPublicKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";

import { temporaryFolder } from "./hosts.mjs";

const DAY = 86_400_000;

const der = (tag, ...parts) => {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
};
const sequence = (...parts) => der(0x30, ...parts);
const set = (...parts) => der(0x31, ...parts);
const explicit = (number, ...parts) => der(0xa0 + number, ...parts);
const octets = (content) => der(0x04, content);
const bits = (content) => der(0x03, Buffer.from([0]), content);
const boolean = (value) => der(0x01, Buffer.from([value ? 255 : 0]));
const integer = (bytes) => der(0x02, Buffer.from(bytes));

function oid(text) {
  const [first, second, ...rest] = text.split(".").map(Number);
  const bytes = rest.flatMap((number) => {
    const groups = [number & 127];
    for (let left = number >> 7; left > 0; left >>= 7) groups.unshift((left & 127) | 128);
    return groups;
  });
  return der(0x06, Buffer.from([first * 40 + second, ...bytes]));
}

const name = (text) => sequence(set(sequence(oid("2.5.4.3"), der(0x0c, Buffer.from(text)))));
const time = (date) => der(0x18, Buffer.from(`${date.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`));
const extension = (id, value, critical = false) => sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value));
const address = (text) => Buffer.from(net.isIPv4(text) ? text.split(".").map(Number) : [...Array(15).fill(0), 1]);

const KEYS = {
  ec: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  rsa: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
};
const ALGORITHMS = {
  ec: sequence(oid("1.2.840.10045.4.3.2")),
  rsa: sequence(oid("1.2.840.113549.1.1.11"), der(0x05)),
};
/** How a private key is written: PKCS#8, SEC1 or PKCS#1. */
const FORMS = { pkcs8: "pkcs8", sec1: "sec1", pkcs1: "pkcs1" };

/**
 * A certificate and its key, in PEM.
 * @param {{names?: string[], from?: number, days?: number, issuer?: Certificate, isAuthority?: boolean, type?: "ec" | "rsa", form?: string}} options
 * `names`: DNS names and addresses; `from`, `days`: when it begins, in days from now, and how long it holds; without an `issuer` it vouches for itself
 * @typedef {{certificate: string, key: string, subject: string, privateKey: import("node:crypto").KeyObject, type: string}} Certificate
 */
export function makeCertificate({ names = ["localhost", "127.0.0.1"], from = -1, days = 90, issuer, isAuthority = false, type = "ec", form = "pkcs8" } = {}) {
  const { publicKey, privateKey } = KEYS[type]();
  const subject = `${isAuthority ? "authority" : names[0]} ${randomBytes(4).toString("hex")}`;
  const signer = issuer ?? { subject, privateKey, type };
  const begin = new Date(Date.now() + from * DAY);
  const alternatives = names.map((text) => (net.isIP(text) ? der(0x87, address(text)) : der(0x82, Buffer.from(text))));
  const extensions = sequence(
    extension("2.5.29.19", sequence(...(isAuthority ? [boolean(true)] : [])), true),
    ...(isAuthority ? [] : [extension("2.5.29.17", sequence(...alternatives)), extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.1")))]),
  );
  const serial = randomBytes(8);
  serial[0] = 0x40;
  const body = sequence(
    explicit(0, integer([2])),
    integer(serial),
    ALGORITHMS[signer.type],
    name(signer.subject),
    sequence(time(begin), time(new Date(begin.getTime() + days * DAY))),
    name(subject),
    createPublicKey(publicKey.export({ type: "spki", format: "pem" })).export({ type: "spki", format: "der" }),
    explicit(3, extensions),
  );
  const whole = sequence(body, ALGORITHMS[signer.type], bits(sign("sha256", body, signer.privateKey)));
  const lines = whole.toString("base64").match(/.{1,64}/g).join("\n");
  const own = `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  // Whoever is not the authority itself shows who vouches for it.
  const certificate = issuer?.issued ? own + issuer.certificate : own;
  return { certificate, issued: Boolean(issuer), subject, privateKey, type, key: privateKey.export({ type: FORMS[form], format: "pem" }) };
}

/** A folder for the certificate and the key of a gateway: `settings` names the two files, `put` writes them. */
export function certificateFiles() {
  const folder = temporaryFolder();
  const settings = { AUTH_TLS_CERT: path.join(folder, "cert.pem"), AUTH_TLS_KEY: path.join(folder, "key.pem") };
  return {
    folder,
    settings,
    put({ certificate, key }, mode = 0o600) {
      writeFileSync(settings.AUTH_TLS_KEY, key, { mode });
      chmodSync(settings.AUTH_TLS_KEY, mode);
      writeFileSync(settings.AUTH_TLS_CERT, certificate);
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

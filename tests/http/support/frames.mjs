// Frames of HTTP/2 as bytes, for clients that Node would not be.

/** A frame (RFC 9113, section 4.1). */
export function frame(type, flags, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** How a client begins: the preface, and SETTINGS with the window that it has for each answer. */
export function beginning(window) {
  const setting = Buffer.alloc(6);
  setting.writeUInt16BE(4, 0);
  setting.writeUInt32BE(window, 2);
  return Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, setting)]);
}

/** Room for so many bytes more, of all answers together (RFC 9113, section 6.9). */
export function roomFor(bytes) {
  const increment = Buffer.alloc(4);
  increment.writeUInt32BE(bytes);
  return frame(8, 0, 0, increment);
}

/** `GET` of a short path, without a credential, as the number of its stream says. */
export const get = (path, number) => frame(1, 5, 2 * number + 1, Buffer.concat([Buffer.from([0x82, 0x86, 0x04, path.length]), Buffer.from(path), Buffer.from([0x01, 1]), Buffer.from("x")]));

/** Takes it back (RFC 9113, section 6.4). */
export const reset = (number) => frame(3, 0, 2 * number + 1, Buffer.from([0, 0, 0, 8]));

/** The types and streams of whole frames. */
export function framesIn(bytes) {
  const found = [];
  for (let at = 0; at + 9 <= bytes.length && at + 9 + bytes.readUIntBE(at, 3) <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    found.push({ type: bytes.readUInt8(at + 3), flags: bytes.readUInt8(at + 4), stream: bytes.readUInt32BE(at + 5), payload: bytes.subarray(at + 9, at + 9 + bytes.readUIntBE(at, 3)) });
  }
  return found;
}

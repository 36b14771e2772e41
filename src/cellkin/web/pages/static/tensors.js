// The pair tensor in memory: what in one picture matches a spot of the other is a slice of it.

/** Base64 of little-endian float32 to numbers. */
export function decode(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 1) return new Float32Array(bytes.buffer);
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** [i, j, :, :]: what in the reference matches position (i, j) of the query; flat (h, w). */
export function onReference(tensor, [h, w], i, j) {
  return tensor.subarray((i * w + j) * h * w, (i * w + j + 1) * h * w);
}

/** [:, :, x, y]: what in the query matches position (x, y) of the reference; flat (h, w). */
export function onQuery(tensor, [h, w], x, y) {
  const found = new Float32Array(h * w);
  for (let p = 0; p < h * w; p++) found[p] = tensor[p * h * w + x * w + y];
  return found;
}

/** Row and column of the largest value. */
export function peakOf(values, w) {
  let best = 0;
  for (let p = 1; p < values.length; p++) if (values[p] > values[best]) best = p;
  return { i: Math.floor(best / w), j: best % w, value: values[best] };
}

export const flat = (rows) => (rows ? Float32Array.from(rows.flat()) : null);

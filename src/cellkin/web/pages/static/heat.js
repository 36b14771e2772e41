// Heatmaps on canvas: one diverging scale for a whole row, zero in the middle and invisible, contour
// lines rather than fog. Nothing is normalised map by map: an empty map looks empty.

// ColorBrewer RdBu, blue for negative: safe for the colour-blind.
const STOPS = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"]
  .map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
const STRONGEST = 0.42; // opacity of the strongest value: the cell shows through everywhere
const FAINT = 0.25; // of the opacity of a map, outside the cell
const FINEST = 320; // pixels of a computed layer; it is drawn larger smoothly

export const EMPTY = "empty: nothing here";

/** Colour of a share in [-1, 1]. */
export function tone(share) {
  const at = (Math.max(-1, Math.min(1, share)) + 1) * 5;
  const low = Math.min(9, Math.floor(at));
  const part = at - low;
  return [0, 1, 2].map((i) => STOPS[low][i] * (1 - part) + STOPS[low + 1][i] * part);
}

const TABLE = Float32Array.from({ length: 513 * 3 }, (_, i) => tone(Math.floor(i / 3) / 256 - 1)[i % 3]);

/** Largest |value| of many maps; 0 where all are empty. */
export function limitOf(maps) {
  let most = 0;
  for (const map of maps) for (const v of map) if (Math.abs(v) > most) most = Math.abs(v);
  return most;
}

const weights = new Map();

/** Bicubic weights (a = -0.5) from n positions to N pixels, edges held. */
function bicubic(n, N) {
  const key = `${n}:${N}`;
  if (weights.has(key)) return weights.get(key);
  const kernel = (t) => { const x = Math.abs(t); return x < 1 ? 1.5 * x ** 3 - 2.5 * x ** 2 + 1 : x < 2 ? -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2 : 0; };
  const from = new Int32Array(N * 4);
  const by = new Float32Array(N * 4);
  for (let i = 0; i < N; i++) {
    const centre = ((i + 0.5) * n) / N - 0.5;
    const base = Math.floor(centre);
    for (let j = 0; j < 4; j++) {
      from[4 * i + j] = Math.max(0, Math.min(n - 1, base - 1 + j));
      by[4 * i + j] = kernel(centre - (base - 1 + j));
    }
  }
  weights.set(key, { from, by });
  return weights.get(key);
}

/** (h, w) values at N x N pixels, held inside their own range. */
export function enlarge(values, h, w, N) {
  const across = bicubic(w, N);
  const down = bicubic(h, N);
  const wide = new Float32Array(h * N);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < N; x++) {
      let sum = 0;
      for (let j = 0; j < 4; j++) sum += across.by[4 * x + j] * values[y * w + across.from[4 * x + j]];
      wide[y * N + x] = sum;
    }
  }
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  const large = new Float32Array(N * N);
  for (let y = 0; y < N; y++) {
    const [a, b, c, d] = [0, 1, 2, 3].map((j) => down.from[4 * y + j] * N);
    const [p, q, r, s] = [0, 1, 2, 3].map((j) => down.by[4 * y + j]);
    for (let x = 0; x < N; x++) {
      const v = p * wide[a + x] + q * wide[b + x] + r * wide[c + x] + s * wide[d + x];
      large[y * N + x] = v < low ? low : v > high ? high : v;
    }
  }
  return large;
}

const layer = document.createElement("canvas");

/** Draw values (h x w, flat) over a canvas; `limit` is what the ends of the colours stand for,
 *  `outline` the corners of the cell in sides of the picture: outside of it the map is faint. */
export function overlay(ctx, values, [h, w], limit, outline = null) {
  const side = ctx.canvas.width;
  if (limit && values.every(Number.isFinite) && values.some(Boolean)) {
    paintLayer(values, [h, w], limit, Math.min(FINEST, side));
    ctx.imageSmoothingQuality = "high";
    if (!outline) ctx.drawImage(layer, 0, 0, side, side);
    else for (const [within, alpha] of [[true, 1], [false, FAINT]]) drawPart(ctx, trace(outline, side, within), alpha);
  }
  if (!outline) return;
  for (const [width, style] of [[5, "#141414c0"], [2.4, "#fff"]]) {
    ctx.lineWidth = (width * side) / 448;
    ctx.strokeStyle = style;
    ctx.stroke(trace(outline, side, true));
  }
}

/** The edge of the cell; with the edge of the picture, what lies outside of it. */
function trace(outline, side, within) {
  const path = new Path2D();
  outline.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"](x * side, y * side));
  path.closePath();
  if (!within) path.rect(0, 0, side, side);
  return path;
}

function drawPart(ctx, path, alpha) {
  ctx.save();
  ctx.clip(path, "evenodd");
  ctx.globalAlpha = alpha;
  ctx.drawImage(layer, 0, 0, ctx.canvas.width, ctx.canvas.height);
  ctx.restore();
}

function paintLayer(values, [h, w], limit, N) {
  const large = enlarge(values, h, w, N);
  if (layer.width !== N) { layer.width = N; layer.height = N; }
  const own = layer.getContext("2d");
  const image = own.createImageData(N, N);
  paint(image.data, large, N, limit);
  own.putImageData(image, 0, 0);
}

function paint(pixels, large, N, limit) {
  for (let y = 0; y < N; y++) {
    for (let x = 0; x < N; x++) {
      const i = y * N + x;
      const v = large[i];
      const share = Math.max(-1, Math.min(1, v / limit));
      const size = Math.abs(share);
      const at = 3 * Math.round((share + 1) * 256);
      let alpha = STRONGEST * size ** 0.7;
      let [r, g, b] = [TABLE[at], TABLE[at + 1], TABLE[at + 2]];
      const level = Math.round(share * 4); // lines at a quarter, half and three quarters
      if (level && Math.abs(level) < 4) {
        const dx = large[x + 1 < N ? i + 1 : i] - large[x ? i - 1 : i];
        const dy = large[y + 1 < N ? i + N : i] - large[y ? i - N : i];
        const slope = Math.hypot(dx, dy) / 2;
        if (slope < 1e-5 * limit) { put(pixels, i, r, g, b, alpha); continue; } // a plateau has no line
        const away = Math.abs(v - (level / 4) * limit) / slope;
        const drawn = level > 0 || ((Math.floor(x / 6) + Math.floor(y / 6)) & 1) === 0;
        if (drawn && away < 2.6) {
          const halo = 0.5 * Math.min(1, 2.6 - away);
          const ink = 0.85 * Math.max(0, Math.min(1, 1.3 - away));
          [r, g, b, alpha] = over([r, g, b, alpha], [255, 255, 255], halo);
          if (ink) [r, g, b, alpha] = over([r, g, b, alpha], level > 0 ? [70, 0, 12] : [5, 30, 70], ink);
        }
      }
      put(pixels, i, r, g, b, alpha);
    }
  }
}

function put(pixels, i, r, g, b, alpha) {
  pixels[4 * i] = r;
  pixels[4 * i + 1] = g;
  pixels[4 * i + 2] = b;
  pixels[4 * i + 3] = alpha * 255;
}

function over([r, g, b, a], top, opacity) {
  const alpha = opacity + a * (1 - opacity);
  const mix = (under, upper) => (upper * opacity + under * a * (1 - opacity)) / alpha;
  return [mix(r, top[0]), mix(g, top[1]), mix(b, top[2]), alpha];
}

/** The colours from -limit to limit as they lie on a light picture. */
export function colorBar(canvas) {
  canvas.width = 380;
  canvas.height = 1;
  const ctx = canvas.getContext("2d");
  const image = ctx.createImageData(canvas.width, 1);
  for (let x = 0; x < canvas.width; x++) {
    const share = (2 * x) / (canvas.width - 1) - 1;
    const alpha = 0.25 + 0.75 * Math.abs(share) ** 0.7;
    tone(share).forEach((v, i) => { image.data[4 * x + i] = v * alpha + 245 * (1 - alpha); });
    image.data[4 * x + 3] = 255;
  }
  ctx.putImageData(image, 0, 0);
}

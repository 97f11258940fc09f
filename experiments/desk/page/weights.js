// The weights on the desk: where they start, what was moved since, which parts are off; with undo and redo.
import { decodeFloat32, parseLabel, sourcesOf } from "./labels.js";

export const PARTS = ["residual", "own", "cross"];
const CANCELLED = 0.1; // as in stemfuse.blending.explanation

/** A blend of the song's document with its segments as matrices, row by row. */
export function readBlend(song, blend) {
  const size = song.outputs.length * song.inputs.length;
  const flat = decodeFloat32(blend.matrix);
  const segments = blend.starts.map((_, k) => Float64Array.from(flat.subarray(k * size, (k + 1) * size)));
  const rows = song.outputs.map((label) => parseLabel(label).signal);
  const width = song.inputs.length;
  const given = sourcesOf(song.outputs).map((source) =>
    segments.some((matrix) => matrix.some((weight, at) => weight && rows[Math.floor(at / width)] === source)));
  return { ...blend, segments, given };
}

/** Where the weights of a source's own stems are: entries [row, column], each channel for the same channel. */
export function ownPlaces(song) {
  const places = [];
  for (const source of sourcesOf(song.outputs)) {
    for (const separator of song.separators) {
      const entries = song.channels.map((channel) =>
        [song.outputs.indexOf(`${source}.${channel}`), song.inputs.indexOf(`${separator}.${source}.${channel}`)]);
      if (entries.every(([row, column]) => row >= 0 && column >= 0)) places.push({ source, separator, entries });
    }
  }
  return places;
}

/** A matrix as base + residual + own + cross, as stemfuse.blending.decompose takes it apart. */
export function decompose(song, matrix) {
  const n = song.inputs.length;
  const m = song.outputs.length;
  const sources = sourcesOf(song.outputs);
  const places = ownPlaces(song);
  const base = new Float64Array(m * n);
  for (const source of sources) {
    const own = places.filter((place) => place.source === source);
    let levels = own.map(({ entries }) =>
      entries.reduce((sum, [row, column]) => sum + matrix[row * n + column], 0) / entries.length);
    const total = (values) => values.reduce((sum, value) => sum + value, 0);
    if (total(levels) <= CANCELLED * total(levels.map(Math.abs))) levels = levels.map(() => 1);
    own.forEach(({ entries }, at) => {
      for (const [row, column] of entries) base[row * n + column] = levels[at] / total(levels);
    });
  }
  const rest = matrix.map((weight, at) => weight - base[at]);
  const residual = residualRule(song, sources, base, rest);
  const own = new Float64Array(m * n);
  const cross = new Float64Array(m * n);
  for (let row = 0; row < m; row++) {
    const source = parseLabel(song.outputs[row]).signal;
    for (let column = 0; column < n; column++) {
      const at = row * n + column;
      (parseLabel(song.inputs[column]).source === source ? own : cross)[at] = rest[at] - residual[at];
    }
  }
  return { base, residual, own, cross };
}

/** What the mixture minus the sum of the base's estimates gives to each source, by gains of the least squares. */
function residualRule(song, sources, base, rest) {
  const n = song.inputs.length;
  const channels = song.channels.length;
  const rule = new Float64Array(rest.length);
  const mixture = song.channels.map((channel) => song.inputs.indexOf(`mixture.${channel}`));
  if (mixture.some((column) => column < 0)) return rule;
  const same = new Float64Array(channels * n);
  for (let at = 0; at < base.length; at++) same[(Math.floor(at / n) % channels) * n + (at % n)] -= base[at];
  mixture.forEach((column, channel) => { same[channel * n + column] += 1; });
  const other = new Float64Array(channels * n);
  for (let channel = 0; channel < channels; channel++) {
    for (let also = 0; also < channels; also++) {
      if (also !== channel) for (let i = 0; i < n; i++) other[channel * n + i] += same[also * n + i];
    }
  }
  const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
  const [ss, so, oo] = [dot(same, same), dot(same, other), dot(other, other)];
  sources.forEach((_, source) => {
    const target = rest.subarray(source * channels * n, (source + 1) * channels * n);
    const [st, ot] = [dot(same, target), dot(other, target)];
    const determinant = ss * oo - so * so;
    let gains = [ss > 0 ? st / ss : 0, 0];
    if (determinant > 1e-12 * ss * oo && oo > 0) gains = [(st * oo - ot * so) / determinant, (ot * ss - st * so) / determinant];
    else if (ss > 0 && oo > 0) gains = [st / (2 * ss), (st / (2 * ss)) * Math.sign(so)];
    for (let at = 0; at < target.length; at++) {
      rule[source * channels * n + at] = gains[0] * same[at] + gains[1] * other[at];
    }
  });
  return rule;
}

export class Board {
  constructor(song) {
    this.song = song;
    this.size = song.outputs.length * song.inputs.length;
    this.blends = song.blends.map((blend) => readBlend(song, blend));
    this.listeners = [];
    this.past = [];
    this.future = [];
    const fusions = this.blends.findIndex((blend) => blend.group === "fusion");
    this.state = this.fresh(Math.max(fusions, 0));
    this.parts = new Map();
    this.touched = null;
    this.build();
  }

  fresh(start) {
    return { start, off: [], moved: new Float64Array(this.size) };
  }

  get start() {
    return this.blends[this.state.start];
  }

  get isVarying() {
    return this.start.segments.length > 1;
  }

  get isMoved() {
    return this.state.off.length > 0 || this.state.moved.some(Boolean);
  }

  /** Which sources have weights: those of the start, and those that were given some. */
  get given() {
    const rows = this.song.channels.length * this.song.inputs.length;
    return this.start.given.map((is, source) =>
      is || this.state.moved.subarray(source * rows, (source + 1) * rows).some(Boolean));
  }

  /** Parts of a segment of the start. */
  partsOf(k) {
    const key = `${this.state.start}:${k}`;
    if (!this.parts.has(key)) this.parts.set(key, decompose(this.song, this.start.segments[k]));
    return this.parts.get(key);
  }

  /** Share of each part in what the start is beside its base, by the squares of weights. */
  shares() {
    const sums = Object.fromEntries(PARTS.map((part) => [part, 0]));
    this.start.segments.forEach((_, k) => {
      const parts = this.partsOf(k);
      for (const part of PARTS) for (const weight of parts[part]) sums[part] += weight * weight;
    });
    return sums;
  }

  build() {
    this.segments = this.start.segments.map((matrix, k) => {
      const now = Float64Array.from(matrix);
      for (const part of this.state.off) {
        const values = this.partsOf(k)[part];
        for (let at = 0; at < this.size; at++) now[at] -= values[at];
      }
      // what is left of a weight that was taken off is rounding
      for (let at = 0; at < this.size; at++) {
        if (this.state.off.length && Math.abs(now[at]) < 1e-9) now[at] = 0;
        now[at] += this.state.moved[at];
      }
      return now;
    });
    for (const listener of this.listeners) listener();
  }

  /** The segment that sounds at a time in seconds. */
  segmentAt(seconds) {
    return segmentAt(this.start, seconds);
  }

  /** Change the state; changes of one kind that follow each other are undone together. */
  change(next, kind = null) {
    const now = performance.now();
    if (kind === null || !this.touched || this.touched.kind !== kind || now - this.touched.at > 1200) {
      this.past.push(this.state);
      if (this.past.length > 500) this.past.shift();
    }
    this.touched = kind === null ? null : { kind, at: now };
    this.future = [];
    this.state = { ...this.state, ...next };
    this.build();
  }

  startFrom(index) {
    this.change(this.fresh(index));
  }

  togglePart(part) {
    const off = this.state.off.includes(part) ? this.state.off.filter((one) => one !== part) : [...this.state.off, part];
    this.change({ off });
  }

  /** Add to weights, entries [row, column]. */
  move(entries, by, kind = null) {
    const moved = Float64Array.from(this.state.moved);
    for (const [row, column] of entries) {
      const at = row * this.song.inputs.length + column;
      moved[at] = Math.abs(moved[at] + by) < 1e-9 ? 0 : moved[at] + by;
    }
    this.change({ moved }, kind);
  }

  /** The mean of some weights at a segment. */
  value(entries, k) {
    const n = this.song.inputs.length;
    return entries.reduce((sum, [row, column]) => sum + this.segments[k][row * n + column], 0) / entries.length;
  }

  undo() {
    this.step(this.past, this.future);
  }

  redo() {
    this.step(this.future, this.past);
  }

  step(from, to) {
    if (!from.length) return;
    to.push(this.state);
    this.state = from.pop();
    this.touched = null;
    this.build();
  }
}

/** The segment of a blend in the middle of which, or in which, a time lies. */
export function segmentAt({ starts, duration }, seconds) {
  let found = 0;
  for (let k = 0; k < starts.length; k++) {
    // of segments that overlap, the one whose middle is nearest has the most of the sound
    const begins = duration && k ? (starts[k - 1] + starts[k] + duration) / 2 : starts[k];
    if (seconds >= begins - 1e-9) found = k;
  }
  return found;
}

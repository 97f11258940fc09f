// The SDR of any weights from Gram statistics, frame by frame: what stemfuse.analysis.GramStatistics computes.
import { decodeFloat64, parseLabel, sourcesOf, unpackSymmetric } from "./labels.js";

const SILENCE = 1e-14; // share of the energy of its terms below which a sum over channels counts as silent

/** The median of numbers as NumPy's nanmedian gives it; NaN of none. */
export function medianOf(values) {
  const known = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  if (!known.length) return NaN;
  const middle = known.length >> 1;
  if (known.length % 2) return known[middle];
  return known[middle - 1] === known[middle] ? known[middle] : (known[middle - 1] + known[middle]) / 2;
}

export class Gram {
  constructor(song) {
    this.inputs = song.inputs.length;
    this.outputs = song.outputs.length;
    this.sources = sourcesOf(song.outputs);
    this.channels = song.channels.length;
    this.size = this.inputs + this.outputs;
    this.frames = unpackSymmetric(decodeFloat64(song.moments), this.size);
    this.silent = song.silent;
    this.sourceOf = song.outputs.map((label) => this.sources.indexOf(parseLabel(label).signal));
    // NumPy's silent_sources: the reference's sum over channels is nothing
    this.silentSources = this.frames.map((moments) => this.sources.map((_, source) => {
      const rows = this.rowsOf(source).map((row) => this.inputs + row);
      let sum = 0;
      let trace = 0;
      for (const i of rows) {
        trace += moments[i * this.size + i];
        for (const j of rows) sum += moments[i * this.size + j];
      }
      return sum <= SILENCE * trace;
    }));
  }

  rowsOf(source) {
    return this.sourceOf.map((own, row) => (own === source ? row : -1)).filter((row) => row >= 0);
  }

  /** Energies and errors of every source in one frame, and whether the frame counts for nobody. */
  measure(frame, matrix, given) {
    const { inputs: n, size, sources } = this;
    const moments = this.frames[frame];
    const energies = new Float64Array(sources.length);
    const errors = new Float64Array(sources.length);
    let dropped = given.every(Boolean) ? this.silent[frame] : given.some((is, s) => is && this.silentSources[frame][s]);
    for (let source = 0; source < sources.length; source++) {
      const rows = this.rowsOf(source);
      const summed = new Float64Array(n);
      let terms = 0;
      for (const row of rows) {
        const used = [];
        for (let i = 0; i < n; i++) if (matrix[row * n + i]) used.push(i);
        const reference = (n + row) * size;
        let error = moments[reference + n + row];
        energies[source] += error;
        for (const i of used) {
          const weight = matrix[row * n + i];
          let slope = -2 * moments[reference + i];
          for (const j of used) slope += matrix[row * n + j] * moments[i * size + j];
          error += weight * slope;
          summed[i] += weight;
          terms += weight * weight * moments[i * size + i];
        }
        errors[source] += Math.max(error, 0);
      }
      if (!given[source]) continue;
      let energy = 0;
      for (let i = 0; i < n; i++) {
        if (!summed[i]) continue;
        for (let j = 0; j < n; j++) energy += summed[i] * summed[j] * moments[i * size + j];
      }
      if (energy <= SILENCE * terms) dropped = true;
    }
    return { energies, errors, dropped };
  }

  /** Measures of some frames; matrixAt(frame) gives the weights, given says of which sources there are any. */
  measures(matrixAt, given, frames) {
    return frames.map((frame) => this.measure(frame, matrixAt(frame), given));
  }

  /** SDR in dB per source and their mean: the median of frames as the report has it, or of the sums over frames. */
  summary(measures, given, how) {
    const values = this.sources.map((_, source) => {
      if (!given[source]) return NaN;
      if (how === "median") {
        return medianOf(measures.map(({ energies, errors, dropped }) =>
          dropped ? NaN : 10 * Math.log10(energies[source] / errors[source])));
      }
      let energy = 0;
      let error = 0;
      for (const measure of measures) {
        energy += measure.energies[source];
        error += measure.errors[source];
      }
      return energy > 0 ? 10 * Math.log10(energy / error) : NaN;
    });
    const known = values.filter((value, source) => given[source]);
    const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
    return { values, mean };
  }

  /**
   * How the SDR of the sums over frames answers to weights that move together.
   * cells: lists of [row, column] of one source; gives per cell dSDR/dw, the best step and what it gains, in dB.
   */
  answers(matrixAt, frames, cells) {
    const { inputs: n, outputs: m, size } = this;
    const slope = new Float64Array(m * n);
    const power = new Float64Array(n);
    const errors = new Float64Array(this.sources.length);
    for (const frame of frames) {
      const moments = this.frames[frame];
      const matrix = matrixAt(frame);
      for (let i = 0; i < n; i++) power[i] += moments[i * size + i];
      for (let row = 0; row < m; row++) {
        const reference = (n + row) * size;
        let error = moments[reference + n + row];
        for (let i = 0; i < n; i++) {
          let sum = -moments[reference + i];
          for (let j = 0; j < n; j++) if (matrix[row * n + j]) sum += matrix[row * n + j] * moments[i * size + j];
          slope[row * n + i] += sum;
          error += matrix[row * n + i] * (sum - moments[reference + i]);
        }
        errors[this.sourceOf[row]] += Math.max(error, 0);
      }
    }
    return cells.map((entries) => {
      const error = errors[this.sourceOf[entries[0][0]]];
      let fall = 0;
      let curve = 0;
      for (const [row, column] of entries) {
        fall += slope[row * n + column];
        curve += power[column];
      }
      if (!(error > 0) || !(curve > 0)) return { gradient: 0, step: 0, gain: 0 };
      const left = Math.max(error - (fall * fall) / curve, error * 1e-12);
      return { gradient: (-20 / Math.LN10) * (fall / error), step: -fall / curve, gain: 10 * Math.log10(error / left) };
    });
  }
}

/** Loudness in LUFS, not gated, of gains (channel, input) over some frames of K-weighted moments. */
export function loudnessOf(frames, size, gainsAt, channels) {
  let sum = 0;
  frames.forEach((moments, frame) => {
    const gains = gainsAt(frame);
    for (let channel = 0; channel < channels; channel++) {
      const used = [];
      for (let i = 0; i < size; i++) if (gains[channel * size + i]) used.push(i);
      for (const i of used) {
        for (const j of used) sum += gains[channel * size + i] * gains[channel * size + j] * moments[i * size + j];
      }
    }
  });
  return frames.length && sum > 0 ? -0.691 + 10 * Math.log10(sum / frames.length) : -Infinity;
}

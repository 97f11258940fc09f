// What can be listened to: the desk, the mixture, the reference, separators and fusions; as gains, SDR and loudness.
import { loudnessOf } from "./gram.js";
import { countOf, parseLabel, sourcesOf } from "./labels.js";
import { segmentAt } from "./weights.js";

const LOUDEST_GAIN_DB = 24;

export function listTakes(song, board) {
  const takes = [{ label: "desk", group: "desk" }];
  if (song.inputs.some((label) => label.startsWith("mixture."))) takes.push({ label: "mixture", group: "mixture" });
  if (song.hasReferences) takes.push({ label: "reference", group: "reference" });
  board.blends.forEach((blend, index) => takes.push({ label: blend.label, group: blend.group, blend, index }));
  // fusions without weights come as sound, in channels after the references
  let column = song.inputs.length + (song.hasReferences ? song.outputs.length : 0);
  for (const { label, sources } of song.heard) {
    takes.push({ label, group: "fusion", heard: sources, column });
    column += sources.length * song.channels.length;
  }
  return takes;
}

export class Listening {
  constructor(song, board, gram) {
    Object.assign(this, { song, board, gram });
    this.inputs = song.inputs.length;
    this.count = countOf(song);
    this.sources = sourcesOf(song.outputs);
    this.rows = song.outputs.map((label) => {
      const { signal, channel } = parseLabel(label);
      return { source: this.sources.indexOf(signal), channel: song.channels.indexOf(channel) };
    });
    this.channels = Math.min(song.channels.length, 2);
    this.kept = new Map();
  }

  /** Segments of a take with where they start and how long they are, in seconds; one matrix where it is constant. */
  segmentsOf(take) {
    if (take.group === "desk") return { ...this.board.start, segments: this.board.segments };
    return take.blend;
  }

  /** Gains (channel, input and reference) of a take for the sources that are heard, segment by segment. */
  gainsOf(take, heard) {
    const { count, channels, song } = this;
    const place = (gains, channel, column, weight) => { if (channel < channels) gains[channel * count + column] += weight; };
    if (take.group === "mixture") {
      const gains = new Float32Array(channels * count);
      song.channels.forEach((channel, c) => place(gains, c, song.inputs.indexOf(`mixture.${channel}`), 1));
      return [gains];
    }
    if (take.group === "reference") {
      const gains = new Float32Array(channels * count);
      this.rows.forEach(({ source, channel }, row) => heard[source] && place(gains, channel, this.inputs + row, 1));
      return [gains];
    }
    if (take.heard) {
      const gains = new Float32Array(channels * count);
      take.heard.forEach((source, at) => {
        if (!heard[this.sources.indexOf(source)]) return;
        song.channels.forEach((_, c) => place(gains, c, take.column + at * song.channels.length + c, 1));
      });
      return [gains];
    }
    return this.segmentsOf(take).segments.map((matrix) => {
      const sums = new Float64Array(channels * count);
      this.rows.forEach(({ source, channel }, row) => {
        if (!heard[source]) return;
        for (let i = 0; i < this.inputs; i++) place(sums, channel, i, matrix[row * this.inputs + i]);
      });
      return Float32Array.from(sums);
    });
  }

  /** What the worklet is told of a take, made louder or softer by a gain. */
  messageOf(take, heard, gainDb) {
    const gain = 10 ** (gainDb / 20);
    const gains = this.gainsOf(take, heard).map((values) => values.map((value) => value * gain));
    const { starts, duration } = gains.length > 1 ? this.segmentsOf(take) : { starts: [0], duration: null };
    return {
      gains,
      starts: starts.map((seconds) => Math.round(seconds * this.song.rate)),
      duration: duration ? Math.max(1, Math.round(duration * this.song.rate)) : 0,
    };
  }

  middleOf(frame) {
    const [start, stop] = this.song.frames[frame];
    return (start + stop) / 2 / this.song.rate;
  }

  /** Loudness of a take over frames of K-weighted moments; -Infinity where nothing is heard. */
  loudness(take, heard, weighted, frames) {
    const here = frames.filter((frame) => frame >= weighted.first && frame < weighted.first + weighted.frames.length);
    const gains = this.gainsOf(take, heard);
    const at = gains.length > 1 ? this.segmentsOf(take) : null;
    return loudnessOf(
      here.map((frame) => weighted.frames[frame - weighted.first]), this.count,
      (place) => gains[at ? segmentAt(at, this.middleOf(here[place])) : 0], this.channels,
    );
  }

  /** By how many dB a take has to be louder to be as loud as the reference, or as the first separator without one. */
  gainDb(take, takes, heard, weighted, frames) {
    if (!weighted || !weighted.frames.length) return 0;
    const standard = takes.find((one) => one.group === "reference") || takes.find((one) => one.group === "separator") || take;
    const [wanted, own] = [standard, take].map((one) => this.loudness(one, heard, weighted, frames));
    if (!Number.isFinite(wanted) || !Number.isFinite(own)) return 0;
    return Math.min(Math.max(wanted - own, -LOUDEST_GAIN_DB), LOUDEST_GAIN_DB);
  }

  /** The matrix of a take in a frame. */
  matrixAt(take) {
    const blend = this.segmentsOf(take);
    return (frame) => blend.segments[blend.segments.length > 1 ? segmentAt(blend, this.middleOf(frame)) : 0];
  }

  givenOf(take) {
    return take.group === "desk" ? this.board.given : take.blend.given;
  }

  /** Whether the SDR follows exactly from the frames' moments: no weights change within a frame. */
  isExact(take) {
    const { segments, starts, duration } = this.segmentsOf(take);
    if (segments.length === 1) return true;
    const borders = new Set(this.song.frames.map(([start]) => start));
    return !duration && starts.every((seconds) => {
      const sample = Math.round(seconds * this.song.rate);
      return borders.has(sample) || sample >= this.song.frames.at(-1)[1];
    });
  }

  /** Measures of every frame; those of blends are kept, for they do not change. */
  measures(take) {
    if (!this.gram || !(take.blend || take.group === "desk")) return null;
    if (take.blend && this.kept.has(take.blend)) return this.kept.get(take.blend);
    const all = this.song.frames.map((_, frame) => frame);
    const found = this.gram.measures(this.matrixAt(take), this.givenOf(take), all);
    if (take.blend) this.kept.set(take.blend, found);
    return found;
  }
}

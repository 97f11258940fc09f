// Plays all channels of a passage through a matrix of gains, sample by sample; one processor reads them all.

const FADE_S = 0.005; // of gains that change, and of the ends of a loop

class MatrixProcessor extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.outputs = processorOptions.channels;
    this.audio = [];
    this.first = 0; // place of the first sample in the song
    this.length = 0;
    this.position = 0;
    this.loop = null;
    this.isPlaying = false;
    this.level = 0; // of the whole, so that play and pause do not click
    this.gains = null; // as they are now, (output, input)
    this.wanted = null;
    this.wrapped = 0; // samples since the loop began anew
    this.jump = null; // where it goes on once it has faded out
    this.quanta = 0;
    this.port.onmessage = ({ data }) => this[data.do](data);
    if (processorOptions.first) for (const message of processorOptions.first) this[message.do](message);
  }

  load({ channels, first }) {
    this.audio = channels;
    this.first = first;
    this.length = channels.length ? channels[0].length : 0;
    this.position = Math.min(Math.max(this.position, first), first + this.length);
  }

  mix({ gains, starts, duration, at }) {
    // gains of every segment, where each starts in samples of the song, how long each is when they overlap
    this.wanted = { gains, starts, duration };
    if (!this.gains || this.gains.length !== gains[0].length || at === "now") this.gains = null;
  }

  loopOver({ start, stop }) {
    this.loop = stop > start ? [start, stop] : null;
  }

  play({ from }) {
    if (from !== undefined) this.seek({ to: from });
    if (this.level === 0) this.gains = null;
    this.isPlaying = true;
  }

  pause() {
    this.isPlaying = false;
  }

  seek({ to }) {
    const place = Math.min(Math.max(Math.round(to), this.first), this.first + Math.max(this.length - 1, 0));
    // what sounds fades out before it goes on elsewhere
    if (this.level > 0) this.jump = place;
    else this.position = place;
    this.port.postMessage({ position: place });
  }

  /** Gains that are wanted at a sample of the song. */
  target(sample) {
    const { gains, starts, duration } = this.wanted;
    if (gains.length === 1) return gains[0];
    if (!duration) {
      let found = 0;
      while (found + 1 < starts.length && starts[found + 1] <= sample) found++;
      return gains[found];
    }
    const sum = new Float32Array(gains[0].length);
    let total = 0;
    for (let k = 0; k < starts.length; k++) {
      const inside = sample - starts[k];
      if (inside < 0 || inside >= duration) continue;
      const share = Math.sin((Math.PI * (inside + 0.5)) / duration) ** 2;
      total += share;
      for (let i = 0; i < sum.length; i++) sum[i] += share * gains[k][i];
    }
    if (!total) return gains[gains.length - 1];
    for (let i = 0; i < sum.length; i++) sum[i] /= total;
    return sum;
  }

  process(_, outputs) {
    const out = outputs[0];
    const frames = out[0].length;
    if (!this.wanted || !this.audio.length || (!this.isPlaying && this.level <= 0)) return true;
    const before = this.gains || Float32Array.from(this.target(this.position));
    const goal = this.target(this.position + frames);
    const after = new Float32Array(before.length);
    const isSmooth = this.wanted.duration > 0;
    const pace = 1 - Math.exp(-frames / (FADE_S * sampleRate));
    for (let i = 0; i < after.length; i++) {
      const rest = goal[i] - before[i];
      after[i] = Math.abs(rest) < 1e-5 || (isSmooth && Math.abs(rest) < 0.02) ? goal[i] : before[i] + pace * rest;
    }
    this.fill(out, frames, before, after);
    this.gains = after;
    if (++this.quanta % 8 === 0) this.port.postMessage({ position: this.position });
    return true;
  }

  fill(out, frames, before, after) {
    const inputs = this.audio.length;
    const fade = Math.max(1, Math.round(FADE_S * sampleRate));
    const used = [];
    for (let i = 0; i < inputs; i++) {
      for (let c = 0; c < this.outputs; c++) {
        if (before[c * inputs + i] || after[c * inputs + i]) { used.push(i); break; }
      }
    }
    for (let t = 0; t < frames; t++) {
      const edge = this.loop ? this.loop[1] : this.first + this.length;
      if (this.position >= edge) {
        if (this.loop && this.loop[0] >= this.first && this.loop[0] < this.first + this.length) {
          this.position = this.loop[0];
          this.wrapped = 1;
        } else {
          this.isPlaying = false;
          this.level = 0;
          this.port.postMessage({ position: this.position, ended: true });
        }
      }
      if (this.jump !== null && this.level <= 0) {
        this.position = this.jump;
        this.jump = null;
      }
      const rises = this.isPlaying && this.jump === null;
      this.level = rises ? Math.min(1, this.level + 1 / fade) : Math.max(0, this.level - 1 / fade);
      const at = this.position - this.first;
      if (this.level <= 0 || at < 0 || at >= this.length) {
        if (!this.isPlaying) return;
        if (this.jump === null) this.position++;
        continue;
      }
      let level = this.level;
      if (this.loop && edge - this.position <= fade) level *= (edge - this.position) / fade;
      if (this.wrapped && this.wrapped <= fade) level *= this.wrapped++ / fade;
      const share = (t + 1) / frames;
      for (let c = 0; c < out.length && c < this.outputs; c++) {
        let sum = 0;
        for (const i of used) {
          const place = c * inputs + i;
          sum += (before[place] + (after[place] - before[place]) * share) * this.audio[i][at];
        }
        out[c][t] = level * sum;
      }
      this.position++;
    }
  }
}

registerProcessor("stemfuse-matrix", MatrixProcessor);

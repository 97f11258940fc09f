// The player: audio of a passage, the worklet that mixes it, and the same offline for tests and files.
import { decodeBytes } from "./labels.js";

/** Where the worklet's code lies: beside this module, or in the page itself. */
function processorAddress() {
  const inside = document.getElementById("processor");
  if (!inside) return new URL("processor.js", import.meta.url).href;
  // of pages that are opened from disk, browsers load worklets from addresses of data alone
  return `data:text/javascript;charset=utf-8,${encodeURIComponent(inside.textContent)}`;
}

/** Samples of the page's own audio, which is FLAC at one gain, channel after channel. */
export async function decodeEmbedded(audio, rate) {
  const decoder = new OfflineAudioContext(1, 1, rate);
  const channels = [];
  for (const signal of audio.signals) {
    const buffer = await decoder.decodeAudioData(decodeBytes(signal));
    for (let c = 0; c < buffer.numberOfChannels; c++) {
      channels.push(buffer.getChannelData(c).map((sample) => sample / audio.gain));
    }
  }
  return channels;
}

/** Samples that the server sends, channel after channel. */
export function splitSamples(buffer, count) {
  const all = new Float32Array(buffer);
  const length = all.length / count;
  return Array.from({ length: count }, (_, c) => all.slice(c * length, (c + 1) * length));
}

export class Player {
  constructor(song) {
    this.song = song;
    this.channels = Math.min(song.channels.length, 2);
    this.position = 0; // in samples of the song
    this.isPlaying = false;
    this.window = [0, 0];
    this.onEnd = () => {};
    this.lastMix = null;
  }

  /** Make the audio graph; browsers let it sound after the first click. */
  async open() {
    this.context = new AudioContext({ sampleRate: this.song.rate, latencyHint: "interactive" });
    this.address = processorAddress();
    await this.context.audioWorklet.addModule(this.address);
    this.node = new AudioWorkletNode(this.context, "stemfuse-matrix", {
      numberOfInputs: 0, outputChannelCount: [this.channels], processorOptions: { channels: this.channels },
    });
    this.node.port.onmessage = ({ data }) => {
      this.position = data.position;
      if (data.ended) {
        this.isPlaying = false;
        this.onEnd();
      }
    };
    this.volume = new GainNode(this.context, { gain: 0.8 });
    this.analyser = new AnalyserNode(this.context, { fftSize: 2048 });
    this.node.connect(this.volume).connect(this.analyser).connect(this.context.destination);
  }

  send(message, transfer = []) {
    this.node.port.postMessage(message, transfer);
  }

  /** Give the worklet the samples of a passage; they leave this thread. */
  load(channels, first) {
    this.window = [first, first + channels[0].length];
    this.send({ do: "load", channels, first }, channels.map((samples) => samples.buffer));
  }

  mix(message) {
    this.lastMix = { do: "mix", ...message };
    this.send(this.lastMix);
  }

  loop(start, stop) {
    this.lastLoop = { do: "loopOver", start, stop };
    this.send(this.lastLoop);
  }

  async play() {
    await this.context.resume();
    this.isPlaying = true;
    this.send({ do: "play" });
  }

  pause() {
    this.isPlaying = false;
    this.send({ do: "pause" });
  }

  seek(sample) {
    this.position = Math.round(sample);
    this.send({ do: "seek", to: sample });
  }

  setVolume(gain) {
    this.volume.gain.setTargetAtTime(gain, this.context.currentTime, 0.01);
  }

  /** The largest sample that was heard lately. */
  peak() {
    const samples = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(samples);
    return samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  }

  /** What is heard from a sample on, computed as fast as it goes; channels as they were given to load. */
  async render(channels, first, from, length, { loop = null } = {}) {
    const context = new OfflineAudioContext(this.channels, length, this.song.rate);
    await context.audioWorklet.addModule(this.address);
    const messages = [{ do: "load", channels, first }, this.lastMix, { do: "play", from }];
    if (loop) messages.splice(2, 0, { do: "loopOver", start: loop[0], stop: loop[1] });
    const node = new AudioWorkletNode(context, "stemfuse-matrix", {
      numberOfInputs: 0, outputChannelCount: [this.channels],
      processorOptions: { channels: this.channels, first: messages },
    });
    node.connect(context.destination);
    const buffer = await context.startRendering();
    return Array.from({ length: this.channels }, (_, c) => buffer.getChannelData(c));
  }

  close() {
    this.node?.disconnect();
    this.context?.close();
  }
}

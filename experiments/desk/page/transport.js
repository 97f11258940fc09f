// The transport: waveform, playhead, and the passage that is looped and measured.

export function clock(seconds, digits = 1) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
}

export class Transport {
  constructor(root, song, { onSeek, onPassage }) {
    this.root = root;
    this.song = song;
    this.onSeek = onSeek;
    this.onPassage = onPassage;
    this.range = song.fixed || [0, song.length];
    this.passage = [...this.range];
    this.peaks = (song.peaks.match(/../g) || []).map((digits) => parseInt(digits, 16) / 255);
    this.wave = root.querySelector("#wave");
    this.canvas = this.wave.querySelector("canvas");
    this.slider = root.querySelector("#position");
    this.slider.max = (this.range[1] - this.range[0]) / song.rate;
    this.cleanup = new AbortController();
    const { signal } = this.cleanup;
    this.wave.addEventListener("pointerdown", (event) => this.press(event), { signal });
    this.slider.addEventListener("input", () =>
      this.onSeek(this.range[0] + Number(this.slider.value) * song.rate), { signal });
    for (const [id, end] of [["loop-start", 0], ["loop-stop", 1]]) {
      root.querySelector(`#${id}`).addEventListener("keydown", (event) => this.nudge(event, end), { signal });
    }
    addEventListener("resize", () => this.paint(), { signal });
    new ResizeObserver(() => this.paint()).observe(this.wave);
  }

  at(event) {
    const box = this.wave.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return this.range[0] + share * (this.range[1] - this.range[0]);
  }

  /** A click seeks; a drag chooses the passage, or moves the end of it that was taken. */
  press(event) {
    if (event.button) return;
    const begin = this.at(event);
    const end = { "loop-start": 0, "loop-stop": 1 }[event.target.id];
    let isDrag = end !== undefined;
    this.wave.setPointerCapture(event.pointerId);
    const before = [...this.passage];
    const drag = new AbortController();
    const move = (to) => {
      if (Math.abs(to.clientX - event.clientX) > 4) isDrag = true;
      if (!isDrag) return;
      const here = this.at(to);
      const fixed = end === undefined ? begin : before[1 - end];
      this.show([Math.min(fixed, here), Math.max(fixed, here)]);
    };
    const done = () => {
      drag.abort();
      if (isDrag) this.choose(this.passage);
      else this.onSeek(begin);
    };
    this.wave.addEventListener("pointermove", move, { signal: drag.signal });
    this.wave.addEventListener("pointerup", done, { signal: drag.signal });
    this.wave.addEventListener("pointercancel", done, { signal: drag.signal });
    if (end === undefined) event.preventDefault();
  }

  nudge(event, end) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const passage = [...this.passage];
    passage[end] += steps[event.key] * (event.shiftKey ? 0.1 : 1) * this.song.rate;
    this.choose(passage);
  }

  /** Set the passage, at least a tenth of a second within the song. */
  choose([start, stop]) {
    const least = Math.min(0.1 * this.song.rate, this.range[1] - this.range[0]);
    start = Math.round(Math.min(Math.max(start, this.range[0]), this.range[1] - least));
    stop = Math.round(Math.max(Math.min(stop, this.range[1]), start + least));
    this.show([start, stop]);
    this.onPassage(this.passage);
  }

  show(passage) {
    this.passage = passage;
    const [start, stop] = passage.map((sample) => sample / this.song.rate);
    const text = `passage ${clock(start)} to ${clock(stop)}, ${(stop - start).toFixed(1)} s`;
    this.root.querySelector("#passage").textContent = text;
    for (const [id, seconds] of [["loop-start", start], ["loop-stop", stop]]) {
      const handle = this.root.querySelector(`#${id}`);
      handle.style.left = `${100 * this.share(seconds * this.song.rate)}%`;
      handle.setAttribute("aria-valuemin", (this.range[0] / this.song.rate).toFixed(1));
      handle.setAttribute("aria-valuemax", (this.range[1] / this.song.rate).toFixed(1));
      handle.setAttribute("aria-valuenow", seconds.toFixed(1));
      handle.setAttribute("aria-valuetext", clock(seconds));
    }
    this.paint();
  }

  share(sample) {
    return (sample - this.range[0]) / (this.range[1] - this.range[0]);
  }

  follow(position) {
    const seconds = position / this.song.rate;
    this.position = position;
    this.slider.value = (position - this.range[0]) / this.song.rate;
    this.slider.setAttribute("aria-valuetext", clock(seconds));
    this.root.querySelector("#clock").textContent = `${clock(seconds)} / ${clock(this.range[1] / this.song.rate)}`;
    this.paint();
  }

  paint() {
    const box = this.wave.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(box.width * scale), Math.round(box.height * scale)];
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const style = getComputedStyle(this.wave);
    // the palette, resolved for the theme: the style sheet lends it through properties that do not show here
    const { color: ink, caretColor: faint, borderTopColor: mark, textDecorationColor: ground } = style;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const [from, to] = this.passage.map((sample) => this.share(sample) * width);
    context.fillStyle = ground;
    context.fillRect(from, 0, to - from, height);
    const step = 3 * scale;
    const first = (this.range[0] / this.song.length) * this.peaks.length;
    const count = ((this.range[1] - this.range[0]) / this.song.length) * this.peaks.length;
    for (let x = 0; x < width; x += step) {
      const begin = Math.floor(first + (x / width) * count);
      const end = Math.max(begin + 1, Math.floor(first + ((x + step) / width) * count));
      const peak = Math.max(0, ...this.peaks.slice(begin, end));
      const tall = Math.max(scale, peak * height * 0.86);
      const isInside = x >= from - step && x < to;
      context.fillStyle = isInside ? mark : faint;
      context.globalAlpha = isInside ? 0.9 : 0.4;
      context.fillRect(x, (height - tall) / 2, step * 0.62, tall);
    }
    context.globalAlpha = 1;
    if (this.position !== undefined) {
      context.fillStyle = ink;
      context.fillRect(Math.round(this.share(this.position) * width) - scale, 0, 2 * scale, height);
    }
  }

  close() {
    this.cleanup.abort();
  }
}

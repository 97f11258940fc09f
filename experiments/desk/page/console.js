// One song on the desk: joins board, player, transport, matrix and blind test.
import { BlindTest } from "./abx.js";
import { find, say } from "./elements.js";
import { Gram } from "./gram.js";
import { MatrixView, VIEWS, decibels } from "./matrix.js";
import { Player } from "./player.js";
import { Readout } from "./readout.js";
import { saveFusion } from "./saving.js";
import { Listening, listTakes } from "./takes.js";
import { Transport } from "./transport.js";
import { Board, PARTS } from "./weights.js";

const MARGIN_S = 5; // of audio around the passage, so that its ends can be moved without loading
const PASSAGE_S = 20; // of a long song, to begin with
const PART_NAMES = { residual: "residual rule", own: "own stems", cross: "other sources" };

export class Desk {
  constructor(song, run) {
    Object.assign(this, { song, run });
    this.board = new Board(song);
    this.gram = song.hasReferences ? new Gram(song) : null;
    this.listening = new Listening(song, this.board, this.gram);
    this.takes = listTakes(song, this.board);
    this.take = this.takes[0];
    this.before = this.takes[1] || this.take;
    this.solo = new Set();
    this.muted = new Set();
    this.how = "median";
    this.loaded = null;
    this.isBlind = false;
    this.cleanup = new AbortController();
    this.readout = new Readout(this);
  }

  async open() {
    this.player = new Player(this.song);
    await this.player.open();
    this.player.onEnd = () => this.showPlaying();
    this.transport = new Transport(document, this.song, {
      onSeek: (sample) => this.seek(sample), onPassage: () => this.passageChanged(),
    });
    this.matrix = new MatrixView(find("#matrix"), this.song, this.board, {
      solo: (source) => this.toggle(this.solo, source), mute: (source) => this.toggle(this.muted, source),
    });
    this.fillChoices();
    this.bind();
    this.board.listeners.push(() => this.refresh());
    this.setView("own");
    this.transport.choose(this.firstPassage());
    this.seek(this.transport.passage[0]);
    this.refresh();
    requestAnimationFrame(() => this.follow());
  }

  firstPassage() {
    if (this.song.fixed) return this.song.fixed;
    const long = PASSAGE_S * this.song.rate;
    if (this.song.length <= 1.5 * long) return [0, this.song.length];
    const start = Math.floor(this.song.length / 3 / this.song.rate) * this.song.rate;
    return [start, Math.min(start + long, this.song.length)];
  }

  fillChoices() {
    const { blends } = this.board;
    const groups = [["fusion", "fusions"], ["separator", "separators"]].map(([group, name]) => {
      const set = document.createElement("optgroup");
      set.label = name;
      blends.forEach((blend, at) => blend.group === group && set.append(new Option(blend.label, at)));
      return set;
    });
    find("#start").replaceChildren(...groups.filter((group) => group.children.length));
    find("#takes").replaceChildren(...this.takes.map((take, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = `take ${take.group}`;
      button.setAttribute("role", "radio");
      const [name, value] = [document.createElement("span"), document.createElement("small")];
      name.textContent = take.label;
      button.append(name, value);
      if (at < 9) button.setAttribute("aria-keyshortcuts", String(at + 1));
      button.onclick = () => this.listenTo(take);
      return button;
    }));
    find("#views").replaceChildren(...VIEWS.map(([view, name]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.dataset.view = view;
      button.textContent = name;
      button.onclick = () => this.setView(view);
      return button;
    }));
    find("#parts").replaceChildren(...PARTS.map((part) => {
      const label = document.createElement("label");
      label.className = "switch";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.dataset.part = part;
      box.onchange = () => this.board.togglePart(part);
      label.append(box, ` ${PART_NAMES[part]}`);
      return label;
    }));
    const refused = Object.entries(this.song.refused).map(([label, why]) => `${label}: ${why}`);
    say("#refused", refused.length ? `Not here: ${refused.join(". ")}.` : "");
  }

  bind() {
    const { signal } = this.cleanup;
    const on = (selector, name, act) => find(selector).addEventListener(name, act, { signal });
    on("#play", "click", () => this.playOrPause());
    on("#loop", "change", () => this.applyLoop());
    on("#match", "change", () => this.applyMix());
    on("#volume", "input", () => this.player.setVolume(10 ** (Number(find("#volume").value) / 20)));
    on("#start", "change", () => this.board.startFrom(Number(find("#start").value)));
    on("#undo", "click", () => this.board.undo());
    on("#redo", "click", () => this.board.redo());
    on("#reset", "click", () => this.board.startFrom(this.board.state.start));
    on("#how", "change", () => { this.how = find("#how").value; this.refresh(); });
    on("#take-advice", "click", () => this.readout.obeyAdvice());
    on("#save", "submit", (event) => { event.preventDefault(); saveFusion(this); });
    on("#takes", "keydown", (event) => this.arrows(event, this.takes.indexOf(this.take), this.takes.length, (at) => {
      this.listenTo(this.takes[at]);
      find("#takes").children[at].focus();
    }));
    on("#views", "keydown", (event) => this.arrows(event, VIEWS.findIndex(([view]) => view === this.view), VIEWS.length, (at) => {
      this.setView(VIEWS[at][0]);
      find("#views").children[at].focus();
    }));
    document.addEventListener("keydown", (event) => this.key(event), { signal });
    this.player.setVolume(10 ** (Number(find("#volume").value) / 20));
    this.blind = new BlindTest(find("#abx"), {
      takes: () => this.takes,
      listen: (at) => this.listenBlind(at),
      stop: () => this.endBlind(),
    });
    on("#abx-open", "click", () => {
      const other = this.takes.indexOf(this.before);
      this.blind.open(this.takes.indexOf(this.take), other);
    });
  }

  arrows(event, at, count, act) {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    act((at + by + count) % count);
  }

  key(event) {
    const { target, key } = event;
    if (document.querySelector("dialog[open]")) return;
    const isText = target.matches("input[type=text], select");
    if ((event.ctrlKey || event.metaKey) && !isText) {
      const isRedo = key.toLowerCase() === "y" || (key.toLowerCase() === "z" && event.shiftKey);
      if (isRedo) this.board.redo();
      else if (key.toLowerCase() === "z") this.board.undo();
      else return;
      event.preventDefault();
      return;
    }
    if (isText || event.altKey || event.ctrlKey || event.metaKey) return;
    const { position, passage } = { position: this.player.position, passage: this.transport.passage };
    const acts = {
      " ": () => this.playOrPause(),
      "[": () => this.transport.choose([position, Math.max(passage[1], position + this.song.rate)]),
      "]": () => this.transport.choose([Math.min(passage[0], position - this.song.rate), position]),
      ",": () => this.seek(position - this.song.rate),
      ".": () => this.seek(position + this.song.rate),
      l: () => find("#loop").click(),
      d: () => this.listenTo(this.take === this.takes[0] ? this.before : this.takes[0]),
      g: () => this.readout.obeyAdvice(),
    };
    if (key === " " && target.matches("button, input, summary, a")) return;
    if (/^[1-9]$/.test(key) && this.takes[key - 1]) this.listenTo(this.takes[key - 1]);
    else if (key in acts) acts[key]();
    else return;
    event.preventDefault();
  }

  // what is heard

  get heard() {
    return this.listening.sources.map((_, source) => (this.solo.size ? this.solo.has(source) : !this.muted.has(source)));
  }

  toggle(set, source) {
    if (!set.delete(source)) set.add(source);
    this.refresh();
  }

  listenTo(take) {
    if (take === this.take) return;
    this.before = this.take;
    this.take = take;
    this.refresh();
  }

  listenBlind(at) {
    this.isBlind = true;
    this.take = this.takes[at];
    this.applyMix();
    if (!this.player.isPlaying) this.playOrPause();
  }

  endBlind() {
    if (!this.isBlind) return;
    this.isBlind = false;
    if (this.player.isPlaying) this.playOrPause();
    this.take = this.takes[0];
    this.refresh();
  }

  get passageFrames() {
    const [start, stop] = this.transport.passage;
    const inside = this.song.frames.map((frame, at) => (frame[0] >= start && frame[1] <= stop ? at : -1)).filter((at) => at >= 0);
    if (inside.length) return inside;
    const middle = (start + stop) / 2;
    return this.song.frames.map((frame, at) => (frame[0] <= middle && middle < frame[1] ? at : -1)).filter((at) => at >= 0);
  }

  applyMix() {
    const isMatched = find("#match").checked || this.isBlind;
    this.gainDb = isMatched ? this.listening.gainDb(this.take, this.takes, this.heard, this.loaded, this.passageFrames) : 0;
    this.player.mix(this.listening.messageOf(this.take, this.heard, this.gainDb));
    if (this.isBlind) {
      find("#heard").textContent = "";
      return;
    }
    const names = this.listening.sources.filter((_, source) => this.heard[source]);
    const what = this.take.group === "mixture" ? "" : names.length === this.heard.length ? ", all sources" : `, ${names.join(" and ") || "nothing"}`;
    const gain = isMatched && Math.abs(this.gainDb) >= 0.05 ? `, ${decibels(this.gainDb, true)} dB for equal loudness` : "";
    find("#heard").textContent = `Heard: ${this.take.label}${what}${gain}`;
  }

  applyLoop() {
    const [start, stop] = find("#loop").checked ? this.transport.passage : [0, 0];
    this.player.loop(start, stop);
  }

  async passageChanged() {
    const [start, stop] = this.transport.passage;
    this.refresh();
    const [first, last] = this.player.window;
    if (start >= first && stop <= last) {
      this.applyLoop();
      return;
    }
    await this.load(start, stop);
  }

  /** Fetch the samples around a passage; what sounds meanwhile goes on. */
  async load(start, stop) {
    const margin = MARGIN_S * this.song.rate;
    const first = this.song.fixed ? this.song.fixed[0] : Math.max(0, Math.floor((start - margin) / this.song.rate) * this.song.rate);
    const last = this.song.fixed ? this.song.fixed[1] : Math.min(this.song.length, stop + margin, first + this.song.longest);
    if (last < stop) this.transport.show([start, last]);
    const asked = (this.asked = {});
    say("#loading", "Reading the passage …");
    try {
      const samples = await this.song.samples(first, last);
      if (asked !== this.asked) return;
      this.player.load(samples, first);
      this.applyLoop();
      say("#loading", "");
      this.loaded = await this.song.weighted(first, last);
      if (asked === this.asked) this.applyMix();
    } catch (error) {
      say("#loading", "");
      say("#problem", error.message);
    }
  }

  async playOrPause() {
    if (this.player.isPlaying) this.player.pause();
    else {
      const [start, stop] = find("#loop").checked ? this.transport.passage : this.transport.range;
      if (this.player.position < start || this.player.position >= stop - 0.02 * this.song.rate) this.player.seek(start);
      await this.player.play();
    }
    this.showPlaying();
  }

  showPlaying() {
    find("#play").setAttribute("aria-label", this.player.isPlaying ? "pause" : "play");
    find("#play").classList.toggle("playing", this.player.isPlaying);
  }

  seek(sample) {
    this.player.seek(Math.min(Math.max(sample, this.transport.range[0]), this.transport.range[1] - 1));
    this.transport.follow(this.player.position);
    this.readout.showSegment();
  }

  follow() {
    if (this.cleanup.signal.aborted) return;
    if (this.player.isPlaying) {
      this.transport.follow(this.player.position);
      if (this.board.isVarying && this.readout.segment !== this.board.segmentAt(this.seconds)) this.readout.showSegment();
      const peak = this.player.peak();
      find("#level").style.setProperty("--level", Math.min(1, peak));
      find("#level").classList.toggle("is-over", peak > 1);
    }
    requestAnimationFrame(() => this.follow());
  }

  get seconds() {
    return this.player.position / this.song.rate;
  }

  // what is shown

  setView(view) {
    this.view = view;
    for (const button of find("#views").children) {
      button.setAttribute("aria-checked", String(button.dataset.view === view));
      button.tabIndex = button.dataset.view === view ? 0 : -1;
    }
    this.matrix.show(view);
    this.refresh();
  }

  /** Sound at once, figures with the next picture. */
  refresh() {
    if (!this.transport || !this.matrix.faders) return;
    this.applyMix();
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      if (!this.cleanup.signal.aborted) this.readout.draw();
    });
  }

  close() {
    this.cleanup.abort();
    this.transport?.close();
    this.player?.close();
  }
}

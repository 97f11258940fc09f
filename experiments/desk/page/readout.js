// What the desk shows in figures: SDR of passage and song, what would help most, where the weights come from.
import { find, say } from "./elements.js";
import { decibels, weightText } from "./matrix.js";

export class Readout {
  constructor(desk) {
    this.desk = desk;
    this.best = null;
    this.segment = 0;
  }

  draw() {
    const frames = this.desk.passageFrames;
    const answers = this.desk.gram ? this.desk.gram.answers(this.desk.listening.matrixAt(this.desk.takes[0]), frames, this.desk.matrix.cells) : [];
    this.segment = this.desk.board.segmentAt(this.desk.seconds);
    this.desk.matrix.update(this.segment, answers);
    this.showSdr(frames);
    this.showTakes(frames);
    this.showAdvice(answers);
    this.showState();
  }

  showSegment() {
    if (!this.desk.matrix?.faders) return;
    this.segment = this.desk.board.segmentAt(this.desk.seconds);
    this.desk.matrix.update(this.segment, this.desk.matrix.answers || []);
    this.showState();
  }

  summaryOf(take, frames) {
    const measures = this.desk.listening.measures(take);
    if (!measures) return null;
    const chosen = frames ? frames.map((frame) => measures[frame]) : measures;
    return this.desk.gram.summary(chosen, this.desk.listening.givenOf(take), this.desk.how);
  }

  showSdr(frames) {
    this.desk.matrix.strips.forEach((strip, source) => {
      strip.solo.setAttribute("aria-pressed", String(this.desk.solo.has(source)));
      strip.mute.setAttribute("aria-pressed", String(this.desk.muted.has(source)));
    });
    if (!this.desk.gram) return;
    const [desk, begin] = [this.desk.takes[0], this.desk.takes.find((take) => take.blend === this.desk.board.start)];
    const [passage, whole, started] = [this.summaryOf(desk, frames), this.summaryOf(desk), this.summaryOf(begin, frames)];
    const about = this.desk.listening.isExact(desk) ? "" : "≈ ";
    const show = (strip, values) => {
      const [here, all, before] = values;
      const change = here - before;
      strip.passage.value = `${about}${decibels(here)}`;
      strip.passage.dataset.value = here;
      strip.whole.value = `song ${decibels(all)}`;
      strip.whole.dataset.value = all;
      strip.change.value = Math.abs(change) < 0.005 || Number.isNaN(change) ? "" : decibels(change, true);
      strip.change.className = `change ${change > 0 ? "up" : "down"}`;
    };
    this.desk.matrix.strips.forEach((strip, source) => {
      show(strip, [passage, whole, started].map((summary) => summary.values[source]));
    });
    show(this.desk.matrix.mean, [passage, whole, started].map((summary) => summary.mean));
    this.figures = { passage, whole };
  }

  showTakes(frames) {
    const alone = this.desk.solo.size === 1 ? [...this.desk.solo][0] : null;
    this.desk.takes.forEach((take, at) => {
      const button = find("#takes").children[at];
      button.setAttribute("aria-checked", String(take === this.desk.take));
      button.tabIndex = take === this.desk.take ? 0 : -1;
      const summary = this.summaryOf(take, frames);
      const value = summary ? (alone === null ? summary.mean : summary.values[alone]) : NaN;
      button.lastElementChild.textContent = Number.isNaN(value) ? "" : `${decibels(value)} dB`;
    });
  }

  showAdvice(answers) {
    this.best = null;
    answers.forEach((answer, place) => {
      if (answer.gain >= 0.005 && answer.gain > (this.best?.gain ?? 0)) this.best = { ...answer, place };
    });
    find("#take-advice").hidden = !this.best;
    if (!this.desk.gram) find("#advice").textContent = "This song has no references: there is no SDR, only your ears.";
    else if (!this.best) find("#advice").textContent = "No single weight here would help by 0.01 dB in this passage.";
    else {
      const { name, entries } = this.desk.matrix.faders[this.best.place];
      const from = this.desk.board.value(entries, this.segment);
      find("#advice").replaceChildren("Most would help: ", Object.assign(document.createElement("b"), { textContent: name }),
        ` from ${weightText(from)} to ${weightText(from + this.best.step)}, ${decibels(this.best.gain, true)} dB`);
    }
  }

  obeyAdvice() {
    if (this.best) this.desk.board.move(this.desk.matrix.faders[this.best.place].entries, this.best.step);
  }

  showState() {
    const { board } = this.desk;
    find("#undo").disabled = !board.past.length;
    find("#redo").disabled = !board.future.length;
    find("#reset").disabled = !board.isMoved;
    find("#start").value = board.state.start;
    const shares = board.shares();
    for (const box of find("#parts").querySelectorAll("input")) {
      box.checked = !board.state.off.includes(box.dataset.part);
      box.parentElement.hidden = shares[box.dataset.part] < 1e-8;
    }
    find("#parts-row").hidden = !find("#parts label:not([hidden])");
    const { starts } = board.start;
    say("#segment", board.isVarying
      ? `Weights change with time: segment ${this.segment + 1} of ${starts.length}, from ${starts[this.segment].toFixed(1)} s. What you move, moves in all of them.${
        this.desk.listening.isExact(this.desk.takes[0]) ? "" : " They change within seconds, so the SDR is about (≈) right."}`
      : "");
  }
}

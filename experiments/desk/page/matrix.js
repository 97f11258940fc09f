// The matrix as a console: one strip for each source, one fader for each weight, or for weights that move together.
import { parseLabel, sourcesOf } from "./labels.js";
import { ownPlaces } from "./weights.js";

export const VIEWS = [["own", "own stems"], ["all", "all stems"], ["channels", "left and right"]];
const SPAN = 1.1; // the weight at which a fader's bar ends
const PIXEL = 0.005; // how far a pixel of a drag moves a weight

export function decibels(value, signed = false) {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = Math.abs(value).toFixed(2);
  const sign = value < 0 && Number(text) ? "−" : signed ? "+" : "";
  return sign + text;
}

export function weightText(value) {
  const text = Math.abs(value).toFixed(2);
  return (value < 0 && Number(text) ? "−" : "") + text;
}

/** Rows of a view: a title of separators, or an input with the weights [row, column] that each column's cell moves. */
function rowsOf(song, view) {
  const sources = sourcesOf(song.outputs);
  const pairs = (source, signal) => song.channels
    .map((channel) => [song.outputs.indexOf(`${source}.${channel}`), song.inputs.indexOf(`${signal}.${channel}`)])
    .filter(([row, column]) => row >= 0 && column >= 0);
  const rows = [];
  if (view === "channels") {
    let last = "";
    song.inputs.forEach((label, column) => {
      const { separator, source, channel } = parseLabel(label);
      if (separator !== last) rows.push({ title: separator });
      last = separator;
      rows.push({ name: source ? `${source} ${channel}` : channel, spoken: label, cells: song.outputs.map((_, row) => [[row, column]]) });
    });
    return rows;
  }
  const hasMixture = song.inputs.some((label) => label.startsWith("mixture."));
  if (hasMixture) rows.push({ name: "mixture", isMixture: true, spoken: "mixture", cells: sources.map((source) => pairs(source, "mixture")) });
  if (view === "own") {
    const places = ownPlaces(song);
    for (const separator of song.separators) {
      const cells = sources.map((source) =>
        places.find((place) => place.separator === separator && place.source === source)?.entries || []);
      rows.push({ name: separator, isSeparator: true, spoken: separator, cells });
    }
    return rows;
  }
  const signals = [...new Set(song.inputs.map((label) => parseLabel(label).signal))];
  for (const separator of song.separators) {
    rows.push({ title: separator });
    for (const signal of signals) {
      const label = parseLabel(`${signal}.x`);
      if (label.separator !== separator) continue;
      rows.push({ name: label.source, spoken: `${separator} ${label.source}`, own: label.source, cells: sources.map((source) => pairs(source, signal)) });
    }
  }
  return rows;
}

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export class MatrixView {
  constructor(table, song, board, actions) {
    this.table = table;
    this.song = song;
    this.board = board;
    this.actions = actions; // solo(source), mute(source), changed()
    this.sources = sourcesOf(song.outputs);
    this.drags = 0;
    table.onpointerdown = (event) => this.press(event);
    table.onkeydown = (event) => this.key(event);
    table.ondblclick = (event) => this.typing(event.target.closest(".fader"));
    table.onfocusin = (event) => this.rove(event.target.closest(".fader"));
  }

  show(view) {
    this.view = view;
    const rows = rowsOf(this.song, view);
    this.faders = [];
    const columns = view === "channels" ? this.song.outputs : this.sources;
    this.table.replaceChildren(this.head(columns));
    this.table.style.setProperty("--columns", columns.length);
    const body = made("tbody");
    const hueOf = (column) => `hue-${(view === "channels" ? Math.floor(column / this.song.channels.length) : column) % 6}`;
    for (const { title, name, spoken, own, isSeparator, cells } of rows) {
      if (title !== undefined) {
        body.append(made("tr", { class: "title" }, made("th", { colspan: columns.length + 1, scope: "rowgroup" }, title)));
        continue;
      }
      const line = made("tr", {}, made("th", { scope: "row", class: isSeparator ? "separator" : "" }, name.replaceAll("_", "_\u200b")));
      cells.forEach((entries, column) => {
        const cell = made("td", { class: hueOf(column) });
        line.append(cell);
        if (!entries.length) return;
        const target = view === "channels" ? columns[column] : this.sources[column];
        const fader = made("div", {
          class: own !== undefined && own !== target ? "fader is-cross" : "fader", role: "slider", tabindex: "-1",
          "aria-label": `${spoken} in ${target}`, "aria-valuemin": -2, "aria-valuemax": 2,
        }, made("span", { class: "bar" }), made("span", { class: "number" }), made("span", { class: "hint", "aria-hidden": "true" }));
        cell.append(fader);
        this.faders.push({ fader, entries, column, line: body.childElementCount, name: `${spoken} in ${target}`, source: this.song.outputs[entries[0][0]] });
      });
      body.append(line);
    }
    this.table.append(body);
    if (this.faders.length) this.faders[0].fader.tabIndex = 0;
    this.cells = this.faders.map(({ entries }) => entries);
  }

  head(columns) {
    const output = (name, title) => made("output", { class: name, title });
    this.mean = {
      passage: output("passage", "mean SDR of the passage, dB"),
      change: output("change", "change of the mean since the start, dB"),
      whole: output("whole", "mean SDR of the whole song, dB"),
    };
    const corner = made("td", { class: "corner" }, made("span", { class: "strip-name" }, "mean SDR"), this.mean.passage,
      made("span", { class: "under" }, this.mean.change, this.mean.whole));
    const line = made("tr", {}, corner);
    const perSource = this.view === "channels" ? this.song.channels.length : 1;
    this.strips = this.sources.map((source, place) => {
      const solo = made("button", { type: "button", class: "solo", "aria-pressed": "false", "aria-label": `solo ${source}`, title: `hear ${source} alone` }, "S");
      const mute = made("button", { type: "button", class: "mute", "aria-pressed": "false", "aria-label": `mute ${source}`, title: `do not hear ${source}` }, "M");
      solo.onclick = () => this.actions.solo(place);
      mute.onclick = () => this.actions.mute(place);
      const passage = output("passage", "SDR of the passage, dB");
      const change = output("change", "change of the passage since the start, dB");
      const whole = output("whole", "SDR of the whole song, dB");
      const strip = made("th", { scope: perSource > 1 ? "colgroup" : "col", colspan: perSource, class: `hue-${place % 6}` },
        made("span", { class: "strip-name" }, source), made("span", { class: "strip-buttons" }, solo, mute), passage, made("span", { class: "under" }, change, whole));
      line.append(strip);
      return { solo, mute, passage, change, whole };
    });
    if (perSource === 1) return made("thead", {}, line);
    const sides = made("tr", { class: "sides" }, made("td"), ...columns.map((label) => made("th", { scope: "col" }, parseLabel(label).channel)));
    return made("thead", {}, line, sides);
  }

  /** Show the weights of a segment, and what moving each would do. */
  update(segment, answers) {
    this.segment = segment;
    const most = Math.max(1e-9, ...answers.map((answer) => answer.gain));
    this.faders.forEach(({ fader, entries }, place) => {
      const value = this.board.value(entries, segment);
      const [bar, number, hint] = fader.children;
      const end = Math.min(Math.max(value / SPAN, -1), 1) * 50;
      bar.style.left = `${Math.min(50, 50 + end)}%`;
      bar.style.width = `${Math.abs(end)}%`;
      const text = weightText(value);
      number.textContent = text === "0.00" && value === 0 ? "0" : text;
      fader.classList.toggle("is-zero", Math.abs(value) < 0.005);
      fader.setAttribute("aria-valuenow", value.toFixed(4));
      const answer = answers[place];
      if (!answer) return;
      const { gradient, step, gain } = answer;
      const worth = gain < Math.max(0.005, 0.06 * most) ? 0 : Math.sqrt(gain / most);
      hint.textContent = step > 0 ? "▲" : "▼";
      hint.style.opacity = worth;
      fader.classList.toggle("is-best", gain === most && gain >= 0.005);
      fader.dataset.gradient = gradient;
      fader.title = `slope ${decibels(gradient, true)} dB per 1.0; best at ${weightText(value + step)}: ${decibels(gain, true)} dB`;
      fader.setAttribute("aria-valuetext", gain < 0.005 ? weightText(value) : `${weightText(value)}; ${step > 0 ? "up" : "down"} to ${weightText(value + step)} gives ${decibels(gain, true)} dB`);
    });
    this.answers = answers;
  }

  of(fader) {
    return this.faders.find((each) => each.fader === fader);
  }

  rove(fader) {
    if (!fader) return;
    for (const each of this.faders) each.fader.tabIndex = each.fader === fader ? 0 : -1;
  }

  press(event) {
    const fader = event.target.closest(".fader");
    if (!fader || event.button || event.target.tagName === "INPUT") return;
    const { entries } = this.of(fader);
    const kind = `drag ${++this.drags}`;
    let last = event.clientX;
    fader.focus();
    fader.setPointerCapture(event.pointerId);
    fader.classList.add("is-dragged");
    const drag = new AbortController();
    fader.addEventListener("pointermove", (to) => {
      const by = (to.clientX - last) * PIXEL * (to.shiftKey ? 0.2 : 1);
      last = to.clientX;
      if (by) this.board.move(entries, by, kind);
    }, { signal: drag.signal });
    const done = () => {
      drag.abort();
      fader.classList.remove("is-dragged");
    };
    for (const name of ["pointerup", "pointercancel"]) fader.addEventListener(name, done, { signal: drag.signal });
  }

  set(entries, value, kind = null) {
    this.board.move(entries, value - this.board.value(entries, this.segment), kind);
  }

  key(event) {
    const fader = event.target.closest(".fader");
    if (!fader || event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = this.faders.findIndex((each) => each.fader === fader);
    const { entries, column, line } = this.faders[place];
    const step = event.shiftKey ? 0.1 : 0.01;
    const go = (found) => found && found.fader.focus();
    const others = this.faders.filter((each) => each.column === column);
    const acts = {
      ArrowUp: () => this.board.move(entries, step, `key ${place}`),
      ArrowDown: () => this.board.move(entries, -step, `key ${place}`),
      ArrowLeft: () => go(this.faders[place - 1]),
      ArrowRight: () => go(this.faders[place + 1]),
      PageUp: () => go(others.filter((each) => each.line < line).at(-1)),
      PageDown: () => go(others.find((each) => each.line > line)),
      Home: () => this.board.move(entries, -this.movedBy(entries)),
      End: () => this.answers[place] && this.board.move(entries, this.answers[place].step),
      Delete: () => this.set(entries, 0),
      Backspace: () => this.set(entries, 0),
      Enter: () => this.typing(fader),
    };
    if (event.key in acts) acts[event.key]();
    else if (/^[0-9.,-]$/.test(event.key)) this.typing(fader, event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  movedBy(entries) {
    const n = this.song.inputs.length;
    return entries.reduce((sum, [row, column]) => sum + this.board.state.moved[row * n + column], 0) / entries.length;
  }

  /** A field in the fader's place, until Enter, Escape or another focus. */
  typing(fader, begin = null) {
    if (!fader) return;
    const { entries, name } = this.of(fader);
    const field = made("input", { type: "text", inputmode: "decimal", "aria-label": name, class: "typed" });
    field.value = begin ?? this.board.value(entries, this.segment).toFixed(3);
    fader.append(field);
    field.focus();
    if (begin === null) field.select();
    let isDone = false;
    const end = (keep) => {
      if (isDone) return;
      isDone = true;
      const value = Number(field.value.replace(",", ".").replace("−", "-"));
      field.remove();
      fader.focus();
      if (keep && field.value.trim() && Number.isFinite(value) && Math.abs(value) <= 100) this.set(entries, value);
    };
    field.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      else if (event.key === "Escape") end(false);
      else return;
      event.preventDefault();
    };
    field.onblur = () => end(true);
  }
}

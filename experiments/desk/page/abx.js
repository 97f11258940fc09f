// The blind test: is X the take A or the take B? With the chance of guessing as well.

/** Chance of at least so many right answers by guessing. */
export function chanceOf(right, rounds) {
  let ways = 1; // binomial coefficients of the rounds
  let sum = 0;
  for (let k = 0; k <= rounds; k++) {
    if (k >= right) sum += ways;
    ways = (ways * (rounds - k)) / (k + 1);
  }
  return sum / 2 ** rounds;
}

export function meaning(right, rounds, p) {
  if (!rounds) return "No round was finished.";
  if (p < 0.05) return "You hear a difference: guessing gives this less often than once in twenty tests.";
  return `Not shown that you hear a difference: who guesses is as good in ${Math.round(100 * p)} of 100 tests.`;
}

function drawn() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1 ? "a" : "b";
}

export class BlindTest {
  constructor(dialog, { takes, listen, stop }) {
    this.dialog = dialog;
    this.takes = takes; // () => [{ label }]
    this.listen = listen; // (index of a take)
    this.stop = stop;
    const on = (selector, act) => { dialog.querySelector(selector).onclick = act; };
    on("#abx-begin", () => this.begin());
    on("#abx-stop", () => this.finish());
    on("#abx-again", () => this.setUp());
    for (const button of dialog.querySelectorAll("[data-hear]")) button.onclick = () => this.hear(button.dataset.hear);
    for (const button of dialog.querySelectorAll("[data-says]")) button.onclick = () => this.say(button.dataset.says);
    dialog.onkeydown = (event) => {
      if (!this.isRunning || event.ctrlKey || event.metaKey || event.altKey) return;
      if (["a", "b", "x"].includes(event.key)) this.hear(event.key);
      else if (event.key === "1" || event.key === "2") this.say(event.key === "1" ? "a" : "b");
      else return;
      event.preventDefault();
    };
    dialog.onclose = () => {
      this.isRunning = false;
      this.stop();
    };
  }

  open(first, second) {
    for (const [id, chosen] of [["#abx-a", first], ["#abx-b", second]]) {
      const select = this.dialog.querySelector(id);
      select.replaceChildren(...this.takes().map(({ label }, at) => new Option(label, at, at === chosen, at === chosen)));
    }
    this.setUp();
    this.dialog.showModal();
  }

  part(name) {
    for (const part of ["setup", "round", "result"]) this.dialog.querySelector(`.abx-${part}`).hidden = part !== name;
  }

  setUp() {
    this.isRunning = false;
    this.part("setup");
    this.dialog.querySelector("#abx-a").focus();
  }

  begin() {
    const value = (id) => Number(this.dialog.querySelector(id).value);
    this.choice = { a: value("#abx-a"), b: value("#abx-b") };
    this.rounds = value("#abx-rounds");
    this.answers = [];
    this.isRunning = true;
    this.part("round");
    this.next();
  }

  next() {
    this.x = drawn();
    this.heard = new Set();
    this.dialog.querySelector("#abx-state").textContent = `Round ${this.answers.length + 1} of ${this.rounds}`;
    for (const button of this.dialog.querySelectorAll("[data-says]")) button.disabled = true;
    this.hear("x");
    this.dialog.querySelector("[data-hear=x]").focus();
  }

  hear(which) {
    this.heard.add(which);
    for (const button of this.dialog.querySelectorAll("[data-hear]")) {
      button.setAttribute("aria-pressed", String(button.dataset.hear === which));
    }
    for (const button of this.dialog.querySelectorAll("[data-says]")) button.disabled = !this.heard.has("x");
    this.listen(this.choice[which === "x" ? this.x : which]);
  }

  say(which) {
    this.answers.push(which === this.x);
    if (this.answers.length < this.rounds) this.next();
    else this.finish();
  }

  finish() {
    this.isRunning = false;
    this.stop();
    const right = this.answers.filter(Boolean).length;
    const rounds = this.answers.length;
    const p = chanceOf(right, rounds);
    const short = p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
    this.dialog.querySelector("#abx-result").textContent = `${right} of ${rounds} right${rounds ? `, ${short}` : ""}`;
    this.dialog.querySelector("#abx-meaning").textContent = meaning(right, rounds, p);
    this.part("result");
    this.dialog.querySelector("#abx-again").focus();
  }
}

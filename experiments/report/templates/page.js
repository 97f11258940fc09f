"use strict";
document.documentElement.classList.add("js");

// theme: the system's, unless the reader chooses
{
  const button = document.getElementById("theme");
  const choices = ["system", "light", "dark"];
  let chosen = "system";
  try { chosen = localStorage.getItem("stemfuse-theme") || "system"; } catch { /* storage is off */ }
  const apply = () => {
    document.documentElement.dataset.theme = chosen;
    button.firstElementChild.textContent = chosen;
    document.dispatchEvent(new Event("repaint"));
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = choices[(choices.indexOf(chosen) + 1) % choices.length];
    try { localStorage.setItem("stemfuse-theme", chosen); } catch { /* storage is off */ }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

// the desk is where the run is served
{
  const desk = document.getElementById("to-desk");
  if (desk && ["127.0.0.1", "localhost"].includes(location.hostname)) {
    desk.href = "/desk/";
    desk.hidden = false;
  }
}

// one metric at a time
for (const group of document.querySelectorAll(".segmented")) {
  const buttons = [...group.querySelectorAll("button")];
  const show = (chosen) => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button === chosen));
      document.getElementById(button.dataset.shows).hidden = button !== chosen;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  group.hidden = buttons.length < 2;
  show(buttons[0]);
}

// tables: sorted by the vendored script, which listens to clicks on a header; a button in it is for keyboards too
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    if (head.classList.contains("no-sort")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sorts";
    button.append(...head.childNodes);
    head.append(button);
  }
}

// rows that hold what was typed
for (const input of document.querySelectorAll("[data-filters]")) {
  const table = document.getElementById(input.dataset.filters);
  input.parentElement.hidden = table.tBodies[0].rows.length < 6;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}

// columns that can be hidden, by their place
for (const table of document.querySelectorAll("table.hideable")) {
  const heads = [...table.tHead.rows[0].cells];
  const hidden = new Set((table.dataset.hides || "").trim().split(" ").filter(Boolean).map(Number));
  const box = document.createElement("details");
  box.className = "columns";
  box.append(Object.assign(document.createElement("summary"), { textContent: "Columns" }));
  const apply = (place, shown) => {
    for (const row of table.rows) if (row.cells[place]) row.cells[place].hidden = !shown;
    document.dispatchEvent(new Event("repaint"));
  };
  heads.forEach((head, place) => {
    if (!place) return;
    const label = document.createElement("label");
    const tick = Object.assign(document.createElement("input"), { type: "checkbox", checked: !hidden.has(place) });
    tick.addEventListener("change", () => apply(place, tick.checked));
    label.append(tick, ` ${head.textContent}`);
    box.append(label);
    if (hidden.has(place)) apply(place, false);
  });
  table.closest(".scroll").before(box);
}

// what is cut off is said, not only seen
{
  const hints = [...document.querySelectorAll(".scroll")].map((box) => {
    const hint = Object.assign(document.createElement("p"), { className: "hint", textContent: "scroll sideways for more \u2192" });
    hint.setAttribute("aria-hidden", "true");
    box.before(hint);
    return [box, hint];
  });
  const check = () => {
    const cut = hints.map(([box]) => box.scrollWidth > box.clientWidth + 2);
    hints.forEach(([, hint], place) => { hint.hidden = !cut[place]; });
  };
  check();
  addEventListener("resize", check);
  document.addEventListener("repaint", check);
  document.addEventListener("toggle", check, true);
}

// commands: the run's own folder where the page lies on this machine
{
  let folder = "RUN";
  if (location.protocol === "file:") {
    folder = decodeURIComponent(location.pathname).replace(/\/report\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "");
    if (!/^[\w@%+=:,./-]+$/.test(folder)) folder = `'${folder.replaceAll("'", "'\\''")}'`;
  }
  for (const code of document.querySelectorAll("code")) {
    if (/(^| )RUN\//.test(code.textContent)) code.textContent = code.textContent.replace(/(^| )RUN(?=\/)/, `$1${folder.replaceAll("$", "$$$$")}`);
  }
  for (const button of document.querySelectorAll(".copy")) {
    const text = button.previousElementSibling;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Press Ctrl-C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}

// matrices: all weights are drawn when they are asked for
for (const details of document.querySelectorAll("details.whole")) {
  const box = details.querySelector("[data-matrix]");
  details.addEventListener("toggle", () => {
    if (!details.open || !box.dataset.matrix) return;
    const { inputs, outputs, rows, scale } = JSON.parse(box.dataset.matrix);
    delete box.dataset.matrix;
    const table = Object.assign(document.createElement("table"), { className: "matrix" });
    const cell = (row, name, text) => {
      const made = Object.assign(document.createElement(name), { textContent: text });
      if (name === "th") made.scope = row.parentElement.tagName === "THEAD" ? "col" : "row";
      row.append(made);
      return made;
    };
    const head = table.createTHead().insertRow();
    for (const name of ["input", ...outputs]) cell(head, "th", name);
    const body = table.createTBody();
    rows.forEach((weights, place) => {
      const row = body.insertRow();
      cell(row, "th", inputs[place]);
      weights.forEach((weight, column) => {
        const text = weight === null ? "\u2013" : weight ? weight.toFixed(2).replace("-", "\u2212") : "0";
        const made = cell(row, "td", text);
        made.title = `${inputs[place]} in ${outputs[column]}: ${weight}`;
        const share = Math.round(75 * Math.min(1, Math.abs(weight) / scale));
        if (share) made.style.background = `color-mix(in srgb, ${weight < 0 ? "#b2182b" : "#2166ac"} ${share}%, transparent)`;
      });
    });
    box.prepend(table);
    document.dispatchEvent(new Event("repaint"));
  });
}

// players: one transport per song, shared by all its files
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const players = [];

function makePlayer(root) {
  const play = root.querySelector(".play");
  const slider = root.querySelector(".wave input");
  const canvas = root.querySelector("canvas");
  const time = root.querySelector(".clock");
  const now = root.querySelector(".now");
  const loop = root.querySelector(".loop input");
  const duration = Number(root.dataset.duration);
  const rows = [...root.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll(".cell")]);
  const cells = rows.flat();
  const audioOf = (cell) => cell.nextElementSibling;
  let current = null;
  let playing = false;
  let position = 0;

  const paint = () => {
    const bounds = canvas.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    canvas.width = bounds.width * scale;
    canvas.height = bounds.height * scale;
    const peaks = current ? audioOf(current).dataset.waveform.match(/../g) || [] : [];
    const past = getComputedStyle(play).backgroundColor;
    const future = getComputedStyle(time).color;
    const context = canvas.getContext("2d");
    const step = canvas.width / peaks.length;
    peaks.forEach((digits, i) => {
      const height = Math.max(scale, (parseInt(digits, 16) / 255) * canvas.height * 0.92);
      const played = i / peaks.length < position / duration;
      context.fillStyle = played ? past : future;
      context.globalAlpha = played ? 1 : 0.45;
      context.fillRect(i * step, (canvas.height - height) / 2, Math.max(1, step * 0.7), height);
    });
  };
  const refresh = () => {
    slider.value = position;
    slider.setAttribute("aria-valuetext", `${clock(position)} of ${clock(duration)}`);
    time.textContent = `${clock(position)} / ${clock(duration)}`;
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "pause" : "play");
    paint();
  };
  const follow = () => {
    if (!playing) return;
    position = audioOf(current).currentTime;
    refresh();
    requestAnimationFrame(follow);
  };
  const silence = (except) => {
    for (const cell of cells) if (cell !== except) audioOf(cell).pause();
  };
  const stop = () => {
    playing = false;
    silence(null);
    refresh();
  };
  const sound = () => {
    const cell = current;
    const audio = audioOf(cell);
    audio.currentTime = position;
    // the old file sounds until the new one does, so that no gap hides a difference
    audio.play().then(() => silence(current), (error) => {
      if (error.name === "AbortError" || cell !== current) return;
      cell.classList.add("broken");
      now.textContent = `${cell.dataset.name}: cannot be played (${error.message})`;
      stop();
    });
  };
  const start = () => {
    for (const other of players) if (other.root !== root) other.stop();
    if (!current) choose(cells[0]);
    playing = true;
    sound();
    requestAnimationFrame(follow);
    refresh();
  };
  let heard = false; // nothing is loaded before somebody listens: it would delay the page
  const choose = (cell) => {
    if (playing) position = audioOf(current).currentTime;
    current = cell;
    const column = cell.parentElement.cellIndex;
    for (const other of cells) {
      other.setAttribute("aria-pressed", String(other === cell));
      if (heard && other.parentElement.cellIndex === column) audioOf(other).preload = "auto";
    }
    now.textContent = cell.dataset.name;
    if (playing) sound();
    refresh();
  };
  const seek = (seconds) => {
    position = Math.min(Math.max(seconds, 0), duration - 0.01);
    if (current) audioOf(current).currentTime = position;
    refresh();
  };
  const toggle = () => (playing ? stop() : start());
  const at = () => {
    const row = Math.max(rows.findIndex((cells) => cells.includes(current)), 0);
    return [row, Math.max(rows[row].indexOf(current), 0)];
  };
  let wanted = 0; // the source stays when a row such as the mixture has only one cell
  const move = (row, column) => {
    const target = rows[Math.min(Math.max(row, 0), rows.length - 1)];
    if (!target.length) return;
    const cell = target[Math.min(Math.max(column, 0), target.length - 1)];
    choose(cell);
    if (root.contains(document.activeElement) && document.activeElement.classList.contains("cell")) cell.focus();
  };

  play.addEventListener("click", toggle);
  slider.addEventListener("input", () => seek(Number(slider.value)));
  for (const cell of cells) {
    cell.addEventListener("click", () => {
      if (cell === current) return toggle();
      choose(cell);
      wanted = at()[1];
      if (!playing) start();
    });
    audioOf(cell).addEventListener("ended", () => {
      if (cell !== current || !playing) return;
      position = 0;
      if (loop.checked) sound(); else stop();
    });
  }
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = at();
    const inGrid = event.target.classList.contains("cell");
    const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const row_of_key = "123456789abcdefghijklmnopqrstuvwxyz".indexOf(event.key);
    if (event.key.length === 1 && row_of_key >= 0 && row_of_key < rows.length) move(row_of_key, wanted);
    else if (event.key === " " && !["INPUT", "BUTTON", "A"].includes(event.target.tagName)) toggle();
    else if (event.key === "," || (event.target === slider && event.key === "ArrowLeft")) seek(position - 2);
    else if (event.key === "." || (event.target === slider && event.key === "ArrowRight")) seek(position + 2);
    else if (inGrid && event.key in arrows) {
      const [down, right] = arrows[event.key];
      if (right) wanted = Math.max(column + right, 0);
      move(row + down, right ? column + right : wanted);
    } else return;
    event.preventDefault();
  });
  document.addEventListener("repaint", refresh);
  addEventListener("resize", paint);
  if (cells.length) choose(cells[0]);
  heard = true;
  const playFrom = (seconds, method, source) => {
    const cell = cells.find((other) => other.dataset.method === method && other.dataset.source === source);
    if (!cell) return;
    stop();
    choose(cell);
    wanted = at()[1];
    seek(seconds);
    start();
    cell.focus();
  };
  return { root, stop, playFrom };
}

for (const root of document.querySelectorAll(".player")) players.push(makePlayer(root));

// seconds in which methods differ: a link plays them
for (const link of document.querySelectorAll("[data-seek]")) {
  link.addEventListener("click", () => {
    const player = players.find((other) => `#${other.root.id}` === link.hash);
    if (player) player.playFrom(Number(link.dataset.seek), link.dataset.method, link.dataset.source);
  });
}

// The page: its theme, its dialogs, and the songs that can be opened.
import { Desk } from "./console.js";
import { find, say } from "./elements.js";
import { openSource } from "./source.js";

function chooseTheme() {
  const choices = ["system", "light", "dark"];
  let chosen = "system";
  try { chosen = localStorage.getItem("stemfuse-theme") || "system"; } catch { /* storage is off */ }
  const apply = () => {
    document.documentElement.dataset.theme = chosen;
    find("#theme span").textContent = chosen;
    window.desk?.transport?.paint();
  };
  find("#theme").onclick = () => {
    chosen = choices[(choices.indexOf(chosen) + 1) % choices.length];
    try { localStorage.setItem("stemfuse-theme", chosen); } catch { /* storage is off */ }
    apply();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

async function openSong(source, number, run) {
  window.desk?.close();
  window.desk = null;
  find("#whole").hidden = true;
  say("#problem", "");
  say("#loading", "Opening the song …");
  try {
    const song = await source.song(number);
    const desk = new Desk(song, run);
    document.title = `Mixing desk: ${song.name}`;
    find("#whole").hidden = false;
    await desk.open();
    window.desk = desk;
  } catch (error) {
    say("#loading", "");
    find("#whole").hidden = true;
    say("#problem", error.message);
  }
}

async function begin() {
  chooseTheme();
  find("#help-open").onclick = () => find("#help").showModal();
  for (const button of document.querySelectorAll("[data-closes]")) {
    button.onclick = () => find(`#${button.dataset.closes}`).close();
  }
  const source = openSource();
  let listing;
  try {
    listing = await source.listing();
  } catch (error) {
    say("#loading", "");
    say("#problem", error.message);
    return;
  }
  const choice = find("#songs");
  choice.replaceChildren(...listing.songs.map(({ name, data }, at) => new Option(data ? `${name} (${data})` : name, at)));
  choice.hidden = listing.songs.length < 2;
  if (!listing.run) find("#home").removeAttribute("href");
  say("#song-name", listing.songs.length === 1 ? listing.songs[0].name : "");
  if (!listing.songs.length) {
    say("#loading", "");
    say("#problem", listing.problem ? `The songs of this run cannot be opened: ${listing.problem}` : "This run has no songs.");
    return;
  }
  const wanted = Number(new URLSearchParams(location.search).get("song"));
  const first = wanted > 0 && wanted < listing.songs.length ? wanted : 0;
  choice.value = first;
  choice.onchange = () => openSong(source, Number(choice.value), listing.run);
  await openSong(source, first, listing.run);
}

begin();

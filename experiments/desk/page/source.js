// Where a song comes from: the server of its run, or the page itself.
import { countOf, decodeFloat64, unpackSymmetric } from "./labels.js";
import { decodeEmbedded, splitSamples } from "./player.js";

async function asked(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. Start it again: stemfuse serve RUN");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim().slice(0, 500) || `The server answers ${answer.status}.`);
  return answer;
}

export class ServedRun {
  async listing() {
    return (await asked("run.json")).json();
  }

  async song(number) {
    const song = await (await asked(`songs/${number}/song.json`)).json();
    const count = countOf(song);
    const passage = (start, stop) => `start=${start}&stop=${stop}`;
    return {
      ...song,
      samples: async (start, stop) =>
        splitSamples(await (await asked(`songs/${number}/audio?${passage(start, stop)}`)).arrayBuffer(), count),
      weighted: async (start, stop) =>
        readWeighted(await (await asked(`songs/${number}/loudness.json?${passage(start, stop)}`)).json(), count),
      save: async (weights) => (await asked(`songs/${number}/fusions`, {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(weights),
      })).json(),
    };
  }
}

export class EmbeddedSong {
  constructor(document) {
    this.document = document;
  }

  async listing() {
    const { name, data, length, rate } = this.document;
    return { run: "", songs: [{ name, data, seconds: length / rate }], problem: "" };
  }

  async song() {
    const { audio, weighted, ...song } = this.document;
    const count = countOf(song);
    return {
      ...song,
      fixed: [audio.start, audio.stop],
      samples: () => decodeEmbedded(audio, song.rate),
      weighted: async () => readWeighted(weighted, count),
      save: null,
    };
  }
}

function readWeighted({ first, count, moments }, size) {
  return { first, frames: count ? unpackSymmetric(decodeFloat64(moments), size) : [] };
}

/** The song in the page where there is one, else the run of the server. */
export function openSource() {
  const inside = document.getElementById("song");
  return inside ? new EmbeddedSong(JSON.parse(inside.textContent)) : new ServedRun();
}

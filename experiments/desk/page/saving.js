// Saving the weights: by the server into the run, or as a download where there is no server.
import { find } from "./elements.js";
import { encodeFloat32 } from "./labels.js";
import { weightsFile } from "./npz.js";

export async function saveFusion({ board, song }) {
  const name = find("#save-name").value.trim();
  const { segments, start } = board;
  if (!name) return;
  try {
    if (song.save) {
      const flat = new Float32Array(segments.length * board.size);
      segments.forEach((matrix, k) => flat.set(matrix, k * board.size));
      const { path } = await song.save({ name, starts: start.starts, duration: start.duration, matrix: encodeFloat32(flat) });
      showSaved("Saved. On songs: ", `stemfuse fuse ${quoted(path)} SONG --out fused`);
    } else {
      const { inputs, outputs } = song;
      const parts = weightsFile({ matrices: segments, starts: start.starts, duration: start.duration, inputs, outputs });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(parts, { type: "application/octet-stream" }));
      link.download = `${name.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.npz`;
      link.click();
      showSaved("Downloaded. On songs: ", `stemfuse fuse ${quoted(link.download)} SONG --out fused`);
    }
  } catch (error) {
    find("#saved").textContent = error.message;
  }
}

function showSaved(text, command) {
  const code = document.createElement("code");
  code.textContent = command;
  find("#saved").replaceChildren(text, code);
}

function quoted(path) {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

// Labels of channels, "mdx.drums.right", "mixture.left", "drums.left", and numbers that travel as base64.

export function parseLabel(text) {
  const channelDot = text.lastIndexOf(".");
  const signal = text.slice(0, channelDot);
  const channel = text.slice(channelDot + 1);
  if (signal === "mixture") return { separator: "mixture", source: "", channel, signal };
  const sourceDot = signal.lastIndexOf(".");
  return { separator: signal.slice(0, Math.max(sourceDot, 0)), source: signal.slice(sourceDot + 1), channel, signal };
}

/** Sources of the outputs, in order. */
export function sourcesOf(outputs) {
  return [...new Set(outputs.map((label) => parseLabel(label).signal))];
}

/** Channels that are played: inputs, references, and the sources of fusions without weights. */
export function countOf(song) {
  const heard = song.heard.reduce((sum, { sources }) => sum + sources.length * song.channels.length, 0);
  return song.inputs.length + (song.hasReferences ? song.outputs.length : 0) + heard;
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export function decodeFloat64(base64) {
  return new Float64Array(bytesOf(base64).buffer);
}

export function decodeFloat32(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

export function decodeBytes(base64) {
  return bytesOf(base64).buffer;
}

export function encodeFloat32(values) {
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

/** Symmetric matrices from their packed upper triangles: [frame][row * size + column]. */
export function unpackSymmetric(packed, size) {
  const triangle = (size * (size + 1)) / 2;
  const frames = [];
  for (let start = 0; start + triangle <= packed.length; start += triangle) {
    const full = new Float64Array(size * size);
    let at = start;
    for (let row = 0; row < size; row++) {
      for (let column = row; column < size; column++) {
        full[row * size + column] = full[column * size + row] = packed[at++];
      }
    }
    frames.push(full);
  }
  return frames;
}

// Weights as the .npz that MixingWeights.load reads: NumPy arrays in a zip archive that is not compressed.

function header(shape, kind) {
  const text = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.map((n) => `${n},`).join("")}), }`;
  const padded = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const bytes = new Uint8Array(10 + padded.length);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  for (let i = 0; i < padded.length; i++) bytes[10 + i] = padded.charCodeAt(i);
  return bytes;
}

function npy(shape, kind, values) {
  const head = header(shape, kind);
  const bytes = new Uint8Array(head.length + values.byteLength);
  bytes.set(head);
  bytes.set(new Uint8Array(values.buffer), head.length);
  return bytes;
}

function texts(labels) {
  const points = labels.map((label) => [...label].map((sign) => sign.codePointAt(0)));
  const width = Math.max(1, ...points.map((each) => each.length));
  const values = new Uint32Array(labels.length * width);
  points.forEach((each, row) => values.set(each, row * width));
  return npy([labels.length], `<U${width}`, values);
}

function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function little(...fields) {
  return fields.flatMap(([value, width]) => Array.from({ length: width }, (_, at) => (value >>> (8 * at)) & 255));
}

function zipped(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const letters = [...name].map((sign) => sign.charCodeAt(0));
    const common = [[0, 2], [0, 2], [0, 2], [33, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [letters.length, 2], [0, 2]];
    const local = Uint8Array.from([...little([0x04034b50, 4], [20, 2], ...common), ...letters]);
    directory.push(...little([0x02014b50, 4], [20, 2], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), ...letters);
    parts.push(local, bytes);
    offset += local.length + bytes.length;
  }
  const end = little([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [directory.length, 4], [offset, 4], [0, 2]);
  return [...parts, Uint8Array.from(directory), Uint8Array.from(end)];
}

/** The parts of a file with weights: matrices of all segments, and what the song calls its channels. */
export function weightsFile({ matrices, starts, duration, inputs, outputs }) {
  const flat = new Float32Array(matrices.length * outputs.length * inputs.length);
  matrices.forEach((matrix, k) => flat.set(matrix, k * matrix.length));
  const files = [
    ["matrix.npy", npy([matrices.length, outputs.length, inputs.length], "<f4", flat)],
    ["inputs.npy", texts(inputs)],
    ["outputs.npy", texts(outputs)],
    ["starts_s.npy", npy([starts.length], "<f8", Float64Array.from(starts))],
  ];
  if (duration !== null) files.push(["duration_s.npy", npy([], "<f8", Float64Array.of(duration))]);
  return zipped(files);
}

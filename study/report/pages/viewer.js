"use strict";
const views = JSON.parse(document.getElementById("views").textContent);
const titles = JSON.parse(document.getElementById("titles").textContent);
const labelSet = JSON.parse(document.getElementById("labels").textContent);
const COLORS = Object.fromEntries(labelSet.map(label => [label.value, label.color]));
const CHANNELS = 3;
const pixels = new Map();
/** Return the pixels of a case's image and packed labels; each case is decoded once. */
async function decode(view) {
  if (pixels.has(view.case)) return pixels.get(view.case);
  const both = await Promise.all([view.image_uri, view.labels_uri].map(async uri => {
    const picture = new Image();
    picture.src = uri;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.width;
    canvas.height = picture.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, picture.width, picture.height).data;
  }));
  pixels.set(view.case, both);
  return both;
}
/** Return a pixel's label in one of the packed label maps, which `pack_labels` describes. */
function labelAt(view, labels, index, layer) {
  const perChannel = 8 / view.bits, blocks = Math.ceil(view.names.length / (CHANNELS * perChannel));
  const channel = Math.floor(layer / perChannel), block = Math.floor(channel / CHANNELS);
  // Each row of pixels holds the rows of all blocks.
  const at = index + view.width * (Math.floor(index / view.width) * (blocks - 1) + block);
  return (labels[4 * at + channel % CHANNELS] >> (view.bits * (layer % perChannel))) & (2 ** view.bits - 1);
}
/** Paint a slice, its labels filled lightly and outlined strongly. A layer below 0 is the image alone. */
function paint(canvas, view, image, labels, slice, layer, show) {
  const { width, height } = view, context = canvas.getContext("2d"), out = context.createImageData(width, height);
  const start = slice * width * height;
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const here = start + y * width + x, to = 4 * (y * width + x), gray = image[4 * here];
    const label = layer < 0 || !show ? 0 : labelAt(view, labels, here, layer);
    const color = COLORS[label];
    const inner = x > 0 && y > 0 && x < width - 1 && y < height - 1
      && [here - 1, here + 1, here - width, here + width].every(n => !color || labelAt(view, labels, n, layer) === label);
    const share = !color ? 0 : inner ? 0.32 : 0.95;
    for (let c = 0; c < 3; c++) out.data[to + c] = gray * (1 - share) + (color ? color[c] : 0) * share;
    out.data[to + 3] = 255;
  }
  context.putImageData(out, 0, 0);
}
async function setUpViewer() {
  const choice = document.getElementById("view-case"), slider = document.getElementById("view-slice");
  const shown = document.getElementById("view-labels"), box = document.getElementById("viewer");
  views.forEach((view, index) => choice.add(new Option(view.case, index)));
  async function draw() {
    const view = views[choice.value], [image, labels] = await decode(view);
    document.getElementById("view-number").textContent = "z " + view.slices[slider.value];
    [...box.querySelectorAll("canvas")].forEach((canvas, index) => paint(canvas, view, image, labels, Number(slider.value), index - 1, shown.checked));
  }
  function open() {
    const view = views[choice.value];
    slider.max = view.slices.length - 1;
    slider.value = view.first;
    box.replaceChildren(...["image", ...view.names].map(name => {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
      canvas.width = view.width;
      canvas.height = view.height;
      canvas.style.aspectRatio = String(1 / view.aspect);
      caption.textContent = titles[name] || name;
      figure.append(canvas, caption);
      return figure;
    }));
    return draw();
  }
  choice.addEventListener("change", open);
  slider.addEventListener("input", draw);
  shown.addEventListener("change", draw);
  await open();
}
if (views.length) setUpViewer();

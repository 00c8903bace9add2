"use strict";
{
  // A small renderer with a depth buffer. It needs no GPU, which browsers in hospitals and in tests may lack.
  const SIZE = 440, ZOOM = 1.3;
  const TRANSLUCENT = 0.38;
  const BACKGROUND = [22, 27, 34], LIGHT = [-0.35, 0.45, 0.82];
  const ENDS = [["R", [-1, 0, 0]], ["L", [1, 0, 0]], ["A", [0, -1, 0]], ["P", [0, 1, 0]], ["F", [0, 0, -1]], ["H", [0, 0, 1]]];
  const REST = { yaw: 0.35, pitch: 0.2 };
  const cases = JSON.parse(document.getElementById("surface-data").textContent);
  const labelNames = new Intl.ListFormat("en").format(labelSet.map(label => label.title));
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

  function numbers(text) {
    const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0)), view = new DataView(bytes.buffer);
    return Uint16Array.from({ length: bytes.length / 2 }, (_, index) => view.getUint16(2 * index, true));
  }

  /** Return triangles, corners and the normal of each corner. The unit is half the ROI's diagonal, from its center. */
  function unpack(body, extent) {
    const triangles = numbers(body.triangles), coordinates = numbers(body.corners);
    const longest = Math.max(...extent), radius = Math.hypot(...extent) / 2;
    const corners = Float32Array.from(coordinates, (value, index) => (value / 65535 * longest - extent[index % 3] / 2) / radius);
    const normals = new Float32Array(corners.length);
    for (let t = 0; t < triangles.length; t += 3) {
      const [a, b, c] = [0, 1, 2].map(k => corners.subarray(3 * triangles[t + k], 3 * triangles[t + k] + 3));
      const u = [0, 1, 2].map(k => b[k] - a[k]), v = [0, 1, 2].map(k => c[k] - a[k]);
      const normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (let k = 0; k < 3; k++) for (let axis = 0; axis < 3; axis++) normals[3 * triangles[t + k] + axis] += normal[axis];
    }
    const label = labelSet.find(one => one.name === body.name);
    // An organ is translucent, so that its lesions are visible inside of it.
    const opacity = labelSet.some(one => one.lesion_of === body.name) ? TRANSLUCENT : 1;
    return { color: label.color, opacity, corners, triangles, normals };
  }

  /** Return the screen's directions right, up and toward the viewer, in the patient: x left, y back, z head. */
  function directions({ yaw, pitch }) {
    const [c, s, k, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return [[c, s, 0], [-s * t, c * t, k], [s * k, -c * k, t]];
  }

  /** Return for each pixel the depth and the brightness of the surface that is nearest to the viewer. */
  function rasterise(body, [right, up, near]) {
    const depth = new Float32Array(SIZE * SIZE).fill(-2), shade = new Float32Array(SIZE * SIZE), half = SIZE / 2;
    const number = body.corners.length / 3, x = new Float32Array(number), y = new Float32Array(number), z = new Float32Array(number), lit = new Float32Array(number);
    for (let i = 0; i < number; i++) {
      const corner = body.corners.subarray(3 * i, 3 * i + 3), normal = body.normals.subarray(3 * i, 3 * i + 3);
      x[i] = half + half * ZOOM * dot(corner, right);
      y[i] = half - half * ZOOM * dot(corner, up);
      z[i] = dot(corner, near);
      const seen = [dot(normal, right), dot(normal, up), dot(normal, near)];
      lit[i] = 0.28 + 0.72 * Math.abs(dot(seen, LIGHT)) / (Math.hypot(...seen) || 1);
    }
    for (let t = 0; t < body.triangles.length; t += 3) {
      const [a, b, c] = body.triangles.subarray(t, t + 3);
      const area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]);
      if (area === 0) continue;
      const left = Math.max(0, Math.ceil(Math.min(x[a], x[b], x[c]))), last = Math.min(SIZE - 1, Math.floor(Math.max(x[a], x[b], x[c])));
      const top = Math.max(0, Math.ceil(Math.min(y[a], y[b], y[c]))), bottom = Math.min(SIZE - 1, Math.floor(Math.max(y[a], y[b], y[c])));
      for (let row = top; row <= bottom; row++) for (let column = left; column <= last; column++) {
        const ofB = ((column - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (row - y[a])) / area;
        const ofC = ((x[b] - x[a]) * (row - y[a]) - (column - x[a]) * (y[b] - y[a])) / area;
        const ofA = 1 - ofB - ofC, at = row * SIZE + column;
        if (ofA < 0 || ofB < 0 || ofC < 0) continue;
        const here = ofA * z[a] + ofB * z[b] + ofC * z[c];
        if (here > depth[at]) { depth[at] = here; shade[at] = ofA * lit[a] + ofB * lit[b] + ofC * lit[c]; }
      }
    }
    return { ...body, depth, shade };
  }

  function paint(canvas, bodies, view) {
    const context = canvas.getContext("2d"), picture = context.createImageData(SIZE, SIZE), axes = directions(view);
    const layers = bodies.map(body => rasterise(body, axes));
    for (let at = 0; at < SIZE * SIZE; at++) {
      let color = BACKGROUND;
      for (const layer of layers.filter(one => one.depth[at] > -2).sort((one, other) => one.depth[at] - other.depth[at]))
        color = color.map((value, c) => value * (1 - layer.opacity) + layer.color[c] * layer.shade[at] * layer.opacity);
      picture.data.set([...color, 255], 4 * at);
    }
    context.putImageData(picture, 0, 0);
    context.font = "600 17px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const [name, end] of ENDS) {
      const [right, up, near] = axes.map(axis => dot(axis, end)), reach = SIZE / 2 - 16;
      context.fillStyle = `rgba(230, 237, 243, ${Math.max(0, 1 - 1.25 * Math.abs(near))})`;
      context.fillText(name, SIZE / 2 + reach * right, SIZE / 2 - reach * up);
    }
  }

  function setUp() {
    const choice = document.getElementById("surface-case"), box = document.getElementById("surfaces");
    let view = { ...REST }, sides = [], isAsked = false;
    function draw() {
      if (isAsked) return;
      isAsked = true;
      setTimeout(() => { isAsked = false; sides.forEach(([canvas, bodies]) => paint(canvas, bodies, view)); }, 16);
    }
    function turn(yaw, pitch) {
      view = { yaw: view.yaw + yaw, pitch: Math.max(-1.5, Math.min(1.5, view.pitch + pitch)) };
      draw();
    }
    function side(title, bodies, extent) {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
      canvas.width = canvas.height = SIZE;
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}: surfaces of ${labelNames}; arrow keys turn them`);
      canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
      canvas.addEventListener("pointermove", event => { if (event.buttons) turn(-event.movementX / 120, event.movementY / 120); });
      canvas.addEventListener("keydown", event => {
        const turned = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
        if (turned) { event.preventDefault(); turn(...turned); }
      });
      caption.textContent = bodies.length ? title : `${title}: no labels`;
      figure.append(canvas, caption);
      box.append(figure);
      return [canvas, bodies.map(body => unpack(body, extent))];
    }
    function open() {
      const shown = cases[choice.value];
      box.replaceChildren();
      sides = [side("truth", shown.truth, shown.extent_mm), side(shown.network, shown.prediction, shown.extent_mm)];
      draw();
    }
    cases.forEach((one, index) => choice.add(new Option(one.case, index)));
    choice.addEventListener("change", open);
    document.getElementById("surface-reset").addEventListener("click", () => { view = { ...REST }; draw(); });
    open();
  }
  if (cases.length) setUp();
}

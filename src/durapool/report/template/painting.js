// Colours as the style sheet says, and canvases as sharp as the screen.

const probe = document.createElement("i");
let cache = new Map();

/** The value of a colour variable of report.css in the present theme. */
export function colour(name) {
  let found = cache.get(name);
  if (found === undefined) {
    if (!probe.isConnected) {
      probe.hidden = true;
      document.body.append(probe);
    }
    probe.style.color = `var(--${name})`;
    found = getComputedStyle(probe).color;
    cache.set(name, found);
  }
  return found;
}

/** After a change of the theme. */
export function forgetColours() {
  cache = new Map();
}

/** The 2d context of a canvas, cleared, with one unit to a CSS pixel. */
export function blank(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.globalAlpha = 1;
  return context;
}

/** Stripes in a colour, for what did not come to its end. */
export function stripes(context, name) {
  const key = `stripes ${name}`;
  let found = cache.get(key);
  if (found === undefined) {
    const tile = document.createElement("canvas");
    tile.width = 8;
    tile.height = 8;
    const pen = tile.getContext("2d");
    pen.fillStyle = colour(name);
    pen.globalAlpha = 0.28;
    pen.fillRect(0, 0, 8, 8);
    pen.globalAlpha = 0.75;
    for (let x = -8; x < 16; x += 8) {
      pen.beginPath();
      pen.moveTo(x, 8);
      pen.lineTo(x + 3, 8);
      pen.lineTo(x + 11, 0);
      pen.lineTo(x + 8, 0);
      pen.fill();
    }
    found = context.createPattern(tile, "repeat");
    cache.set(key, found);
  }
  return found;
}

/** The text, cut to fit; nothing where not even a few letters do. */
export function fittedText(context, text, x, y, room) {
  const letters = Math.floor(room / 6.4);
  if (letters < 3) return;
  context.fillText(text.length <= letters ? text : `${text.slice(0, letters - 1)}…`, x, y, room);
}

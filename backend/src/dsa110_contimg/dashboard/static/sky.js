/* The sky viewer: Aladin Lite with this server's HiPS or FITS, and nothing of anybody else's.

   <div class="sky" data-sky="ID" data-viewer="ADDRESS of aladin-lite"> with a script of JSON by that id:
   {hips | fits: address, ra, dec, fov, cut: [low, high] or null, sources: address or null, moc: address or null}
   Buttons with data-sky-do (in, out, home, measured, catalog, grid) steer it; so do the arrows, + and - while it has
   the focus. Where WebGL is not there the picture in the page stays. */
const COLORS = { measured: "#56b4e9", limit: "#e69f00", catalog: "#ffffff", moc: "#009e73" };
const STEP = 0.15;

for (const place of document.querySelectorAll("[data-sky]")) begin(place);

async function begin(place) {
  const told = JSON.parse(document.getElementById(place.dataset.sky).textContent);
  const box = place.closest(".sky-box");
  if (!document.createElement("canvas").getContext("webgl2")) {
    say(box, "This browser has no WebGL: the picture stands in for the viewer.");
    return;
  }
  try {
    const { default: A } = await import(place.dataset.viewer);
    await A.init;
    const viewer = open(A, place, told);
    place.hidden = false;
    box.querySelector(".sky-picture")?.setAttribute("hidden", "");
    const layers = { measured: null, catalog: null };
    steer(box, place, viewer, told, layers);
    if (told.moc) viewer.addMOC(A.MOCFromURL(told.moc, { color: COLORS.moc, opacity: 0.25, lineWidth: 1 }));
    if (told.sources) await overlay(A, viewer, box, told, layers);
    place.dataset.ready = "yes";
  } catch (error) {
    place.hidden = true;
    box.querySelector(".sky-picture")?.removeAttribute("hidden");
    say(box, `The viewer could not begin (${error.message ?? error}): the picture stands in for it.`);
  }
}

function open(A, place, told) {
  place.hidden = false;
  const absolute = (address) => new URL(address, location.href).href;
  const shown = told.hips
    ? A.imageHiPS(absolute(told.hips), { imgFormat: "png", name: "DSA-110", cooFrame: "ICRS" })
    : A.image(absolute(told.fits), { name: "DSA-110", colormap: "inferno", stretch: "asinh",
        successCallback: (_ra, _dec, _fov, image) => { if (told.cut) image.setCuts(...told.cut); } });
  return A.aladin(place, {
    survey: shown, hipsList: [], log: false, samp: false, target: `${told.ra} ${told.dec}`, fov: wide(place, told),
    cooFrame: "ICRS", projection: told.fov > 90 ? "MOL" : "SIN", backgroundColor: "rgb(11, 14, 20)",
    showReticle: false, showZoomControl: false, showLayersControl: false, showFullscreenControl: false,
    showFrame: false, showFov: false, showCooLocation: false, showProjectionControl: false, showStatusBar: false,
    showContextMenu: false, showSettingsControl: false, showShareControl: false, showSimbadPointerControl: false,
  });
}

/* The field of view is that of the width: all of the image's height has to be in it, too. */
function wide(place, told) {
  return Math.max(told.fov, (told.high ?? 0) * (place.clientWidth / Math.max(place.clientHeight, 1)));
}

async function overlay(A, viewer, box, told, layers) {
  const answer = await fetch(told.sources, { headers: { Accept: "application/json" } });
  if (!answer.ok) return say(box, "The sources could not be loaded.");
  const found = await answer.json();
  layers.catalog = catalog(A, "catalogue", "square", COLORS.catalog, 14, found.catalog);
  layers.measured = catalog(A, "measured", "circle", COLORS.measured, 18,
    found.measured.filter((one) => one.upper_limit_jyb === null));
  layers.limits = catalog(A, "upper limits", "circle", COLORS.limit, 18,
    found.measured.filter((one) => one.upper_limit_jyb !== null));
  for (const layer of [layers.catalog, layers.limits, layers.measured]) viewer.addCatalog(layer);
  layers.catalog.hide();
  viewer.on("objectClicked", (object) => { if (object?.data) tell(box, object.data); });
  for (const [name, count] of [["measured", found.measured.length], ["catalog", found.catalog.length]]) {
    const button = box.querySelector(`[data-sky-do="${name}"]`);
    if (button) { button.hidden = false; button.querySelector(".count").textContent = ` (${count})`; }
  }
  if (found.catalog_missing) say(box, `No catalogue is drawn: ${found.catalog_missing}.`);
}

function catalog(A, name, shape, color, size, rows) {
  const made = A.catalog({ name, shape, color, sourceSize: size });
  made.addSources(rows.filter((row) => row.ra_deg !== null && row.dec_deg !== null)
    .map((row) => A.source(row.ra_deg, row.dec_deg, row)));
  return made;
}

function tell(box, row) {
  const panel = box.querySelector(".sky-told");
  const mjy = (value) => (value === null || value === undefined ? "–" : (1000 * value).toFixed(2));
  const flux = row.flux_jy !== undefined ? `catalogue ${mjy(row.flux_jy)} mJy`
    : row.upper_limit_jyb !== null ? `below ${mjy(row.upper_limit_jyb)} mJy/beam`
    : `${mjy(row.peak_jyb)} ± ${mjy(row.peak_err_jyb)} mJy/beam`;
  const link = document.createElement("a");
  link.href = `/sources/${encodeURIComponent(row.source_id)}`;
  link.textContent = row.source_id;
  panel.replaceChildren(link, `: ${flux} at ${row.ra_deg.toFixed(5)} ${row.dec_deg.toFixed(5)}`);
}

function say(box, sentence) {
  const panel = box.querySelector(".sky-told");
  if (panel) panel.textContent = sentence;
}

function steer(box, place, viewer, told, layers) {
  const zoom = (factor) => viewer.setFoV(Math.min(Math.max(viewer.getFov()[0] * factor, 0.05), 360));
  const move = (east, north) => {
    const [ra, dec] = viewer.getRaDec();
    const step = STEP * viewer.getFov()[0];
    const beyond = Math.min(Math.max(dec + north * step, -89.9), 89.9);
    viewer.gotoRaDec((ra + (east * step) / Math.max(Math.cos((beyond * Math.PI) / 180), 0.05) + 360) % 360, beyond);
  };
  let grid = false;
  const toggle = (name) => {
    const button = box.querySelector(`[data-sky-do="${name}"]`);
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    for (const layer of name === "measured" ? [layers.measured, layers.limits] : [layers.catalog]) {
      if (layer) on ? layer.show() : layer.hide();
    }
  };
  const actions = {
    in: () => zoom(0.6), out: () => zoom(1 / 0.6),
    home: () => { viewer.gotoRaDec(told.ra, told.dec); viewer.setFoV(wide(place, told)); },
    grid: (button) => { grid = !grid; viewer.setCooGrid({ enabled: grid }); button.setAttribute("aria-pressed", String(grid)); },
    measured: () => toggle("measured"), catalog: () => toggle("catalog"),
  };
  for (const button of box.querySelectorAll("[data-sky-do]")) {
    // Those of the sources appear with them.
    if (!["measured", "catalog"].includes(button.dataset.skyDo)) button.hidden = false;
    button.addEventListener("click", () => actions[button.dataset.skyDo](button));
  }
  const keys = {
    ArrowLeft: () => move(1, 0), ArrowRight: () => move(-1, 0), ArrowUp: () => move(0, 1), ArrowDown: () => move(0, -1),
    "+": actions.in, "=": actions.in, "-": actions.out, Home: actions.home,
  };
  place.addEventListener("keydown", (event) => {
    if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); keys[event.key](); }
  });
  for (const link of document.querySelectorAll("[data-sky-go]")) {
    link.hidden = false;
    link.addEventListener("click", () => {
      const [ra, dec] = link.dataset.skyGo.split(" ").map(Number);
      viewer.gotoRaDec(ra, dec); viewer.setFoV(Math.min(told.fov, 0.5)); place.focus();
      place.scrollIntoView({ block: "nearest" });
    });
  }
}

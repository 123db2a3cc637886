// The screens: start, one comparison at a time, end. Prompts are untrusted: they enter the page as text alone.
const config = JSON.parse(document.getElementById("config").textContent);
const by = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
const MEDIA_NAME = /^[0-9a-f]{16}\.(mp4|png)$/;
const player = new Player(by("left"), by("right"), onPlayer);
let session = null, startedAt = 0, isBroken = false, current = null;

function show(id) {
  for (const section of ["start", "trial", "end"]) by(section).hidden = section !== id;
}

function media(name) {
  if (!MEDIA_NAME.test(name)) throw new Error("media name: 16 hex digits expected, given " + name);
  return config.media_base.replace(/\/+$/, "") + "/" + name;
}

function say(text, isWarning) {
  by("status").textContent = text;
  by("status").classList.toggle("warn", Boolean(isWarning));
}

// ---- one comparison

function openTrial() {
  const total = session.block.trials.length;
  by("progress").setAttribute("aria-valuemax", total);
  by("progress").setAttribute("aria-valuenow", session.index);
  by("progress").firstElementChild.style.width = (100 * session.index) / total + "%";
  if (session.isDone) return finish();
  const trial = session.trial;
  by("place").textContent = session.index + 1 + " of " + total;
  by("prompt").textContent = trial.prompt;
  by("prompt-label").hidden = by("prompt").hidden = trial.task === "i2v" && !trial.prompt;
  by("image").hidden = !trial.image;
  if (trial.image) by("image").src = media(trial.image);
  isBroken = false;
  startedAt = 0;
  current = null;
  buildQuestions(trial.questions);
  by("scrub").value = 0;
  by("broken").setAttribute("aria-pressed", "false");
  show("trial");
  scrollTo(0, 0);
  by("prompt").focus({ preventScroll: true });
  say("Loading both videos …");
  player.load(media(trial.left), media(trial.right), !isStill);
  update();
  preload(session.block.trials[session.index + 1]);
}

function buildQuestions(questions) {
  by("questions").replaceChildren(...questions.map((name) => {
    const fieldset = document.createElement("fieldset");
    fieldset.dataset.question = name;
    const legend = fieldset.appendChild(document.createElement("legend"));
    legend.textContent = config.questions[name];
    for (const [value, word, key] of [["L", "Left", "1"], ["R", "Right", "2"]]) {
      const label = fieldset.appendChild(document.createElement("label"));
      const radio = label.appendChild(document.createElement("input"));
      Object.assign(radio, { type: "radio", name, value });
      label.appendChild(document.createElement("span")).textContent = word;
      label.appendChild(document.createElement("kbd")).textContent = key;
    }
    return fieldset;
  }));
}

function preload(trial) {
  for (const old of document.querySelectorAll("link[rel=prefetch]")) old.remove();
  if (!trial) return;
  for (const name of [trial.left, trial.right]) {
    const link = document.createElement("link");
    link.rel = "prefetch";
    link.href = media(name);
    document.head.appendChild(link);
  }
}

const fieldsets = () => [...by("questions").children];
const chosen = (fieldset) => { const radio = fieldset.querySelector(":checked"); return radio ? radio.value : ""; };

function update() {
  const isOpen = player.isSeen || isBroken;
  const sets = fieldsets();
  for (const set of sets) set.disabled = !player.isSeen;
  if (!sets.includes(current)) current = null;
  current = current || sets.find((set) => !chosen(set)) || sets[sets.length - 1];
  sets.forEach((set) => set.classList.toggle("now", isOpen && set === current));
  by("scrub").disabled = !player.isSeen;
  by("next").disabled = !(isBroken || (isOpen && sets.every(chosen)));
}

function onPlayer(event) {
  if (event === "time") { if (document.activeElement !== by("scrub")) by("scrub").value = 1000 * player.share; return; }
  if (event.startsWith("error")) {
    say((event.endsWith("L") ? "The left" : "The right") + " video does not load. Press “A clip is broken”, then go on.", true);
  }
  if (event === "playing") {
    startedAt = startedAt || performance.now();
    if (!player.isSeen) say("Watch both videos to the end once; then answer.");
  }
  if (event === "ready") by("trial").style.setProperty("--aspect", by("left").videoWidth / by("left").videoHeight);
  if (event === "ready" && isStill) say("Press Space to play both videos.");
  if (event === "seen" && !isBroken && fieldsets().some((set) => set.disabled)) say("Now answer. The videos play on.");
  by("play-word").textContent = player.wantsToPlay ? "Pause" : "Play";
  update();
}

function choose(value) {
  if (!current || current.disabled) return;
  current.querySelector("input[value=" + value + "]").checked = true;
  const open = fieldsets().find((set) => !chosen(set));
  if (open) current = open;
  else say("All answered. Go on, or change an answer.");
  update();
}

function move(step) {
  const sets = fieldsets(), place = sets.indexOf(current) + step;
  if (sets[place]) current = sets[place];
  update();
}

function next() {
  if (by("next").disabled) return;
  const answer = { id: session.trial.id };
  for (const set of fieldsets()) answer[set.dataset.question] = chosen(set);
  answer.ms = startedAt ? Math.round(performance.now() - startedAt) : 0;
  answer.pl = player.plays[0];
  answer.pr = player.plays[1];
  answer.flag = isBroken ? "broken" : "";
  session.add(answer);
  openTrial();
}

function toggleBroken() {
  isBroken = !isBroken;
  by("broken").setAttribute("aria-pressed", String(isBroken));
  say(isBroken ? "Reported as broken. Go on to the next." : "Not reported.", isBroken);
  update();
}

// ---- the end

function finish() {
  player.unload();
  by("place").textContent = "";
  show("end");
  by("end-title").focus();
  by("download").hidden = by("another").hidden = config.mode !== "local";
  by("end-text").textContent = config.mode === "local"
    ? "Your answers to part " + session.block.block_id + " are complete. Download them and send the file to who asked you."
    : "Your answers are being handed in.";
  if (config.mode === "mturk") submit();
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([session.csv()], { type: "text/csv" }));
  link.download = ["answers", config.study_id, session.block.block_id, session.rater].join("_") + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function submit() {
  const target = new URL("/mturk/externalSubmit", query.get("turkSubmitTo") || location.href);
  if (!/^https?:$/.test(target.protocol)) throw new Error("turkSubmitTo: an http address expected");
  by("submit").action = target.href;
  const fields = { assignmentId: query.get("assignmentId") || "", ...session.columns() };
  for (const [name, value] of Object.entries(fields)) {
    by("submit").appendChild(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  by("submit").submit();
}

// ---- the start

async function readBlock(id) {
  if (config.trials_b64) return { block_id: config.block_id, trials: fromBase64Url(config.trials_b64) };
  if (config.embedded && config.embedded[id]) return { block_id: id, trials: config.embedded[id] };
  const [file] = by("file").files;
  if (file) return JSON.parse(await file.text());
  const answer = await fetch("blocks/" + encodeURIComponent(id) + ".json");
  if (!answer.ok) throw new Error("blocks/" + id + ".json: " + answer.status);
  return answer.json();
}

async function begin(event) {
  event.preventDefault();
  const rater = config.mode === "local" ? by("rater").value.trim() : query.get("workerId") || "";
  try {
    const block = await readBlock(by("block").value);
    if (config.mode === "local") remember(rater);
    session = new Session(config, block, rater);
  } catch (error) {
    by("field-file").hidden = false;
    by("start-note").textContent = "This part could not be opened (" + error.message + "). Choose its file, or serve the folder.";
    return;
  }
  by("title").textContent = "Comparing videos";
  openTrial();
}

function remember(rater) {
  try { localStorage.setItem("rater-page:rater", rater); } catch { /* storage is not allowed here */ }
}

function nextPart() {
  return Math.min(config.blocks.indexOf(session.block.block_id) + 1, config.blocks.length - 1);
}

function openStart() {
  show("start");
  const isLocal = config.mode === "local";
  by("field-rater").hidden = by("field-block").hidden = !isLocal;
  by("rater").disabled = by("block").disabled = !isLocal;
  by("block").replaceChildren(...(config.blocks || []).map((id) => new Option(id, id)));
  if (query.get("block")) by("block").value = query.get("block");
  try { by("rater").value = query.get("rater") || localStorage.getItem("rater-page:rater") || ""; } catch { /* as above */ }
  if (!isLocal && query.get("assignmentId") === UNAVAILABLE) {
    by("begin").disabled = true;
    by("start-note").textContent = "This is a preview. Accept the task to begin.";
  }
  (isLocal && !by("rater").value ? by("rater") : by("begin")).focus();
}

// ---- keys and clicks

const KEYS = {
  " ": () => player.toggle(), r: () => player.restart(), 1: () => choose("L"), 2: () => choose("R"), Enter: next,
  ArrowLeft: () => choose("L"), ArrowRight: () => choose("R"), ArrowUp: () => move(-1), ArrowDown: () => move(1),
};

document.addEventListener("keydown", (event) => {
  if (by("trial").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const on = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isNative = (on.tagName === "BUTTON" && (key === " " || key === "Enter")) || (on === by("scrub") && key.startsWith("Arrow"));
  if (isNative || !(key in KEYS)) return;
  event.preventDefault();
  KEYS[key]();
});
by("enter").addEventListener("submit", begin);
by("play").addEventListener("click", () => player.toggle());
by("again").addEventListener("click", () => player.restart());
by("scrub").addEventListener("input", () => player.scrub(by("scrub").value / 1000));
by("questions").addEventListener("focusin", (event) => { current = event.target.closest("fieldset"); update(); });
by("questions").addEventListener("change", (event) => choose(event.target.value));
by("questions").addEventListener("submit", (event) => event.preventDefault());
by("broken").addEventListener("click", toggleBroken);
by("next").addEventListener("click", next);
by("download").addEventListener("click", download);
by("another").addEventListener("click", () => { openStart(); by("block").selectedIndex = nextPart(); });
openStart();

// What a rater has answered so far: kept in the browser where that is allowed, handed out as columns tNN_*.
const UNAVAILABLE = "ASSIGNMENT_ID_NOT_AVAILABLE";

class Session {
  constructor(config, block, rater) {
    this.config = config;
    this.block = block;                     // {block_id, trials: [{id, task, prompt, image, left, right, duration_s, questions}]}
    this.rater = rater;
    this.answers = [];
    this.index = 0;
    this.acceptedAt = new Date().toISOString();
    this.assignment = "local-" + randomName();
    this.restore();
  }

  get trial() { return this.block.trials[this.index]; }
  get isDone() { return this.index >= this.block.trials.length; }
  get storageKey() {
    return ["rater-page", this.config.study_id, this.config.page_version, this.block.block_id, this.rater].join(":");
  }

  add(answer) {
    this.answers.push(answer);
    this.index += 1;
    this.save();
  }

  save() {
    const state = { answers: this.answers, acceptedAt: this.acceptedAt, assignment: this.assignment };
    try { localStorage.setItem(this.storageKey, JSON.stringify(state)); } catch { /* storage is not allowed here */ }
  }

  restore() {
    let state = null;
    try { state = JSON.parse(localStorage.getItem(this.storageKey)); } catch { /* storage is not allowed here */ }
    const ids = this.block.trials.map((trial) => trial.id);
    if (!state || !Array.isArray(state.answers) || state.answers.some((answer, i) => answer.id !== ids[i])) return;
    Object.assign(this, { answers: state.answers, acceptedAt: state.acceptedAt, assignment: state.assignment });
    this.index = state.answers.length;
  }

  // tNN_id, tNN_align ..., tNN_ms, tNN_pl, tNN_pr, tNN_flag
  columns() {
    const columns = {};
    this.answers.forEach((answer, i) => {
      const slot = "t" + String(i + 1).padStart(2, "0") + "_";
      for (const [name, value] of Object.entries(answer)) columns[slot + name] = String(value);
    });
    return columns;
  }

  // One row in the convention of MTurk's batch results: every Input.* and Answer.* column, quoted.
  csv() {
    const now = new Date().toISOString();
    const seconds = Math.round((Date.parse(now) - Date.parse(this.acceptedAt)) / 1000);
    const inputs = {
      study_id: this.config.study_id, page_version: this.config.page_version, block_id: this.block.block_id,
      n_trials: this.block.trials.length, media_base: this.config.media_base, trials_b64: toBase64Url(this.block.trials),
    };
    const known = {
      HITId: "local-" + this.block.block_id, HITTypeId: "local", Title: this.config.study_id, MaxAssignments: 1,
      AssignmentId: this.assignment, WorkerId: this.rater, AssignmentStatus: "Submitted", AcceptTime: this.acceptedAt,
      SubmitTime: now, WorkTimeInSeconds: seconds,
    };
    const row = [];
    for (const name of this.config.results_head) row.push([name, name in known ? known[name] : ""]);
    for (const [name, value] of Object.entries(inputs)) row.push(["Input." + name, value]);
    for (const [name, value] of Object.entries(this.columns())) row.push(["Answer." + name, value]);
    row.push(["Approve", ""], ["Reject", ""]);
    const quoted = (cells) => cells.map((cell) => '"' + String(cell).replaceAll('"', '""') + '"').join(",");
    return quoted(row.map(([name]) => name)) + "\r\n" + quoted(row.map(([, value]) => value)) + "\r\n";
  }
}

function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function fromBase64Url(text) {
  const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0))));
}

function toBase64Url(value) {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

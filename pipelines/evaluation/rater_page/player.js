// Two clips as one: they start together when both can play through, and restart together when both have ended.
// Native looping lets two clips drift apart by 160 ms in 30 s; restarting both keeps them within 1 ms.
const PAUSE_BETWEEN_MS = 350;
const CAN_PLAY_THROUGH = 4;

class Player {
  constructor(left, right, tell) {
    this.videos = [left, right];
    this.tell = tell;                       // called with "ready", "playing", "paused", "time", "seen" or "error L|R"
    this.generation = 0;                    // events of an earlier trial are not listened to
    this.wantsToPlay = false;
    left.muted = right.muted = true;
    for (const video of this.videos) {
      for (const event of ["canplaythrough", "seeked"]) video.addEventListener(event, () => this.start());
      video.addEventListener("ended", () => this.ended(video));
      video.addEventListener("timeupdate", () => this.tell("time"));
      video.addEventListener("error", () => {
        if (video.getAttribute("src")) this.tell(video === left ? "error L" : "error R");
      });
    }
  }

  load(leftUrl, rightUrl, playsAtOnce) {
    this.generation += 1;
    this.plays = [0, 0];
    this.done = new Set();                  // who has ended in this round
    this.isRunning = false;
    this.isReady = false;
    this.wantsToPlay = playsAtOnce;
    [leftUrl, rightUrl].forEach((url, i) => {
      this.videos[i].src = url;
      this.videos[i].load();
    });
  }

  unload() {
    this.generation += 1;
    this.wantsToPlay = false;
    for (const video of this.videos) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
  }

  start() {
    if (!this.videos.every((video) => video.readyState >= CAN_PLAY_THROUGH)) return;
    if (!this.isReady) {
      this.isReady = true;
      this.tell("ready");
    }
    if (!this.wantsToPlay || this.isRunning) return;
    this.isRunning = true;
    const generation = this.generation;
    const waiting = this.videos.filter((video) => !video.ended).map((video) => video.play());
    Promise.all(waiting).then(
      () => { if (generation === this.generation && this.isRunning) this.tell("playing"); },
      (error) => { if (generation === this.generation && error.name !== "AbortError") this.pause(); }
    );
  }

  pause() {
    this.wantsToPlay = this.isRunning = false;
    for (const video of this.videos) video.pause();
    this.tell("paused");
  }

  toggle() {
    if (this.wantsToPlay) return this.pause();
    this.wantsToPlay = true;
    if (this.videos.every((video) => video.ended)) return this.restart();
    this.start();
  }

  restart() {
    this.wantsToPlay = true;
    this.isRunning = false;
    this.done.clear();
    for (const video of this.videos) {
      video.pause();
      video.currentTime = 0;                // when both have sought, both start
    }
    this.start();
  }

  scrub(share) {
    if (this.wantsToPlay) this.pause();
    this.done.clear();
    for (const video of this.videos) video.currentTime = share * (video.duration || 0);
  }

  get share() {
    const [video] = this.videos;
    return video.duration ? video.currentTime / video.duration : 0;
  }

  get isSeen() { return this.plays && this.plays[0] > 0 && this.plays[1] > 0; }

  ended(video) {
    if (!this.isRunning || this.done.has(video)) return;  // dragged to the end, not played
    this.plays[this.videos.indexOf(video)] += 1;
    this.done.add(video);                   // counted by event: both may have ended before the first event comes
    if (this.done.size < this.videos.length) return;
    this.isRunning = false;
    if (this.isSeen) this.tell("seen");
    const generation = this.generation;
    setTimeout(() => {
      if (generation === this.generation && this.wantsToPlay) this.restart();
    }, PAUSE_BETWEEN_MS);
  }
}

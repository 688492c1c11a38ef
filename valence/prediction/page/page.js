"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const [sound, play, track, cursor, ghost, tip] =
  ["sound", "play", "track", "cursor", "ghost", "tip"].map(part);
const passages = [...document.querySelectorAll("button[data-start]")];
const PAGE_SECONDS = 10;

let position = 0; // seconds
let wanted = null; // a position that waits until the sound is there
let pressed = null; // the pointer that is down on the curves: its id and where it went down

const within = (value, low, high) => Math.min(Math.max(value, low), high);
const clock = (seconds, digits = 1) => {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  const [whole, rest] = [Math.floor(tenths / 10), tenths % 10];
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (n) => String(n).padStart(2, "0");
  const text = hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  return digits ? `${text}.${rest}` : text;
};
const number = (value) =>
  value === null ? "–" : (Math.round(value * 1000) / 1000 + 0).toFixed(3).replace("-", "−");
const share = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);
// The small term keeps a time that is the start of a step from falling into the step before.
const at = (values, seconds) =>
  values[within(Math.floor(seconds / data.step + 1e-6), 0, values.length - 1)];

// Every number at a time, as pairs of name and text.
const readings = (seconds) => {
  const found = [];
  for (const curve of data.curves) {
    found.push([curve.name, number(at(curve.predicted, seconds))]);
    if (curve.annotated) {
      found.push(["annotated", number(at(curve.annotated, seconds))]);
    }
  }
  if (data.speech) found.push(["speech", share(at(data.speech, seconds))]);
  return found;
};

const speak = () => {
  const minutes = Math.floor(position / 60);
  const seconds = Math.floor((position % 60) * 10 + 1e-6) / 10;
  const time = `${minutes ? `${minutes} min ` : ""}${seconds} s`;
  const words = readings(position).map(([name, text]) => `${name} ${text}`);
  track.setAttribute("aria-valuenow", position.toFixed(1));
  track.setAttribute("aria-valuetext", [time, ...words].join(", "));
};

const show = () => {
  cursor.style.left = `${(100 * position) / data.seconds}%`;
  part("now").textContent = clock(position);
  readings(position).forEach(([, text], place) => {
    part(`value-${place}`).textContent = text;
  });
  for (const button of passages) {
    const inside = position >= +button.dataset.start && position < +button.dataset.end;
    if (inside) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
};

const seek = (seconds) => {
  position = within(seconds, 0, data.seconds);
  if (sound && sound.readyState >= HTMLMediaElement.HAVE_METADATA) sound.currentTime = position;
  else wanted = position;
  show();
  speak();
};

const complain = (text) => {
  part("trouble").hidden = false;
  part("trouble").firstElementChild.textContent = text;
};

const toggle = () => {
  if (!sound || play.disabled) return;
  if (!sound.paused) sound.pause();
  else {
    sound.play().catch((error) => {
      // A play that a pause interrupts is no fault.
      if (error.name !== "AbortError") complain(`The sound was not played: ${error.message}`);
    });
  }
};

let spoken = 0;
const follow = () => {
  position = within(sound.currentTime, 0, data.seconds);
  show();
  // A screen reader that is on the slider would speak without end, and drown the recording.
  if (document.activeElement !== track && Math.abs(position - spoken) >= 1) {
    spoken = position;
    speak();
  }
  if (!sound.paused) requestAnimationFrame(follow);
};

if (sound) {
  sound.controls = false;
  sound.hidden = true;
  part("controls").hidden = false;
  sound.addEventListener("loadedmetadata", () => {
    if (wanted !== null) sound.currentTime = wanted;
    wanted = null;
  });
  sound.addEventListener("play", () => {
    play.classList.add("playing");
    play.setAttribute("aria-label", "Pause");
    requestAnimationFrame(follow);
  });
  sound.addEventListener("pause", () => {
    play.classList.remove("playing");
    play.setAttribute("aria-label", "Play");
    position = within(sound.currentTime, 0, data.seconds);
    show();
    speak();
  });
  const refuse = () => {
    play.disabled = true;
    complain(sound.dataset.trouble);
  };
  sound.addEventListener("error", refuse);
  // A file that is not there may have failed before this script began.
  if (sound.error) refuse();
  play.addEventListener("click", toggle);
} else {
  part("controls").hidden = false;
  play.disabled = true;
}

const timeOf = (event) => {
  const box = track.getBoundingClientRect();
  return within((event.clientX - box.left) / box.width, 0, 1) * data.seconds;
};
const hint = (event) => {
  const seconds = timeOf(event);
  const left = (100 * seconds) / data.seconds;
  ghost.hidden = tip.hidden = false;
  ghost.style.left = `${left}%`;
  const words = readings(seconds).map(([name, text]) => `${name} ${text}`);
  tip.textContent = [clock(seconds), ...words].join("  ·  ");
  // Beside the line, on the side that has room.
  const room = track.clientWidth - tip.offsetWidth;
  const beside = (left / 100) * track.clientWidth;
  const right = beside + 10;
  tip.style.left = `${within(right <= room ? right : beside - tip.offsetWidth - 10, 0, Math.max(room, 0))}px`;
};
const unhint = () => {
  ghost.hidden = tip.hidden = true;
};

track.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  pressed = { id: event.pointerId, x: event.clientX, moved: event.pointerType !== "touch" };
  track.setPointerCapture(event.pointerId);
  // A finger may begin to scroll here: it seeks when it moves sideways or is lifted.
  if (pressed.moved) seek(timeOf(event));
});
track.addEventListener("pointermove", (event) => {
  if (pressed && pressed.id === event.pointerId) {
    pressed.moved = pressed.moved || Math.abs(event.clientX - pressed.x) > 6;
    if (pressed.moved) seek(timeOf(event));
  }
  if (event.pointerType !== "touch") hint(event);
});
track.addEventListener("pointerup", (event) => {
  if (pressed && pressed.id === event.pointerId) seek(timeOf(event));
  pressed = null;
});
track.addEventListener("pointercancel", () => {
  pressed = null;
});
track.addEventListener("pointerleave", unhint);

for (const button of passages) {
  button.addEventListener("click", (event) => {
    seek(+button.dataset.start);
    // After a click, the space bar plays from there; with the keyboard, the list keeps the focus.
    if (event.detail > 0) track.focus({ preventScroll: true });
  });
}

const next = () => (Math.floor(position / data.step + 1e-6) + 1) * data.step;
const previous = () => (Math.ceil(position / data.step - 1e-6) - 1) * data.step;
const anywhere = { ArrowRight: next, ArrowLeft: previous };
const onTrack = {
  ArrowUp: next,
  ArrowDown: previous,
  PageUp: () => position + PAGE_SECONDS,
  PageDown: () => position - PAGE_SECONDS,
  Home: () => 0,
  End: () => data.seconds,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.key === " ") {
    if (event.target.closest("button, a, summary, audio")) return;
    event.preventDefault();
    if (!event.repeat) toggle();
    return;
  }
  const move = anywhere[event.key] ?? (event.target === track ? onTrack[event.key] : undefined);
  if (!move) return;
  event.preventDefault();
  seek(move());
});

show();
speak();

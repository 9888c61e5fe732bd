// The player: a text on its way from masks to words, state by state.
"use strict";
(() => {
  const player = document.getElementById("player");
  if (!player) return;
  const samples = JSON.parse(document.getElementById("samples-data").textContent);
  const part = (name) => player.querySelector(`[data-player=${name}]`);
  const canvas = document.getElementById("player-canvas");
  const status = document.getElementById("player-status");
  const slider = part("state");
  let sample = samples[0];
  let tokens = []; // the elements of the text, by position
  let pieces = []; // what each position holds; null is a mask
  let state = 0; // how many states have been shown
  let timer = null;

  const show = (position, piece, fresh) => {
    const element = tokens[position];
    const masked = piece === null;
    pieces[position] = piece;
    element.className = masked ? "mask" : fresh ? "fresh" : "";
    element.textContent = masked ? "\u2593\u2593" : piece;
  };

  const reset = () => {
    tokens = Array.from({ length: sample.length }, () => document.createElement("span"));
    pieces = new Array(sample.length).fill(null);
    tokens.forEach((_, position) => show(position, null, false));
    canvas.replaceChildren(...tokens);
    state = 0;
  };

  const forward = (fresh) => {
    for (const [position, piece] of sample.states[state]) show(position, piece, fresh);
    state += 1;
  };

  const go = (target) => {
    const wanted = Math.max(0, Math.min(target, sample.states.length));
    for (const element of canvas.querySelectorAll(".fresh")) element.className = "";
    if (wanted < state) reset();
    while (state < wanted) forward(state === wanted - 1);
    tell();
  };

  const tell = () => {
    const last = sample.states.length;
    const masked = pieces.filter((piece) => piece === null).length;
    const calls = state ? sample.calls[state - 1] : 0;
    const shown = sample.length - masked;
    slider.max = last;
    slider.value = state;
    slider.setAttribute("aria-valuetext", `state ${state} of ${last}`);
    status.textContent =
      `State ${state} of ${last}: ${shown} of ${sample.length} tokens are decided` +
      (calls === undefined ? "" : `, after ${calls} network evaluations`) +
      ` (${sample.made}).`;
    canvas.setAttribute("aria-label", `The text as it is unmasked, ${masked} of ${sample.length} tokens masked`);
  };

  const stop = () => {
    clearInterval(timer);
    timer = null;
    part("play").textContent = "Play";
    part("play").setAttribute("aria-label", "Play");
    status.setAttribute("aria-live", "polite");
  };
  const play = () => {
    status.setAttribute("aria-live", "off");
    part("play").textContent = "Pause";
    part("play").setAttribute("aria-label", "Pause");
    if (state >= sample.states.length) go(0);
    timer = setInterval(() => {
      go(state + 1);
      if (state >= sample.states.length) stop();
    }, 1000 / Number(part("speed").value));
  };
  const toggle = () => (timer === null ? play() : stop());
  const step = (by) => {
    stop();
    go(state + by);
  };
  const to = (target) => {
    stop();
    go(target);
  };

  part("sample").addEventListener("input", () => {
    stop();
    sample = samples[Number(part("sample").value)];
    reset();
    go(sample.states.length);
  });
  part("speed").addEventListener("input", () => {
    if (timer !== null) {
      stop();
      play();
    }
  });
  slider.addEventListener("input", () => to(Number(slider.value)));
  part("play").addEventListener("click", toggle);
  part("back").addEventListener("click", () => step(-1));
  part("forward").addEventListener("click", () => step(1));
  part("start").addEventListener("click", () => to(0));
  part("end").addEventListener("click", () => to(sample.states.length));
  canvas.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      Home: () => to(0),
      End: () => to(sample.states.length),
      " ": toggle,
    }[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });

  reset();
  go(sample.states.length);
})();

// The page as a whole: theme, copy buttons, and the unpacking of the plotting library.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  // Themes. What was chosen is remembered where a page from disk may remember anything.
  const remembered = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("mdmkit-theme", value);
      return localStorage.getItem("mdmkit-theme");
    } catch {
      return null;
    }
  };
  const redraw = () => document.dispatchEvent(new Event("mdmkit:theme"));
  const choose = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    redraw();
  };
  const radios = [...document.querySelectorAll("input[name=theme]")];
  for (const radio of radios) {
    radio.addEventListener("change", () => {
      remembered(radio.value);
      choose(radio.value);
    });
  }
  const before = radios.find((radio) => radio.value === remembered());
  if (before) {
    before.checked = true;
    choose(before.value);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // Copy buttons. A page from disk may lack the clipboard; then the text is selected.
  const copy = async (text, element) => {
    try {
      await navigator.clipboard.writeText(text);
      return "Copied";
    } catch {
      getSelection().selectAllChildren(element);
      return document.execCommand("copy") ? "Copied" : "Selected";
    }
  };
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      button.textContent = await copy(code.textContent, code);
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }

  // The section that is being read, in the list of contents.
  const links = new Map(
    [...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]),
  );
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        for (const link of links.values()) link.removeAttribute("aria-current");
        const link = links.get(entry.target.id);
        link?.setAttribute("aria-current", "true");
        const list = link?.closest("ul");
        if (list) list.scrollLeft = link.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
      }
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  for (const section of document.querySelectorAll("main > section")) watch.observe(section);

  // The plotting library: base64 of gzip. The page's policy runs nothing but this very text.
  const unpacked = async () => {
    const text = document.getElementById("library").textContent;
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    if (!window.Plotly) throw new Error("the plotting library did not start");
  };
  unpacked().then(
    () => {
      root.classList.add("drawing");
      document.dispatchEvent(new Event("mdmkit:plotly"));
    },
    () => {
      root.classList.add("undrawn");
      for (const numbers of document.querySelectorAll("details.numbers")) numbers.open = true;
    },
  );
})();

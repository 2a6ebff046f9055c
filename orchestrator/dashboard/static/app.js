// Times in the reader's zone, confirmations, and live regions. Every page works without it.
"use strict";

(() => {
  const zone = new Intl.DateTimeFormat(document.documentElement.lang, {
    dateStyle: "medium",
    timeStyle: "medium",
  });

  const localise = (root) => {
    for (const time of root.querySelectorAll("time:not(.age):not([data-done])")) {
      time.textContent = zone.format(new Date(time.dateTime));
      time.dataset.done = "";
    }
  };

  document.addEventListener("submit", (event) => {
    const words = event.submitter?.dataset.confirm;
    if (words && !window.confirm(words)) event.preventDefault();
  });

  // Over plain HTTP there is no clipboard for scripts: the text is selected then, for a copy by hand.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 1500);
    } catch {
      const shown = button.previousElementSibling;
      if (shown?.select) shown.select();
      else if (shown) getSelection().selectAllChildren(shown);
    }
  });
  document.documentElement.classList.add("scripted");

  // One stream for all tabs of the browser: a shared worker has it. A hidden tab refreshes nothing.
  // Longer than answers are shared (`recent_answers.py`): none is from before the event.
  const DELAY = 700;
  let timer = 0;
  let isStale = false;

  const refresh = () => {
    timer = 0;
    if (document.hidden) {
      isStale = true;
      return;
    }
    isStale = false;
    document.body.dispatchEvent(new CustomEvent("live"));
  };

  const changed = (job) => {
    const own = document.querySelector("[data-job]")?.dataset.job;
    if (own && job && job !== own) return;
    if (!timer) timer = setTimeout(refresh, DELAY + Math.random() * DELAY);
  };

  // Attempts and the progress of a replay are no events: a page where one is awaited looks again.
  const LOOK = 3000;
  setInterval(() => {
    if (!document.hidden && document.querySelector("[data-moving]")) refresh();
  }, LOOK);

  const listen = () => {
    const { live, stream } = document.body.dataset;
    if (!live || !window.SharedWorker || !document.querySelector("[hx-trigger^='live']")) return;
    const address = new URL(live, location.href);
    address.searchParams.set("stream", new URL(stream, location.href).href);
    const worker = new SharedWorker(address, { name: "orchestrator" });
    worker.port.onmessage = ({ data }) => changed(data);
    addEventListener("pagehide", () => worker.port.postMessage("bye"));
  };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isStale) changed("");
  });
  document.body.addEventListener("htmx:after:swap", () => localise(document));
  localise(document);
  listen();
})();

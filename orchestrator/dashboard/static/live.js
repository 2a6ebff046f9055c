// The worker that all tabs share: one stream of events, whose jobs it names to every tab.
"use strict";

const ports = new Set();
const stream = new URL(self.location).searchParams.get("stream");
let isRunning = false;

const publish = (job) => {
  for (const port of ports) port.postMessage(job);
};

const jobOf = (data) => {
  try {
    return JSON.parse(data).data?.id ?? "";
  } catch {
    return "";
  }
};

const read = async () => {
  const response = await fetch(stream, { credentials: "same-origin", redirect: "error" });
  if (!response.ok) throw new Error(String(response.status));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (left + value).split("\n");
    left = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) publish(jobOf(line.slice(5)));
  }
};

const run = async () => {
  if (isRunning) return;
  isRunning = true;
  for (let wait = 1000; ports.size; wait = Math.min(wait * 2, 60000)) {
    try {
      await read();
      wait = 500;
    } catch {
      // The session has ended, or the service restarts: pages read on reload, and this tries again.
    }
    await new Promise((resolve) => setTimeout(resolve, wait * (0.7 + Math.random() * 0.6)));
    publish("");
  }
  isRunning = false;
};

self.onconnect = ({ ports: [port] }) => {
  ports.add(port);
  port.onmessage = () => ports.delete(port);
  run();
};

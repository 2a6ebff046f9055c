// Follows a stream as a browser would, for ever: a line for each time it opens, and for each event.
import { EventSource } from "eventsource";

const [url, key, ...types] = process.argv.slice(1).filter((one) => one !== "--");
const say = (said) => process.stdout.write(JSON.stringify(said) + "\n");
const authorized = (input, init) =>
  fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });

// While it waits to come back, `eventsource` keeps no process alive: what ends this one is the end of its input.
process.stdin.resume().on("end", () => process.exit());

const source = new EventSource(url, { fetch: authorized });
source.addEventListener("open", () => say({ open: true }));
source.addEventListener("error", (event) => {
  if (source.readyState === EventSource.CLOSED) say({ failed: event.message ?? String(event.code) });
});
for (const type of types) {
  source.addEventListener(type, (event) => say({ id: event.lastEventId, type, job: JSON.parse(event.data).data.id }));
}

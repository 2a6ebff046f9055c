// Follows an event stream without end. Prints a line per connection and per event.
import { EventSource } from "eventsource";

const [url, key, ...types] = process.argv.slice(1).filter((argument) => argument !== "--");
const print = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const authorized = (input, init) =>
  fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });

// While `eventsource` waits to reconnect, Node would exit. The process ends with its stdin instead.
process.stdin.resume().on("end", () => process.exit());

const source = new EventSource(url, { fetch: authorized });
source.addEventListener("open", () => print({ open: true }));
source.addEventListener("error", (event) => {
  if (source.readyState !== EventSource.CLOSED) return;
  print({ failed: event.message ?? String(event.code) });
});
for (const type of types) {
  source.addEventListener(type, (event) =>
    print({ id: event.lastEventId, type, job: JSON.parse(event.data).data.id }),
  );
}

// What a page and its backend give to the script of the documentation, which follows below.
import { EventSource as Source } from "eventsource";

const [server, key] = process.argv.slice(1).filter((argument) => argument !== "--");
const print = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const send = globalThis.fetch;
const fetch = (url, init) =>
  url === "/my-backend/stream-ticket"
    ? send(server + "/v1/events/tickets", { ...init, headers: { authorization: `Bearer ${key}` } })
    : send(url, init);
const EventSource = class extends Source {
  constructor(url) {
    super(url);
    this.addEventListener("open", () => print({ open: true }));
  }
};
const show = (event) => print({ job: event.data.id });
process.stdin.on("data", (id) => follow(String(id).trim())).on("end", () => process.exit());

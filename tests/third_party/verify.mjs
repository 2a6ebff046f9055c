// Reads deliveries from stdin and prints by library which of them it accepts.
import { text } from "node:stream/consumers";
import { Webhook as Standard } from "standardwebhooks";
import { Webhook as Svix } from "svix";

function accepts(library, { secret, headers, body }) {
  try {
    new library(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

const deliveries = JSON.parse(await text(process.stdin));
const libraries = { "standardwebhooks for Node": Standard, "svix for Node": Svix };
const verdicts = Object.entries(libraries).map(([name, library]) => [
  name,
  deliveries.map((delivery) => accepts(library, delivery)),
]);
console.log(JSON.stringify(Object.fromEntries(verdicts)));

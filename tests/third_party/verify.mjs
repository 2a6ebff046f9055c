// Reads deliveries from stdin and says which of them each library believes.
import { text } from "node:stream/consumers";
import { Webhook as Standard } from "standardwebhooks";
import { Webhook as Svix } from "svix";

function believes(library, { secret, headers, body }) {
  try {
    new library(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

const deliveries = JSON.parse(await text(process.stdin));
const libraries = { "standardwebhooks for Node": Standard, "svix for Node": Svix };
const said = Object.entries(libraries).map(([name, library]) => [name, deliveries.map((one) => believes(library, one))]);
console.log(JSON.stringify(Object.fromEntries(said)));
